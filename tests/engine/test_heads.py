"""The closed-form heads: algebra that must hold after any history of observations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mixllm_engine import StateError
from mixllm_engine.prediction.heads import HeadBank, HeadStatistics

D = 4
CONTEXTS = arrays(np.float64, (D,), elements=st.floats(-1, 1)).map(lambda x: np.concatenate([[1.0], x[1:]]))
OBSERVATIONS = st.lists(st.tuples(st.integers(0, 1), CONTEXTS, st.floats(0, 1)), max_size=30)


def bank(shrinkage: float = 3.0, strength: float = 0.5) -> HeadBank:
    return HeadBank([[0.4, 0, 0, 0], [0.7, 0, 0, 0]], shrinkage=shrinkage, strength=strength)


@settings(max_examples=60, deadline=None)
@given(OBSERVATIONS)
def test_precision_times_inverse_is_one_after_any_updates(observations: list[tuple[int, np.ndarray, float]]) -> None:
    heads = bank()
    for position, context, target in observations:
        heads.update(position, context, target)
    for position in (0, 1):
        assert np.allclose(heads.precision[position] @ heads.inverse[position], np.eye(D), atol=1e-9)
    heads.check()


@settings(max_examples=40, deadline=None)
@given(OBSERVATIONS, st.randoms(use_true_random=False))
def test_order_batches_and_merges_do_not_matter(
    observations: list[tuple[int, np.ndarray, float]], random: object
) -> None:
    one_by_one, shuffled, merged = bank(), bank(), bank()
    for position, context, target in observations:
        one_by_one.update(position, context, target)
    again = list(observations)
    random.shuffle(again)  # type: ignore[attr-defined]
    for position, context, target in again:
        shuffled.update(position, context, target)
    for position in (0, 1):  # two workers, merged by adding their sums
        mine = [(c, t) for p, c, t in observations if p == position]
        half = len(mine) // 2
        for part in (mine[:half], mine[half:]):
            if part:
                merged.add(position, HeadStatistics.of(np.array([c for c, _ in part]), np.array([t for _, t in part])))
    for other in (shuffled, merged):
        assert np.allclose(other.weights, one_by_one.weights, atol=1e-9)
        assert np.allclose(other.inverse, one_by_one.inverse, atol=1e-9)
        assert np.allclose(other.residual_variance(0.5, 10), one_by_one.residual_variance(0.5, 10), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(CONTEXTS, st.floats(0.1, 3.0)), min_size=1, max_size=20), CONTEXTS)
def test_novelty_is_the_leverage_beside_that_of_the_own_observations(
    observations: list[tuple[np.ndarray, float]], context: np.ndarray
) -> None:
    heads = bank()
    assert heads.novelty(0, context) == 1.0  # nothing was observed, so nothing is new
    for observed, weight in observations:
        heads.update(0, observed, 0.5, weight=weight)
    inverse = np.linalg.inv(heads.precision[0])
    usual = np.average([x @ inverse @ x for x, _ in observations], weights=[weight for _, weight in observations])
    assert heads.novelty(0, context) == pytest.approx(context @ inverse @ context / usual)
    assert heads.novelty(1, context) == 1.0


def test_what_was_never_seen_is_new() -> None:
    heads, rng = bank(), np.random.default_rng(0)
    for _ in range(100):
        heads.update(0, np.array([1.0, 1.0 + 0.1 * rng.normal(), 0.0, 0.0]), 0.5)
    assert heads.novelty(0, np.array([1.0, 1.0, 0.0, 0.0])) == pytest.approx(0.8, abs=0.2)
    assert heads.novelty(0, np.array([1.0, 0.0, 1.0, 0.0])) > 10.0


def test_weights_are_the_ridge_solution_towards_the_prior_mean() -> None:
    rng = np.random.default_rng(0)
    contexts, targets = np.c_[np.ones(50), rng.normal(size=(50, D - 1))], rng.random(50)
    heads = bank(shrinkage=3.0, strength=0.5)
    heads.add(0, HeadStatistics.of(contexts, targets))
    prior, mean = np.diag([0.5, 3.0, 3.0, 3.0]), np.array([0.4, 0, 0, 0])
    expected = np.linalg.solve(prior + contexts.T @ contexts, prior @ mean + contexts.T @ targets)
    assert np.allclose(heads.weights[0], expected)
    residual = targets - contexts @ expected
    assert heads.residual_variance(0.5, 10.0)[0] == pytest.approx((residual @ residual + 5.0) / 60.0)
    assert heads.residual_variance(0.5, 10.0, 1)[0] == pytest.approx(0.5)
    assert heads.labels() == [(50.0, pytest.approx(targets.mean())), (0.0, None)]


def test_a_relabelled_observation_equals_one_with_the_new_label() -> None:
    context = np.array([1.0, 0.2, -0.3, 0.5])
    changed, direct = bank(), bank()
    changed.update(0, context, 0.0)
    changed.relabel(0, context, 0.0, 1.0)
    direct.update(0, context, 1.0)
    assert np.allclose(changed.weights, direct.weights)
    assert changed.square[0] == direct.square[0]
    assert changed.count[0] == 1.0


def test_an_observation_that_gains_weight_equals_one_that_had_it() -> None:
    context = np.array([1.0, 0.2, -0.3, 0.5])
    grown, direct = bank(), bank()
    grown.update(0, context, 0.5, weight=0.25)
    grown.relabel(0, context, 0.5, 0.8, weight=0.25, new_weight=0.75)
    direct.update(0, context, 0.8, weight=0.75)
    assert np.allclose(grown.weights, direct.weights)
    assert np.allclose(grown.inverse, direct.inverse)
    assert grown.square[0] == pytest.approx(direct.square[0])
    assert grown.count[0] == 1.0


def test_a_head_that_never_saw_anything_predicts_its_prior_with_the_prior_width() -> None:
    heads = bank(strength=0.5, shrinkage=3.0)
    assert heads.predict(np.array([1.0, 0, 0, 0])).tolist() == [0.4, 0.7]
    assert heads.leverage(np.array([1.0, 1.0, 0, 0])) == pytest.approx([1 / 0.5 + 1 / 3.0] * 2)


@settings(max_examples=30, deadline=None)
@given(OBSERVATIONS, CONTEXTS)
def test_uncertainty_never_grows_with_an_observation(
    observations: list[tuple[int, np.ndarray, float]], probe: np.ndarray
) -> None:
    heads = bank()
    before = heads.leverage(probe)
    for position, context, target in observations:
        heads.update(position, context, target)
        after = heads.leverage(probe)
        assert (after <= before + 1e-12).all()
        before = after


def test_thousands_of_updates_stay_exact() -> None:
    rng = np.random.default_rng(1)
    heads = bank(shrinkage=1e-3, strength=1e-3)
    for _ in range(3000):
        heads.update(0, np.concatenate([[1.0], rng.normal(size=D - 1)]), rng.random())
    assert np.allclose(heads.precision[0] @ heads.inverse[0], np.eye(D), atol=1e-10)


def test_damaged_numbers_are_found() -> None:
    heads = bank()
    heads.moment[0, 0] = np.nan
    with pytest.raises(StateError, match="not finite"):
        heads.check()
    heads = bank()
    heads.gram[0] -= 100 * np.eye(D)
    with pytest.raises(StateError, match="not positive definite"):
        heads.check()


def test_imitation_copies_the_expectation_of_a_sibling_and_then_goes_its_own_way() -> None:
    heads = bank()
    context = np.array([1.0, 0.5, 0.5, 0.0])
    for _ in range(20):
        heads.update(0, context, 1.0)
    heads.set_prior(1, heads.weights[0])
    assert np.allclose(heads.weights[1], heads.weights[0])
    heads.update(1, context, 0.0)
    assert heads.predict(context)[1] < heads.predict(context)[0]


@given(st.lists(st.tuples(CONTEXTS, st.floats(0, 1), st.floats(0.05, 3.0)), max_size=20))
def test_a_weight_is_a_number_of_equal_observations_that_count_once(
    observations: list[tuple[np.ndarray, float, float]],
) -> None:
    heads, sums = bank(), HeadStatistics.empty(D)
    for context, target, weight in observations:
        heads.update(0, context, target, weight=weight)
        sums = sums + HeadStatistics.of(context[None, :], np.array([target])).weighted(weight)
    folded = bank()
    folded.add(0, sums)
    assert np.allclose(heads.weights, folded.weights, atol=1e-9)
    assert heads.count[0] == folded.count[0] == len(observations)
    assert np.isclose(heads.weight(0), sum(weight for _, _, weight in observations))


def test_a_typical_prior_has_the_newcomers_level_and_the_others_shape() -> None:
    heads = HeadBank(np.array([[0.4, 0, 0, 0], [0.7, 0, 0, 0], [0.6, 0, 0, 0]]), shrinkage=1e-3, strength=1e-3)
    rng = np.random.default_rng(0)
    contexts = np.c_[np.ones(200), rng.normal(1.0, 1.0, size=(200, 3))]
    for position, level in ((0, 0.2), (1, 0.5)):
        heads.add(position, HeadStatistics.of(contexts, level + contexts[:, 1:] @ [0.1, 0.0, -0.1]))
    prior = heads.typical_prior(2)
    assert np.allclose(prior[1:], [0.1, 0.0, -0.1], atol=1e-3)
    assert np.isclose(contexts.mean(axis=0) @ prior, 0.6)
    assert np.array_equal(heads.prior_means[2], [0.6, 0, 0, 0])
    nobody = HeadBank(np.array([[0.4, 0.0]]), shrinkage=1.0, strength=1.0)
    assert np.array_equal(nobody.typical_prior(0), [0.4, 0.0])
