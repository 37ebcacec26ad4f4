"""Whom a router chooses, without any LLM: by price, budget, queue and session, and how it explains it."""

from __future__ import annotations

import dataclasses
import math

import pytest

from mixllm_engine import Candidate, Outcome, Query, Router, RouterConfig, UnknownDecisionError, track_decisions
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router
from tests.engine.topics import QUIET, teach


def test_a_decision_says_everything() -> None:
    decision = tiny_router(seed=3).decide("hello world")
    assert len(decision.decision_id) == 32
    assert decision.candidate == decision.ranking[0]
    assert sorted(decision.ranking) == ["cheap", "dear"]
    assert 0 < decision.propensity <= 1
    score = decision.scores["dear"]
    config = RouterConfig.default().decision
    parts = score.trade + config.uncertainty_weight * score.uncertainty - config.penalty_weight * score.penalty
    assert score.total == pytest.approx(parts)
    assert score.cost_usd > decision.scores["cheap"].cost_usd
    with pytest.raises(KeyError):
        decision.scores["nobody"]


def test_cold_start_follows_price_and_budget() -> None:
    router = tiny_router(config=QUIET)
    assert router.decide("x", budget="very_low").candidate == "cheap"
    assert router.decide("x", budget="very_high").candidate == "dear"
    assert router.decide("x", willingness_to_pay=0.0).candidate == "cheap"
    assert router.decide("x", willingness_to_pay=math.inf).candidate == "dear"


def test_when_all_are_paused_somebody_is_tried_all_the_same() -> None:
    router = tiny_router(config=QUIET)
    decision = router.decide("hello")
    for name in ("cheap", "dear"):
        router.observe(decision.decision_id, Outcome(candidate=name, error="unavailable"))
    assert len(router.decide("hello").ranking) == 2


def test_waiting_spreads_a_burst() -> None:
    config = RouterConfig.model_validate({"exploration": {"rate": 0.0}, "waiting": {"concurrency": 1}})
    router = tiny_router(config=config)
    chosen = []
    for step in range(12):
        decision = router.decide(f"burst {step}", willingness_to_pay=2.0, max_wait_s=20.0)
        router.dispatched(decision.decision_id, decision.candidate)
        chosen.append(decision.candidate)
    assert chosen[0] == "cheap"
    assert set(chosen) == {"cheap", "dear"}
    assert router.stats()["candidates"]["cheap"]["in_flight"] == chosen.count("cheap")


def test_a_tool_loop_keeps_its_candidate_and_explores_nothing() -> None:
    router = tiny_router()
    first = router.decide("book a flight", session="s", force="dear")
    for step in range(30):
        query = Query(text=f"book a flight {step}", in_tool_loop=True)
        decision = router.decide(query, session="s", willingness_to_pay=0.0)
        assert (decision.candidate, decision.reason, decision.explored) == (first.candidate, "tool loop", False)
    assert router.decide("new topic", session="s", willingness_to_pay=0.0, deny=["dear"]).candidate == "cheap"


def test_staying_with_a_session_is_cheaper_where_its_prefix_is_cached() -> None:
    pool = [dataclasses.replace(c, cached_input_usd_per_mtok=0.1 * (c.input_usd_per_mtok or 0)) for c in tiny_pool()]
    router = Router(pool, encoder=HashingEncoder(), config=QUIET)
    long = Query(text="go on", prompt_tokens=3000)
    fresh = router.decide(long).scores["dear"].cost_usd
    router.decide(long, session="s", force="dear")
    assert router.decide(long, session="s").scores["dear"].cost_usd < fresh - 0.8 * 3000 * 2e-6


def test_the_same_seed_makes_the_same_choices_in_any_order_of_candidates() -> None:
    def run(pool: list[Candidate]) -> list[str]:
        router = Router(pool, encoder=HashingEncoder(), seed=7)
        return [candidate for _, candidate in teach(router, 60, {"poem": "dear", "sum": "cheap"})]

    assert run(tiny_pool()) == run(tiny_pool()[::-1])


def test_tracking_collects_nested_decisions() -> None:
    router = tiny_router()
    with track_decisions() as outer:
        first = router.decide("one")
        with track_decisions() as inner:
            second = router.decide("two")
    router.decide("three")
    assert outer.decision_ids == [first.decision_id, second.decision_id]
    assert inner.decision_ids == [second.decision_id]


def test_an_explanation_adds_up_and_names_what_was_excluded() -> None:
    router = tiny_router(config=QUIET)
    decision = router.decide(Query(text="look", prompt_tokens=5000))
    text = str(router.explain(decision.decision_id))
    assert "dear has the best score" in text
    assert "context window of 4096 tokens is less than the 5000 needed" in text
    with pytest.raises(UnknownDecisionError, match="no decision 'x'"):
        router.explain("x")
