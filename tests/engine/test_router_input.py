"""Bad input to a router: what is refused, with which error, and what is kept of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mixllm_engine import (
    CandidateError,
    ConfigError,
    ContextWindowError,
    FeedbackError,
    NoEligibleCandidateError,
    Outcome,
    Query,
    QueryError,
    Router,
    UnknownCandidateError,
    UnknownDecisionError,
)
from mixllm_engine.testing import tiny_pool, tiny_router


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
