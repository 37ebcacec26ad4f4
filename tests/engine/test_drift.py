"""Drift alerts: silence where nothing changes, a word soon after something did. All streams are seeded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixllm_engine import Router, RouterConfig, StateError
from mixllm_engine.learning.drift import DriftTest, DriftTests
from mixllm_engine.prediction.heads import HeadBank
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router

THRESHOLD = 20.0
WATCHING = RouterConfig.model_validate({"exploration": {"pulls": 0}, "learning": {"drift_threshold": THRESHOLD}})


def stream(seed: int, labels: int, *, quality: float = 0.8, halved_at: int | None = None) -> int | None:
    """Teach a head that starts with a wrong prior; return the label at which the first alert stood."""
    rng = np.random.default_rng(seed)
    contexts = np.c_[np.ones(labels), rng.normal(size=(labels, 4)) / 2]
    chances = np.clip(quality + 0.1 * contexts[:, 1], 0, 1)
    if halved_at is not None:
        chances[halved_at:] /= 2
    head = HeadBank(np.array([[0.6, 0.0, 0.0, 0.0, 0.0]]), shrinkage=30.0, strength=2.0)
    test = DriftTest(THRESHOLD)
    for step, (context, label) in enumerate(zip(contexts, (rng.random(labels) < chances).tolist(), strict=True)):
        test.add(label - min(max(float(head.predict(context)[0]), 0.0), 1.0))
        head.update(0, context, label)
        if test.alert():
            return step
    return None


@pytest.mark.parametrize("quality", [0.5, 0.8, 0.95])
def test_stationary_labels_raise_no_alert(quality: float) -> None:
    alerts = [stream(seed, 2000, quality=quality) for seed in range(20)]
    assert sum(alert is not None for alert in alerts) <= 1


@pytest.mark.parametrize("quality", [0.8, 0.95])
def test_a_halved_quality_raises_one_within_150_labels(quality: float) -> None:
    for seed in range(20):
        found = stream(seed, 450, quality=quality, halved_at=300)
        assert found is not None
        assert 300 <= found < 450


def test_the_test_is_two_sided_and_tells_shift_and_beginning() -> None:
    for sign in (-1.0, 1.0):
        test = DriftTest(THRESHOLD)
        for _ in range(100):
            test.add(0.3)
            test.add(-0.3)
        for _ in range(60):
            test.add(sign * 0.5)
        alert = test.alert()
        assert alert is not None
        assert alert["shift"] == pytest.approx(sign * 0.5, abs=0.02)
        assert 60 <= alert["labels"] <= 62


def test_an_alert_goes_away_when_predictions_are_right_again() -> None:
    test = DriftTest(THRESHOLD)
    for _ in range(1000):
        test.add(-0.6)
    assert test.alert() is not None
    for _ in range(2 * int(2 * THRESHOLD)):
        test.add(0.0)
    assert test.alert() is None


def test_who_errs_about_the_unknown_has_not_changed() -> None:
    known, new = DriftTest(THRESHOLD), DriftTest(THRESHOLD)
    for _ in range(60):
        known.add(-0.8, novelty=2.0)
        new.add(-0.8, novelty=6.0)
    assert known.alert() is not None
    assert new.alert() is None


def test_it_goes_on_where_it_stood() -> None:
    rng = np.random.default_rng(0)
    tests = DriftTests(THRESHOLD, {})
    for _ in range(40):
        tests.add("a", float(rng.normal(-0.5, 0.3)))
        tests.add("b", float(rng.normal(0.0, 0.3)))
    again = DriftTests(THRESHOLD, tests.state())
    for one in (tests, again):
        one.add("a", -0.4)
    assert again.alerts(["a", "b"]) == tests.alerts(["a", "b"])
    assert [alert["candidate"] for alert in again.alerts(["a", "b", "never seen"])] == ["a"]
    assert again.alerts(["b"]) == []
    with pytest.raises(StateError, match="drift test"):
        DriftTest.restore(np.zeros(3), THRESHOLD)


def ask(router: Router, candidate: str, labels: int, quality: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for step in range(labels):
        decision = router.decide(f"question {step % 7}", force=candidate)
        router.feedback(decision, float(rng.random() < quality))


def test_stats_name_the_candidate_that_became_worse(tmp_path: Path) -> None:
    router = tiny_router(config=WATCHING)
    ask(router, "dear", 200, 0.9, seed=1)
    ask(router, "cheap", 200, 0.5, seed=2)
    assert router.stats()["alerts"] == []
    ask(router, "dear", 60, 0.45, seed=3)
    (alert,) = router.stats()["alerts"]
    assert alert.keys() == {"candidate", "shift", "labels"}
    assert alert["candidate"] == "dear"
    assert -0.6 < alert["shift"] < -0.2
    assert 40 <= alert["labels"] <= 80
    router.save(tmp_path)
    loaded = Router.load(tmp_path, encoder=HashingEncoder())
    assert loaded.stats()["alerts"] == [alert]
    router.remove_candidate("dear")
    assert router.stats()["alerts"] == []


@pytest.mark.parametrize("kind", ["sum", "verse"])
def test_a_hard_kind_of_queries_is_no_drift_and_worse_answers_to_a_known_one_are(kind: str) -> None:
    router = Router(tiny_pool(), config=WATCHING, seed=0)
    sums = [f"What is {a} times {b} plus {a + b}?" for a in range(20) for b in range(20)]
    router.fit({"prompt": sums, "cheap|quality": [0.9] * 400, "dear|quality": [0.9] * 400}, progress=False)
    for step in range(60):
        verse = f"Write a melancholy poem about {step} rivers, the moon and a lost friend."
        decision = router.decide(sums[5 * step] if kind == "sum" else verse, force="dear")
        router.feedback(decision, 0.0)
    assert [alert["candidate"] for alert in router.stats()["alerts"]] == (["dear"] if kind == "sum" else [])


def test_changed_labels_and_failures_are_no_evidence() -> None:
    router = tiny_router(config=WATCHING)
    decision = router.decide("question", force="dear")
    for step in range(200):
        router.feedback(decision, float(step % 2))
    assert router.stats()["alerts"] == []


def test_it_can_be_off() -> None:
    router = tiny_router(config=RouterConfig.model_validate({"learning": {"drift_threshold": None}}))
    ask(router, "dear", 60, 0.0, seed=0)
    assert router.stats()["alerts"] == []
    assert router._learner.drift is None


def test_an_alert_forgets_what_was_true_before_it_and_nothing_of_the_others() -> None:
    def taught(threshold: float | None) -> Router:
        config = {"exploration": {"pulls": 0}, "learning": {"drift_threshold": threshold}}
        router = tiny_router(config=RouterConfig.model_validate(config))
        texts = [f"question {step}" for step in range(300)]
        router.fit({"prompt": texts, "cheap|quality": [0.6] * 300, "dear|quality": [0.9] * 300}, progress=False)
        return router

    watching, heedless = taught(THRESHOLD), taught(None)
    for router in (watching, heedless):
        ask(router, "dear", 100, 0.45, seed=0)
    qualities = [router.predict(["question 1"]).quality[0] for router in (watching, heedless)]
    cheap, dear = (watching.candidates[0].name, watching.candidates[1].name)
    assert (cheap, dear) == ("cheap", "dear")
    assert qualities[0][1] < 0.6 < qualities[1][1]  # the alert lets the router follow at once
    assert qualities[0][0] == qualities[1][0]
    assert watching.decide("question 1", willingness_to_pay=1e6).candidate == "cheap"
    assert heedless.decide("question 1", willingness_to_pay=1e6).candidate == "dear"


def test_with_the_policy_gradient_it_watches_the_offline_fit() -> None:
    config = WATCHING.model_copy(
        update={"learning": WATCHING.learning.model_copy(update={"binary": "policy_gradient"})}
    )
    router = tiny_router(config=config)
    texts = [f"question {step}" for step in range(40)]
    router.fit({"prompt": texts, "cheap|quality": [0.5] * 40, "dear|quality": [0.9] * 40}, progress=False)
    ask(router, "dear", 80, 0.3, seed=0)
    assert [alert["candidate"] for alert in router.stats()["alerts"]] == ["dear"]
