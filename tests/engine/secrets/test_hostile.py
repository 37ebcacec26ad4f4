"""What a user sends is kept as it is or refused, and never taken for SQL."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine import (
    CandidateError,
    FeedbackError,
    MixLLMError,
    Outcome,
    Router,
    StoreError,
    UnknownCandidateError,
    UnknownDecisionError,
)
from mixllm_engine.testing import tiny_pool, tiny_router

HOSTILE = [
    "'; DROP TABLE mixllm_decisions; --",
    '" OR "1"="1',
    "%s %(name)s :name ? $1 {0}",
    "\\'; \\x27 \\",
    "name\0with NUL",
    "\ud800",
    "half \udc00 a character",
    "x" * 100_000,
    "",
    " ",
    "\n\r\t\u2028\u202e",
    "🦓" * 128,
    "../../etc/passwd",
    "mixllm-",
]


def settled(act: Callable[[], object]) -> bool:
    """Tell whether something was accepted rather than refused with one of our errors; any other comes out."""
    try:
        act()
    except MixLLMError:
        return False
    return True


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_what_a_user_sends_is_kept_as_it_is_or_refused(text: str, place: str) -> None:
    router = tiny_router(store=place)
    decision = router.decide("hello", session=text)
    assert router.decide("hello", session=text).candidate
    if settled(lambda: router.feedback(decision, 1.0, text)):
        assert router.feedback(decision, 1.0, text).status == "duplicate"  # it was found again
        assert router.feedback(decision, 1.0, text).key == text
    if settled(lambda: router.link(decision.decision_id, text)):
        assert text in router.linked(within_s=1e9)
        assert router.feedback(text, 0.0, "other").decision_id == decision.decision_id
    else:
        with pytest.raises((UnknownDecisionError, FeedbackError)):
            router.feedback(text, 0.0)
    newcomer = dataclasses.replace(tiny_pool()[0], name=text)
    if settled(lambda: router.add_candidate(newcomer, like="cheap")):
        forced = router.decide("hello", force=text)
        assert router.explain(forced.decision_id).decision.candidate == text
        router.observe(forced.decision_id, Outcome(candidate=text))
        assert router.feedback(forced, 1.0).candidate == text
        assert text in router.stats()["candidates"]
    assert router.explain(decision.decision_id).decision.candidate == decision.candidate  # the tables are still there
    assert router.stats()["decisions"] >= 2
    router.close()


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_nothing_is_found_under_a_name_that_nobody_gave(text: str, place: str) -> None:
    router = tiny_router(store=place)
    decision = router.decide("hello")
    for act in (lambda: router.explain(text), lambda: router.link(text, "name")):
        with pytest.raises((UnknownDecisionError, StoreError)):
            act()
    with pytest.raises((UnknownCandidateError, UnknownDecisionError)):
        router.observe(decision.decision_id, Outcome(candidate=text))
    router.close()


def test_any_text_as_a_key_a_name_or_a_reference() -> None:
    with tempfile.TemporaryDirectory() as folder, tiny_router(store=Path(folder) / "log.db") as router:
        decision = router.decide("hello")

        @settings(max_examples=40, deadline=None)
        @given(st.text(st.characters(), max_size=300))
        def check(text: str) -> None:
            if settled(lambda: router.feedback(decision, 1.0, text)):
                assert router.feedback(decision, 1.0, text).status == "duplicate"
            if settled(lambda: router.link(decision.decision_id, text)):
                assert router.feedback(text, 1.0, "judge").decision_id == decision.decision_id
            settled(lambda: router.feedback(text, 1.0))

        check()


@pytest.mark.parametrize("name", ["", " ", "x" * 257, "a\0b", "\udfff"])
def test_a_candidate_needs_a_name_that_every_store_keeps(name: str) -> None:
    with pytest.raises(CandidateError, match="name"):
        Router([dataclasses.replace(tiny_pool()[0], name=name)])
