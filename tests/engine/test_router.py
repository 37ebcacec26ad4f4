"""The router end to end, without any LLM: choices, learning, exploration, saving, bad input."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixllm_engine import (
    Candidate,
    CandidateError,
    ConfigError,
    ContextWindowError,
    FeedbackError,
    NoEligibleCandidateError,
    Outcome,
    Query,
    QueryError,
    Router,
    RouterConfig,
    StateError,
    UnknownCandidateError,
    UnknownDecisionError,
    track_decisions,
)
from mixllm_engine.testing import FakeClock, HashingEncoder, tiny_pool, tiny_router

TOPICS = {"poem": "write a poem about the sea and the wind", "sum": "add these numbers and give the total"}
QUIET = RouterConfig.model_validate({"exploration": {"rate": 0.0, "pulls": 0}})


def teach(router: Router, rounds: int, good: dict[str, str], **terms: Any) -> list[tuple[str, str]]:
    """Ask about two topics in turn; reward 1 for the candidate that is good at the topic, else 0."""
    made = []
    for step in range(rounds):
        topic = list(TOPICS)[step % 2]
        decision = router.decide(f"{TOPICS[topic]} {step}", **terms)
        router.feedback(decision, float(decision.candidate == good[topic]))
        made.append((topic, decision.candidate))
    return made


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


def test_draws_are_remembered_across_a_restart(tmp_path: Path) -> None:
    with tiny_router(store=tmp_path / "log.db") as router:
        explored = sum(router.decide(f"query {step}").explored for step in range(60))
    with tiny_router(store=tmp_path / "log.db") as router:
        stats = router.stats()["candidates"]
        assert sum(values["exploring_draws"] for values in stats.values()) == explored > 0


def test_two_routers_on_one_store_learn_from_each_other(tmp_path: Path) -> None:
    with tiny_router(store=tmp_path / "log.db") as one, tiny_router(store=tmp_path / "log.db") as two:
        for step in range(10):
            one.feedback(one.decide(f"question {step}"), 1.0)
        assert two.sync() > 0
        texts = ["question 3", "something else"]
        assert np.allclose(one.predict(texts).quality, two.predict(texts).quality, atol=1e-12)
        clock_free = two.decide("question 3")
        assert one.feedback(clock_free.decision_id, 0.0).status == "applied"


def test_a_router_follows_the_log_by_itself(tmp_path: Path) -> None:
    config = RouterConfig(sync_interval_s=0.02)
    with (
        tiny_router(store=tmp_path / "log.db", config=config) as one,
        tiny_router(store=tmp_path / "log.db", config=config) as two,
    ):
        one.decide("question")
        for step in range(5):
            two.feedback(two.decide(f"question {step}"), 0.0)
        until = time.monotonic() + 20.0
        while one._learner.version != two._learner.version:  # nothing is asked of `one` meanwhile
            assert time.monotonic() < until, "nothing of the other worker's was learned"
            time.sleep(0.01)
        record = one.explain(one.decide("question").decision_id).record
        assert record.policy == two._learner.version


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


def test_save_and_load_are_the_identity(tmp_path: Path) -> None:
    router = tiny_router(store=tmp_path / "log.db")
    teach(router, 30, {"poem": "dear", "sum": "cheap"})
    router.save(tmp_path / "state")
    texts = ["poem", "sum", "else"]
    expected = router.predict(texts)
    for store in (None, tmp_path / "log.db"):  # with the old store, rows that were learned are not learned twice
        loaded = Router.load(tmp_path / "state", encoder=HashingEncoder(), store=store)
        assert loaded.config == router.config
        found = loaded.predict(texts)
        for field in ("quality", "cost_usd", "response_tokens", "uncertainty"):
            assert np.allclose(getattr(found, field), getattr(expected, field), atol=1e-12), field


def test_foreign_and_damaged_states_are_refused(tmp_path: Path) -> None:
    router = tiny_router()
    router.save(tmp_path)
    with pytest.raises(StateError, match="another encoder"):
        Router.load(tmp_path, encoder=HashingEncoder(32))
    path = tmp_path / "state.safetensors"
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"\x80\x04pickle", whole.replace(b"mixllm-state", b"others-state")):
        path.write_bytes(data)
        with pytest.raises(StateError, match="state"):
            Router.load(tmp_path, encoder=HashingEncoder())
    with pytest.raises(StateError, match=r"no state in .*can't be read"):
        Router.load(tmp_path / "nowhere", encoder=HashingEncoder())


def test_threads_share_a_router() -> None:
    router = tiny_router()
    failures = []

    def work(worker: int) -> None:
        try:
            for step in range(40):
                decision = router.decide(f"{worker} {step}")
                router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=5))
                router.feedback(decision, 1.0)
        except Exception as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = router.stats()
    assert not failures
    assert stats["feedback_applied"] == stats["outcomes"] == 320
    assert sum(values["labels"] for values in stats["candidates"].values()) == 320


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


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "   \n", Query(), Query(text=" ")])
def test_an_empty_query_is_refused(query: Any) -> None:
    with pytest.raises(QueryError, match="the query is empty"):
        tiny_router().decide(query)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (42, "a query is a text or a Query, not int"),
        (Query(embedding=[1.0, 2.0]), r"shape \(2,\), this router's encoder makes \(64,\)"),
        (Query(embedding=[float("nan")] * 64), "finite and not all zero"),
        (Query(embedding=[float("inf")] + [0.0] * 63), "finite and not all zero"),
        (Query(embedding=[0.0] * 64), "finite and not all zero"),
        (Query(text="x", needs=["telepathy"]), "unknown capability 'telepathy'"),  # type: ignore[list-item]
        (Query(text="x", needs="tools"), "needs must be a list"),  # type: ignore[arg-type]
        (Query(text="x", prompt_tokens=-1), "at least 0"),
    ],
)
def test_an_unusable_query_is_refused(query: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        tiny_router().decide(query)


@pytest.mark.parametrize("texts", ["one text", b"one text", None, 3, np.array("one text")])
def test_predictions_are_for_a_list_of_texts(texts: Any) -> None:
    router = tiny_router()
    with pytest.raises(QueryError, match="must be a list of texts.*for one query give"):
        router.predict(texts)
    listed = ["one text", "another"]
    expected = router.predict(listed).quality
    for same in (tuple(listed), np.array(listed), iter(listed)):
        assert np.array_equal(router.predict(same).quality, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [5e-324, 1e-200, 1e300])
def test_the_length_of_an_embedding_does_not_matter(scale: float) -> None:
    direction = np.zeros(64)
    direction[[3, 5]] = 1.0
    scores = [tiny_router().decide(Query(embedding=direction * each)).scores["dear"] for each in (1.0, scale)]
    assert scores[0] == scores[1]


def test_a_query_that_fits_no_window_names_the_windows() -> None:
    router = tiny_router()
    with pytest.raises(ContextWindowError, match=r"needs 60000 tokens.*cheap 4096, dear 16384") as caught:
        router.decide(Query(text="long", prompt_tokens=50_000, max_output_tokens=10_000))
    assert set(caught.value.reasons) == {"cheap", "dear"}
    assert router.decide(Query(text="long", prompt_tokens=4000, max_output_tokens=1000)).candidate == "dear"


def test_nobody_able_is_an_error_with_every_reason() -> None:
    with pytest.raises(NoEligibleCandidateError, match="cheap: does not support audio.*dear: does not support audio"):
        tiny_router().decide(Query(text="listen", needs=["audio"]))


@pytest.mark.parametrize("reward", [-0.1, 1.1, float("nan"), float("inf"), "good", None])
def test_a_reward_outside_its_range_is_refused_and_nothing_is_kept(reward: Any) -> None:
    router = tiny_router()
    decision = router.decide("hello")
    with pytest.raises(FeedbackError, match=r"must be a number in \[0, 1\]"):
        router.feedback(decision, reward)
    assert router.stats()["feedback_applied"] == 0


def test_feedback_for_an_unknown_decision_is_an_error_and_is_counted() -> None:
    router = tiny_router()
    with pytest.raises(UnknownDecisionError, match="no decision 'abc' in this store"):
        router.feedback("abc", 1.0)
    assert router.stats()["feedback_unmatched"] == 1


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"budget": "tiny"}, "unknown budget 'tiny'"),
        ({"budget": -1.0}, "budget=-1.0"),
        ({"budget": "low", "willingness_to_pay": 1.0}, "not both"),
        ({"max_wait_s": 0.0}, "max_wait_s=0.0 must be above 0"),
        ({"deny": ["nobody"]}, "'nobody' in allow or deny matches no candidate"),
    ],
)
def test_terms_that_are_not_allowed(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_router().decide("hello", **terms)


def test_a_forced_candidate_must_be_known() -> None:
    with pytest.raises(UnknownCandidateError, match="unknown candidate 'gpt-9'"):
        tiny_router().decide("hello", force="gpt-9")


def test_a_router_needs_candidates_with_names_of_their_own() -> None:
    with pytest.raises(CandidateError, match="at least one candidate"):
        Router([])
    with pytest.raises(CandidateError, match="more than once: 'cheap'"):
        Router([*tiny_pool(), *tiny_pool()])


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_an_outcome_with_impossible_numbers_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="latency_s"):
        Outcome(candidate="a", latency_s=value)
    with pytest.raises(ValueError, match="prompt_tokens"):  # no column of PostgreSQL would take it
        Outcome(candidate="a", prompt_tokens=2**31)
