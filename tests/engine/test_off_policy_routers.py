"""Off-policy estimates from the log of a router: against known outcomes, from both stores, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixllm_engine import ConfigError, Outcome, Query, Router, RouterConfig, StateError, TableError
from mixllm_engine.encoding.surface import surface
from mixllm_engine.evaluation.judged import LeftOut, read_judged
from mixllm_engine.evaluation.off_policy import OffPolicyEstimate, estimate
from mixllm_engine.evaluation.policies import always, cost_unit_usd, frozen, probabilities, rescored
from mixllm_engine.store import open_store
from mixllm_engine.store.base import Store
from mixllm_engine.store.memory import MemoryStore
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router
from tests.engine.simulated_logs import KINDS
from tests.engine.topics import TOPICS

EXPLORING = RouterConfig.model_validate(
    {"exploration": {"mode": "thompson", "thompson_scale": 1.0, "rate": 0.5, "pulls": 10**6}}
)
# true chance of a good answer, and its cost
GOOD = {("poem", "cheap"): 0.3, ("poem", "dear"): 0.9, ("sum", "cheap"): 0.8, ("sum", "dear"): 0.4}
COST = {"cheap": 0.001, "dear": 0.02}


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(None if request.param == "memory" else tmp_path / "log.db")
    yield opened
    opened.close()


def served(seed: int, rounds: int) -> Router:
    """Return a router that has served queries of two topics and was told how good the answers were."""
    router = tiny_router(config=EXPLORING, seed=seed)
    rng = np.random.default_rng(seed)
    for step in range(rounds):
        topic = str(rng.choice(list(TOPICS)))
        decision = router.decide(f"{TOPICS[topic]} {step % 7}", willingness_to_pay=10.0)
        cost = COST[decision.candidate]
        router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=50, cost_usd=cost))
        router.feedback(decision, float(rng.random() < GOOD[topic, decision.candidate]))
    return router


def taught() -> Router:
    """Return a router that learned from a table which of the two answers what."""
    table: dict[str, list[Any]] = {"prompt": [f"{text} {n}" for text in TOPICS.values() for n in range(60)]}
    for name in COST:
        table[f"{name}|quality"] = [GOOD[topic, name] for topic in TOPICS for _ in range(60)]
        table[f"{name}|cost_usd"] = [COST[name]] * 120
        table[f"{name}|response_tokens"] = [50] * 120
    router = tiny_router()
    router.fit(table, progress=False)
    return router


def test_a_router_is_judged_from_the_log_of_another() -> None:
    policy = frozen(taught(), willingness_to_pay=10.0)  # a poem to the dear one, a sum to the cheap one
    truths = {"reward": (0.9 + 0.8) / 2, "cost_usd": (0.001 + 0.02) / 2}
    covered = {(name, kind): 0 for name in truths for kind in KINDS}
    for seed in range(12):
        found = estimate(served(seed, 300), policy)
        assert found.unsupported == 0.0
        assert found.left_out == LeftOut()
        for name, kind in covered:
            one = getattr(getattr(found, name), kind)
            covered[name, kind] += one.low <= truths[name] <= one.high
    assert min(covered.values()) >= 9, covered  # 9 or more of 12 at 95 %: all but once in 500


def test_both_stores_tell_the_same(store: Store) -> None:
    with Router(tiny_pool(), store=store, encoder=HashingEncoder(), seed=0, config=EXPLORING) as router:
        for step in range(20):
            decision = router.decide(f"question {step}", deny=["dear"] if step == 3 else ())
            router.feedback(decision, 0.0, key="user")
            router.feedback(decision, 1.0, key="judge")
            router.observe(decision.decision_id, Outcome(candidate=decision.candidate, cost_usd=0.5 + step))
        log = read_judged(store)
        assert log.candidates == ("cheap", "dear")
        assert log.reward.tolist() == [0.5] * 20
        assert log.cost_usd.tolist() == [0.5 + step for step in range(20)]
        assert log.eligible.all(axis=1).sum() == 19
        expected = np.append(HashingEncoder().encode(["question 4"])[0], surface("question 4"))
        assert np.array_equal(log.embeddings[4], expected.astype(np.float16))
        estimates = [estimate(source, always("dear")) for source in (log, store, router)]
        assert {type(one) for one in estimates} == {OffPolicyEstimate}
        assert estimates[0] == estimates[1] == estimates[2]


def test_only_free_choices_that_were_judged_count(store: Store) -> None:
    with Router(tiny_pool(), store=store, encoder=HashingEncoder(), seed=0, config=EXPLORING) as router:
        plain = [router.decide(f"question {step}", session="s") for step in range(6)]
        for decision in plain[:4]:
            router.feedback(decision, 1.0)
        router.feedback(router.decide("this one", force="dear"), 1.0)
        router.feedback(router.decide(Query(text="go on", in_tool_loop=True), session="s"), 0.0)
        failed = plain[4]
        router.observe(failed.decision_id, Outcome(candidate=failed.ranking[0], error="timeout"))
        router.observe(failed.decision_id, Outcome(candidate=failed.ranking[1]))
        router.feedback(failed, 0.0)
        log = read_judged(store)
    assert len(log) == 4
    assert log.left_out == LeftOut(without_feedback=1, not_chosen=2, fell_back=1)
    with Router(tiny_pool(), store=store, encoder=HashingEncoder(32), config=EXPLORING) as other:
        other.feedback(other.decide("another space"), 1.0)
        assert read_judged(store).left_out.other_encoder == 1
        with pytest.raises(
            StateError, match=r"by 'hashing-64\+surface', this router's encoder is 'hashing-32\+surface'"
        ):
            estimate(other, frozen(other))


def test_an_empty_log_says_what_it_holds(store: Store) -> None:
    with Router(tiny_pool(), store=store, encoder=HashingEncoder()) as router:
        router.decide("nobody judges this")
        router.feedback(router.decide("forced", force="dear"), 1.0)
        with pytest.raises(
            TableError, match="0 decisions to estimate from, at least 2 .* 1 without feedback, 1 not ch"
        ):
            estimate(store, always("dear"))


def test_decisions_that_memory_has_let_go_of_are_counted() -> None:
    router = tiny_router(store=MemoryStore(capacity=5))
    for step in range(8):
        decision = router.decide(f"question {step}")
        for key in ("user", "judge")[: 1 + (step > 6)]:
            router.feedback(decision, 1.0, key=key)
    log = read_judged(router._store)
    assert (len(log), log.left_out) == (4, LeftOut(without_feedback=4))


def test_a_policy_that_learned_from_the_log_is_told_so() -> None:
    router = served(0, 40)
    (warning,) = [text for text in estimate(router, frozen(router)).warnings if "own exercises" in text]
    assert "flatter" in warning
    assert not [text for text in estimate(router, frozen(taught())).warnings if "own exercises" in text]


def test_a_frozen_policy_stays_as_it_was_and_takes_other_settings() -> None:
    log, router = read_judged(served(1, 60)._store), taught()
    policy = frozen(router, willingness_to_pay=10.0)
    before = policy(log)
    assert set(before) == {"cheap", "dear"}
    for step in range(60):
        router.feedback(router.decide(f"{TOPICS['poem']} {step}", force="dear"), 0.0)
    assert policy(log) == before
    assert frozen(router, willingness_to_pay=10.0)(log) != before
    assert set(frozen(router, budget="very_low")(log)) == {"cheap"}
    assert set(frozen(taught(), willingness_to_pay=0.0)(log)) == {"cheap"}
    assert frozen(taught())(log) == before  # each row keeps its own lambda, and that was 10
    paper = RouterConfig.paper()
    assert set(frozen(taught(), config=paper, willingness_to_pay=0.0)(log)) == {"cheap"}
    assert set(frozen(taught(), config=EXPLORING, willingness_to_pay=10.0)(log)) == {"cheap", "dear"}
    with pytest.raises(ConfigError, match="not both"):
        frozen(router, budget="low", willingness_to_pay=1.0)
    with pytest.raises(ConfigError, match="the router's features"):
        frozen(router, config=RouterConfig.model_validate({"features": {"components": 3}}))


def test_a_frozen_policy_leaves_out_who_was_left_out() -> None:
    router = tiny_router(config=EXPLORING)
    for step in range(10):
        deny = ["dear"] if step < 5 else ()
        router.feedback(router.decide(f"{TOPICS['poem']} {step}", deny=deny), 1.0)
    log = read_judged(router._store)
    assert frozen(taught(), willingness_to_pay=np.inf)(log) == ["cheap"] * 5 + ["dear"] * 5
    alone = tiny_router(names=("dear",))
    assert frozen(alone)(log) == ["dear"] * 10  # nobody else is there
    assert estimate(log, frozen(alone)).unsupported == 0.5
    known = probabilities(always("cheap"), log)
    assert known.tolist() == [[1.0, 0.0]] * 10


def test_a_log_can_be_scored_anew_at_another_lambda(store: Store) -> None:
    config = RouterConfig.model_validate({"exploration": {"mode": "none", "rate": 0.0}})
    with Router(tiny_pool(), store=store, encoder=HashingEncoder(), seed=0, config=config) as router:
        for step in range(12):
            deny = ["dear"] if step == 3 else ()
            decision = router.decide(f"question {step}", deny=deny, willingness_to_pay=0.01 * 4**step)
            router.feedback(decision, 0.0 if decision.candidate == "cheap" else 1.0)
        unit = router._learner.reference_cost_usd
        log = read_judged(store)
        others = {step: rescored(0.01 * 4**step)(log) for step in range(12)}
        alone = router.decide("question 0", deny=["dear"], willingness_to_pay=1e6)
    assert log.cost_unit_usd == pytest.approx(unit, rel=1e-6)
    assert cost_unit_usd(log) == pytest.approx(unit, rel=1e-6)
    made = [log.candidates[column] for column in log.chosen]
    assert [others[step][step] for step in range(12)] == made
    assert set(made) == {"cheap", "dear"}
    assert rescored(0.0)(log) == ["cheap"] * 12
    assert rescored(math.inf)(log)[3] == alone.candidate == "cheap"  # the other one was left out
    with pytest.raises(ConfigError, match="must be finite and at least 0"):
        rescored(-1.0)
