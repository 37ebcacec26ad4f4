"""Geometric forgetting: older labels weigh less, the prior does not, and the inverse stays an inverse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from mixllm_engine import Router, RouterConfig
from mixllm_engine.prediction.heads import HeadBank, HeadStatistics
from mixllm_engine.testing import HashingEncoder, tiny_router

D = 4
CONTEXTS = arrays(np.float64, (D,), elements=st.floats(-1, 1)).map(lambda x: np.concatenate([[1.0], x[1:]]))
OBSERVATIONS = st.lists(st.tuples(st.integers(0, 1), CONTEXTS, st.floats(0, 1)), max_size=30)


def bank() -> HeadBank:
    return HeadBank([[0.4, 0, 0, 0], [0.7, 0, 0, 0]], shrinkage=3.0, strength=0.5)


def forgetting(share: float) -> RouterConfig:
    return RouterConfig.model_validate(
        {"exploration": {"pulls": 0}, "learning": {"forgetting": share, "drift_threshold": None}}
    )


@settings(max_examples=60, deadline=None)
@given(OBSERVATIONS, st.floats(0.01, 1.0))
def test_precision_times_inverse_is_one_after_any_updates(
    observations: list[tuple[int, np.ndarray, float]], keep: float
) -> None:
    heads = bank()
    for position, context, target in observations:
        heads.update(position, context, target, keep=keep)
    for position in (0, 1):
        assert np.allclose(heads.precision[position] @ heads.inverse[position], np.eye(D), atol=1e-9)
    heads.check()


def test_an_observation_weighs_less_with_each_later_one_of_its_candidate_and_the_prior_does_not() -> None:
    rng = np.random.default_rng(0)
    contexts, targets = np.c_[np.ones(40), rng.normal(size=(40, D - 1))], rng.random(40)
    heads, keep = bank(), 0.9
    for context, target in zip(contexts, targets, strict=True):
        heads.update(0, context, target, keep=keep)
        heads.update(1, context, 0.5)  # the other candidate forgets nothing
    weight = keep ** np.arange(40)[::-1]
    prior, mean = np.diag([0.5, 3.0, 3.0, 3.0]), np.array([0.4, 0, 0, 0])
    gram = contexts.T @ (weight[:, None] * contexts)
    expected = np.linalg.solve(prior + gram, prior @ mean + contexts.T @ (weight * targets))
    assert np.allclose(heads.precision[0], prior + gram)
    assert np.allclose(heads.weights[0], expected)
    assert heads.count.tolist() == [40.0, 40.0]
    assert heads.weight(0) == pytest.approx(weight.sum())
    assert heads.square[0] == pytest.approx(weight @ targets**2)
    lighter = HeadStatistics.of(contexts, targets).weighted(0.5)
    assert lighter.count == 40.0
    assert lighter.square == pytest.approx(0.5 * float(targets @ targets))


def test_without_forgetting_the_update_is_bit_by_bit_what_it_was() -> None:
    plain, kept = bank(), bank()
    for context in np.c_[np.ones(20), np.random.default_rng(0).normal(size=(20, D - 1))]:
        plain.update(0, context, 0.3)
        kept.update(0, context, 0.3, keep=1.0, weight=1.0)
    assert plain.inverse.tobytes() == kept.inverse.tobytes()
    assert plain.weights.tobytes() == kept.weights.tobytes()


def test_a_router_that_forgets_follows_a_candidate_that_became_worse() -> None:
    expected = {}
    for share in (1.0, 0.95):
        router = tiny_router(config=forgetting(share))
        for step in range(150):
            router.feedback(router.decide(f"question {step}", force="dear"), float(step < 100))
        expected[share] = router.predict(["question 150"]).quality[0, 1]
        stats = router.stats()["candidates"]["dear"]
        assert stats["labels"] == 150.0  # labels that weigh less are labels still
    assert expected[0.95] < 0.25 < 0.55 < expected[1.0]


def test_all_that_read_one_log_in_its_order_hold_the_same_numbers(tmp_path: Path) -> None:
    config, texts = forgetting(0.9), ["question 3", "else"]
    with tiny_router(config=config, store=tmp_path / "log.db") as one:
        for step in range(20):
            one.feedback(one.decide(f"question {step}"), float(step % 3 == 0))
        with tiny_router(config=config, store=tmp_path / "log.db") as two:
            assert two.sync() == 20
            assert np.allclose(one.predict(texts).quality, two.predict(texts).quality, atol=1e-12)
        one.save(tmp_path / "state")
        loaded = Router.load(tmp_path / "state", encoder=HashingEncoder(), store=tmp_path / "log.db")
        assert np.allclose(one.predict(texts).quality, loaded.predict(texts).quality, atol=1e-12)


def test_a_removed_candidate_forgets_too_when_late_feedback_comes() -> None:
    router, stayed = tiny_router(config=forgetting(0.5)), tiny_router(config=forgetting(0.5))
    for one in (router, stayed):
        decisions = [one.decide(f"question {step}", force="dear") for step in range(6)]
        for decision in decisions[:3]:
            one.feedback(decision, 1.0)
        pool = {candidate.name: candidate for candidate in one.candidates}
        if one is router:
            one.remove_candidate("dear")
        for decision in decisions[3:]:
            one.feedback(decision, 0.0)
        if one is router:
            one.add_candidate(pool["dear"])
    assert np.allclose(router.predict(["question"]).quality, stayed.predict(["question"]).quality, atol=1e-12)
    assert router.stats()["candidates"]["dear"]["labels"] == 6


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValidationError, match="forgetting"):
        forgetting(share)
