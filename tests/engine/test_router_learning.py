"""What a router learns, without any LLM: from feedback and outcomes, by exploring, and while candidates come and go."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mixllm_engine import Candidate, Outcome, RouterConfig, UnknownCandidateError
from mixllm_engine.testing import FakeClock, tiny_router
from tests.engine.topics import QUIET, TOPICS, teach


def test_feedback_changes_stored_numbers_and_later_choices() -> None:
    router = tiny_router()
    before = router.predict(list(TOPICS.values()))
    made = teach(router, 120, {"poem": "dear", "sum": "cheap"}, willingness_to_pay=50.0)
    after = router.predict(list(TOPICS.values()))
    last = made[-40:]
    assert sum(candidate == {"poem": "dear", "sum": "cheap"}[topic] for topic, candidate in last) >= 36
    cheap, dear = after.candidates.index("cheap"), after.candidates.index("dear")
    assert after.quality[0, dear] > before.quality[0, dear] > 0
    assert after.quality[0, dear] > after.quality[0, cheap]
    assert after.quality[1, cheap] > after.quality[1, dear]
    stats = router.stats()
    assert stats["feedback_applied"] == stats["decisions"] == 120
    assert sum(values["labels"] for values in stats["candidates"].values()) == 120


def test_exploration_is_bounded_logged_with_propensities_and_ends() -> None:
    router = tiny_router()
    decisions = [router.decide(f"query {step}") for step in range(600)]
    drawn = Counter(decision.candidate for decision in decisions if decision.explored)
    pulls = RouterConfig.default().exploration.pulls
    assert drawn == {"cheap": pulls, "dear": pulls}  # without any feedback it ends all the same
    assert all(decision.propensity == 1.0 for decision in decisions[-50:])
    assert {round(d.propensity, 3) for d in decisions if d.explored} <= {0.1, 0.2, 0.9, 1.0}


def test_several_keys_are_averaged_and_a_key_replaces_its_own_value() -> None:
    router = tiny_router()
    decision = router.decide("hello")
    assert router.feedback(decision, 1.0).status == "applied"
    assert router.feedback(f"mixllm-{decision.decision_id}", 1.0).status == "duplicate"
    assert router.feedback(decision, 0.0, key="judge").status == "applied"
    mean = router.stats()["candidates"][decision.candidate]
    assert (mean["labels"], mean["mean_reward"]) == (1.0, 0.5)
    assert router.feedback(decision, 0.0).status == "replaced"
    assert router.stats()["candidates"][decision.candidate]["mean_reward"] == 0.0


def test_outcomes_teach_length_and_cost() -> None:
    router = tiny_router(config=QUIET)
    before = router.predict(["tell me a story"])
    for step in range(40):
        decision = router.decide(f"tell me a story {step}", force="cheap")
        router.observe(
            decision.decision_id,
            Outcome(candidate="cheap", latency_s=20.0, prompt_tokens=10, response_tokens=2000),
        )
    after = router.predict(["tell me a story"])
    assert after.response_tokens[0, 0] > 3 * before.response_tokens[0, 0]
    assert after.cost_usd[0, 0] > 3 * before.cost_usd[0, 0]
    assert after.response_tokens[0, 1] == before.response_tokens[0, 1]
    recorded = router.explain(decision.decision_id).outcomes[0]
    assert recorded.cost_usd == pytest.approx((10 * 0.1 + 2000 * 0.4) / 1e6)


def test_a_failure_is_availability_and_never_quality() -> None:
    clock = FakeClock()
    router = tiny_router(config=QUIET, clock=clock)
    before = router.predict(["hello"]).quality
    decision = router.decide("hello", willingness_to_pay=0.0)
    router.observe(decision.decision_id, Outcome(candidate="cheap", error="rate_limit"))
    assert np.array_equal(router.predict(["hello"]).quality, before)
    paused = router.decide("hello", willingness_to_pay=0.0)
    assert paused.candidate == "dear"
    assert paused.scores["cheap"].reason.startswith("paused for 30 s after rate_limit")
    clock.advance(31.0)
    assert router.decide("hello", willingness_to_pay=0.0).candidate == "cheap"


def test_a_providers_message_is_not_kept() -> None:
    outcome = Outcome(candidate="cheap", error="429: your prompt 'my secret' is too much")  # type: ignore[arg-type]
    assert outcome.error == "other"


def test_adding_and_removing_leaves_everybody_else_bit_by_bit_as_they_were() -> None:
    router = tiny_router()
    teach(router, 40, {"poem": "dear", "sum": "cheap"})
    for step in range(5):
        decision = router.decide(f"more {step}", force="cheap")
        router.observe(decision.decision_id, Outcome(candidate="cheap", response_tokens=50 + step))
    texts = [*TOPICS.values(), "something new"]
    before = router.predict(texts)
    router.add_candidate(
        Candidate(name="middle", model="openai/middle", input_usd_per_mtok=0.5, output_usd_per_mtok=1.0), like="dear"
    )
    with_middle = router.predict(texts)
    assert with_middle.candidates == ("cheap", "dear", "middle")
    for field in ("quality", "cost_usd", "response_tokens", "uncertainty"):
        assert np.array_equal(getattr(with_middle, field)[:, :2], getattr(before, field))
    assert np.allclose(with_middle.quality[:, 2], before.quality[:, 1])
    decision = router.decide("hello", force="middle")
    router.feedback(decision, 0.0)
    taught = router.predict(texts).quality[:, 2]
    router.remove_candidate("middle")
    assert np.array_equal(router.predict(texts).quality, before.quality)
    router.add_candidate(
        Candidate(name="middle", model="openai/middle", input_usd_per_mtok=0.5, output_usd_per_mtok=1.0), like="dear"
    )
    assert np.allclose(router.predict(texts).quality[:, 2], taught)  # it comes back with its memory


def test_an_outcome_and_feedback_may_come_after_the_candidate_was_removed() -> None:
    router = tiny_router()
    decision = router.decide("hello", force="dear")
    router.remove_candidate("dear")
    router.observe(decision.decision_id, Outcome(candidate="dear", prompt_tokens=3, response_tokens=4))
    assert router.feedback(decision, 1.0).candidate == "dear"
    assert router.stats()["candidates"].keys() == {"cheap"}
    with pytest.raises(UnknownCandidateError, match="unknown candidate 'nobody'"):
        router.observe(decision.decision_id, Outcome(candidate="nobody", prompt_tokens=3, response_tokens=4))
