"""All stores keep the same promises: decisions, judgements, names, states, and who may change them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mixllm_engine import Outcome, Router, UnknownDecisionError
from mixllm_engine.store import open_store
from mixllm_engine.store.base import Store
from mixllm_engine.store.memory import MemoryStore
from mixllm_engine.testing import HashingEncoder, tiny_router
from mixllm_engine.types import Label
from tests.engine.stores import GOOD, SCORE, SMALL, place, record


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    opened = open_store(place(request.param, request))
    yield opened
    opened.close()


def test_what_is_kept_comes_back(store: Store) -> None:
    store.add_decision(record("d1", explored=True))
    store.add_outcome("d1", Outcome(candidate="a", error="rate_limit", latency_s=0.1), 2.0)
    store.add_outcome(
        "d1", Outcome(candidate="b", latency_s=1.0, prompt_tokens=5, response_tokens=7, cost_usd=0.2), 3.0
    )
    back = store.decision("d1")
    assert back.decision.willingness_to_pay == float("inf")
    assert dict(back.decision.scores) == {"a": SCORE, "b": SCORE}
    assert np.array_equal(back.embedding, record("d1").embedding)
    assert [outcome.error for outcome in store.outcomes("d1")] == ["rate_limit", None]
    assert store.exploring_draws() == {"a": 1}
    assert store.choices() == {"a": 1}


def test_feedback_goes_to_who_answered_and_is_idempotent(store: Store) -> None:
    store.add_decision(record("d1"))
    store.add_outcome("d1", Outcome(candidate="a", error="timeout"), 2.0)
    store.add_outcome("d1", Outcome(candidate="b"), 3.0)
    receipts = [store.add_feedback("d1", key, Label(reward, 1.0), 4.0) for key, reward in
                [("user", 1.0), ("user", 1.0), ("judge", 0.5), ("user", 0.0)]]  # fmt: skip
    assert [receipt.status for receipt in receipts] == ["applied", "duplicate", "applied", "replaced"]
    assert {receipt.candidate for receipt in receipts} == {"b"}
    rows = store.feedback_after(0, 100)
    assert [(row.before, row.after) for row in rows] == [(None, (1, 1)), ((1, 1), (0.75, 1)), ((0.75, 1), (0.25, 1))]
    assert [row.sequence for row in store.feedback_after(rows[0].sequence, 100)] == [row.sequence for row in rows[1:]]
    assert len(store.feedback_after(0, 1)) == 1
    counts = store.counts()
    assert (counts.decisions, counts.outcomes, counts.feedback, counts.feedback_log) == (1, 2, 2, 3)
    assert (counts.feedback_duplicate, counts.feedback_unmatched) == (1, 0)


def test_judgements_are_averaged_by_weight_and_never_weigh_less_than_they_did(store: Store) -> None:
    store.add_decision(record("d1"))
    for key, label in (
        ("parser", Label(0.0, 0.25)),
        ("retry", Label(0.0, 0.25)),
        ("user", Label(1.0, 1.0)),
        ("parser", Label(1.0, 0.1)),
        ("parser", Label(1.0, 0.1)),
    ):
        store.add_feedback("d1", key, label, 4.0)
    rows = store.feedback_after(0, 100)
    assert [row.after.value for row in rows] == pytest.approx([0, 0, 1 / 1.5, 1.1 / 1.35])
    assert [row.after.weight for row in rows] == [0.25, 0.5, 1.0, 1.0]
    assert [row.before for row in rows] == [None, *(row.after for row in rows[:-1])]
    assert store.counts().feedback_duplicate == 1
    store.add_decision(record("d2"))
    for weight in (0.5, 0.2):
        store.add_feedback("d2", "user", Label(1.0 - weight, weight), 4.0)
    assert store.feedback_after(0, 100)[-1].after == (0.8, 0.5)


def test_a_label_is_withdrawn_as_it_was_learned_from_whom_it_was_given_to(store: Store) -> None:
    store.add_decision(record("d1"))
    for label in (Label(1.0, 1.0), Label(0.5, 0.25), Label(0.0, 0.5)):
        assert store.add_feedback("d1", "user", label, 4.0).candidate == "a"
    store.add_outcome("d1", Outcome(candidate="b"), 5.0)
    assert store.add_feedback("d1", "judge", GOOD, 6.0).candidate == "a"
    rows = store.feedback_after(0, 100)
    assert [row.before for row in rows] == [None, *(row.after for row in rows[:-1])]
    assert [row.after for row in rows] == [(1.0, 1.0), (0.5, 1.0), (0.0, 1.0), (pytest.approx(2 / 3), 1.0)]
    assert {row.candidate for row in rows} == {"a"}


def test_names_lead_to_decisions_in_the_order_in_which_they_were_made(store: Store) -> None:
    for number, name in enumerate(("d2", "d1", "d3")):
        made = record(name)
        store.add_decision(dataclasses.replace(made, decision=dataclasses.replace(made.decision, time_s=float(number))))
    store.link("d1", ["root", "run-1"])
    store.link("d2", ["root", "run-2", "root"])
    store.link("d2", ["root"])
    assert list(store.linked("root")) == ["d2", "d1"]
    assert list(store.linked("run-1")) == ["d1"]
    assert list(store.linked("d1")) == []
    assert sorted(store.linked_since(0.0)) == ["root", "run-1", "run-2"]
    assert sorted(store.linked_since(0.5)) == ["root", "run-1"]
    assert list(store.linked_since(1.5)) == []
    with pytest.raises(UnknownDecisionError, match="no decision 'nope'"):
        store.link("nope", ["root"])


def test_an_unknown_decision_is_an_error_and_is_counted(store: Store) -> None:
    with pytest.raises(UnknownDecisionError, match="no decision 'nope' in this store"):
        store.add_feedback("nope", "user", GOOD, 0.0)
    with pytest.raises(UnknownDecisionError, match="no decision 'nope'"):
        store.add_outcome("nope", Outcome(candidate="a"), 0.0)
    with pytest.raises(UnknownDecisionError, match="no decision 'nope'"):
        store.decision("nope")
    assert store.counts().feedback_unmatched == 1


def test_states_are_kept_by_encoder_and_the_latest_counts(store: Store) -> None:
    assert store.state("e") is None
    assert store.state_number("e") == 0
    first = store.change_state("e", lambda _: b"old", 1.0)
    second = store.change_state("e", lambda before: (before.data if before else b"") + b"new", 2.0)
    store.change_state("other", lambda before: before.data if before else b"x", 3.0)
    assert store.state("e") == (second, b"oldnew")
    assert 0 < first < second == store.state_number("e")
    assert store.state("other") == (store.state_number("other"), b"x")


def test_threads_share_a_store(store: Store) -> None:
    def work(worker: int) -> None:
        for step in range(20):
            name = f"{worker}-{step}"
            store.add_decision(record(name))
            store.add_outcome(name, Outcome(candidate="a", response_tokens=3), 0.0)
            store.add_feedback(name, "user", GOOD, 0.0)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = store.counts()
    assert (counts.decisions, counts.outcomes, counts.feedback) == (160, 160, 160)
    sequences = [row.sequence for row in store.feedback_after(0, 1000)]
    assert len(set(sequences)) == 160


def test_memory_makes_room_by_forgetting_the_oldest() -> None:
    store = MemoryStore(capacity=2)
    for name in ("d1", "d2", "d3"):
        store.add_decision(record(name))
    with pytest.raises(UnknownDecisionError, match="'d1'"):
        store.decision("d1")
    assert store.counts().decisions == 3


def test_changes_of_a_state_wait_for_each_other(store: Store) -> None:
    def add(worker: int) -> None:
        for _ in range(10):
            store.change_state("e", lambda before: (before.data if before else b"") + bytes([worker]), 1.0)

    threads = [threading.Thread(target=add, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = store.state("e")
    assert state
    assert sorted(state.data) == sorted(bytes([0, 1, 2, 3]) * 10)


def test_feedback_to_another_encoders_decisions_is_pending_and_not_applied(store: Store, tmp_path: Path) -> None:
    small, large = (tiny_router(store=store, encoder=HashingEncoder(size), config=SMALL) for size in (64, 32))
    for step in range(3):
        decision = small.decide(f"question {step}")
        small.feedback(decision, 1.0)
        small.feedback(decision, 0.0)  # another value of the same feedback, not another feedback
    small.feedback(decision, 1.0, key="judge")
    large.feedback(large.decide("question"), 1.0)
    for router, applied, labels in ((small, 4, 3), (large, 1, 1)):
        stats = router.stats()
        assert (stats["feedback_applied"], stats["feedback_pending"]) == (applied, 5 - applied)
        assert sum(values["labels"] for values in stats["candidates"].values()) == labels
    small.save(tmp_path / "state")  # a state that has read the log counts the same
    loaded = Router.load(tmp_path / "state", store=store, encoder=HashingEncoder())
    assert (loaded.stats()["feedback_applied"], loaded.stats()["feedback_pending"]) == (4, 1)
