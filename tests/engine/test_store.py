"""Both stores keep the same promises; the durable one keeps them through a kill."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mixllm_engine import Outcome, Router, StoreError, UnknownDecisionError
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.store import open_store, preparing
from mixllm_engine.store.base import DecisionRecord, FeedbackRow, Store
from mixllm_engine.store.memory import MemoryStore
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router
from mixllm_engine.types import Decision, Label, Score

ROOT = Path(__file__).parents[2]
SCORE = Score(
    quality=0.5, response_tokens=9.0, cost_usd=0.1, uncertainty=0.0, waiting_s=0.0, trade=0.1, penalty=0.0, total=0.1
)
GOOD = Label(1.0, 1.0)
SMALL = RouterConfig(features=FeatureConfig(domains="none"))  # made at once


def place(kind: str, request: pytest.FixtureRequest) -> str | None:
    """Return where a store of a kind is kept."""
    if kind == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return None if kind == "memory" else str(request.getfixturevalue("tmp_path") / "log.db")


def record(decision_id: str, candidate: str = "a", *, explored: bool = False) -> DecisionRecord:
    decision = Decision(
        decision_id=decision_id,
        candidate=candidate,
        ranking=("a", "b"),
        propensity=0.9,
        explored=explored,
        scores={"a": SCORE, "b": SCORE},
        willingness_to_pay=float("inf"),
        time_s=1.5,
    )
    embedding = np.linspace(-1, 1, 8, dtype=np.float16)
    return DecisionRecord(decision=decision, embedding=embedding, encoder="e", policy="0.0", prompt_tokens=12)


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


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(b"this is not a database, whatever its name says" * 50)
    with pytest.raises(StoreError, match="not a database"):
        open_store(path)
    assert path.read_bytes().startswith(b"this is not")


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(StoreError, match="a database of something else .tables customers."):
        open_store(path)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


def test_a_truncated_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = open_store(path)
    for step in range(50):
        store.add_decision(record(f"d{step}"))
    store.close()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreError, match="can't be used"):
        broken = open_store(path)
        broken.decision("d49")


def test_a_decision_of_a_version_without_optimism_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = open_store(path)
    store.add_decision(record("d1"))
    store.close()
    with sqlite3.connect(path) as raw:
        (text,) = raw.execute("SELECT scores FROM mixllm_decisions").fetchone()
        scores = json.loads(text)
        for score in scores.values():
            del score["optimism"]
        raw.execute("UPDATE mixllm_decisions SET scores = ?", (json.dumps(scores),))
    store = open_store(path)
    assert dict(store.decision("d1").decision.scores) == {"a": SCORE, "b": SCORE}
    store.close()


OLDER = """
ALTER TABLE mixllm_feedback DROP COLUMN weight;
ALTER TABLE mixllm_feedback_log DROP COLUMN weight;
ALTER TABLE mixllm_feedback_log DROP COLUMN before_weight;
ALTER TABLE mixllm_feedback_log DROP COLUMN after_weight;
ALTER TABLE mixllm_decisions DROP COLUMN uncertainty_weight;
ALTER TABLE mixllm_decisions DROP COLUMN penalty_weight;
DROP INDEX ix_mixllm_decisions_time_s;
DROP TABLE mixllm_links;
DROP TABLE mixllm_prompts;
DROP TABLE mixllm_tallies;
DROP TABLE mixllm_workers;
UPDATE mixllm_meta SET value = '1' WHERE name = 'schema_version';
"""


def older_store(path: Path) -> list[FeedbackRow]:
    """Make a store of version 1 with two judgements of one decision; returns its label changes."""
    store = open_store(path)
    store.add_decision(record("d1"))
    for key, reward in (("user", 1.0), ("judge", 0.5)):
        store.add_feedback("d1", key, Label(reward, 1.0), 4.0)
    rows = list(store.feedback_after(0, 100))
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as raw:
        raw.executescript(OLDER)
    return rows


def test_a_store_of_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    rows = older_store(tmp_path / "log.db")
    store = open_store(tmp_path / "log.db")
    assert [row.before for row in rows] == [None, (1, 1)]
    assert [(row.before, row.after) for row in store.feedback_after(0, 100)] == [
        (row.before, row.after) for row in rows
    ]
    store.link("d1", ["run"])
    assert store.add_feedback("d1", "user", Label(1.0, 1.0), 5.0).status == "duplicate"
    store.close()
    open_store(tmp_path / "log.db").close()


@pytest.mark.parametrize("step", range(7))
def test_a_migration_that_is_interrupted_changes_nothing(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = older_store(tmp_path / "log.db")
    with monkeypatch.context() as patch:
        steps = preparing._STEPS[1]
        patch.setattr(preparing, "_STEPS", {1: (*steps[:step], "SELECT no_such_column")})
        with pytest.raises(StoreError, match="no_such_column"):
            open_store(tmp_path / "log.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as raw:
        assert raw.execute("SELECT value FROM mixllm_meta WHERE name = 'schema_version'").fetchone() == ("1",)
        columns = [row[1] for row in raw.execute("PRAGMA table_info(mixllm_feedback)")]
        assert columns == ["decision_id", "key", "reward", "time_s"]
    store = open_store(tmp_path / "log.db")
    assert [row.after for row in store.feedback_after(0, 100)] == [row.after for row in rows]
    store.close()


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    open_store(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE mixllm_meta SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(StoreError, match="schema version '99', this MixLLM reads versions 1 to 3"):
        open_store(path)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nosuchdialect://x", "a SQLite file or a PostgreSQL database, not 'nosuchdialect'"),
        ("mysql://x", "a SQLite file or a PostgreSQL database, not 'mysql'"),
        ("postgresql+nosuchdriver://x", "this one can't be used"),
        ("sqlite:////no/such/folder/log.db", "the store .* can't be used: unable to open database file"),
    ],
)
def test_a_store_out_of_reach_is_one_clear_error(where: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_store(where)


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "100% mine?.db#1"
    open_store(path).close()
    assert path.is_file()


def test_a_password_is_never_shown() -> None:
    with pytest.raises(StoreError) as caught:
        open_store("sqlite://user:sesame@/no/such/folder/x.db")
    assert "sesame" not in str(caught.value)


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


KILLED = """
import os, signal, sys
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.testing import tiny_router
router = tiny_router(store=sys.argv[1], config=RouterConfig(features=FeatureConfig(domains="none")))
decision = router.decide("What is two and two?")
receipt = router.feedback(decision.decision_id, 1.0)
print(decision.decision_id, receipt.status, decision.candidate, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_acknowledged_feedback_survives_a_kill(kind: str, request: pytest.FixtureRequest) -> None:
    path = place(kind, request)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    decision_id, status, candidate = done.stdout.split()
    assert status == "applied"
    with tiny_router(store=path, config=SMALL) as router:
        stats = router.stats()
        assert (stats["decisions"], stats["feedback_applied"], stats["feedback_pending"]) == (1, 1, 0)
        assert stats["candidates"][candidate]["labels"] == 1.0
        assert router.feedback(decision_id, 1.0).status == "duplicate"


def test_no_prompt_and_no_key_reach_the_files(tmp_path: Path) -> None:
    pool = [dataclasses.replace(c, api_key="sk-very-secret") for c in tiny_pool("http://127.0.0.1:1/v1")]
    with Router(pool, store=tmp_path / "log.db", encoder=HashingEncoder(), config=SMALL) as router:
        decision = router.decide("my confidential question")
        router.feedback(decision, 1.0)
        router.save(tmp_path)
        assert "sk-very-secret" not in repr(router) + str(router.stats()) + str(router.explain(decision.decision_id))
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"127.0.0.1" in raw  # the pool was saved
    assert b"confidential" not in raw
    assert b"sk-very-secret" not in raw
