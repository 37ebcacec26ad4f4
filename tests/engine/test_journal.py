"""What waits to be written is written once and in order, or whoever gave it is told, whatever the database does."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine.errors import StoreError, StoreUnavailableError, UnknownDecisionError
from mixllm_engine.store import journal as module
from mixllm_engine.store.entries import Entry, NewFeedback, NewOutcome, Result
from mixllm_engine.store.journal import Journal
from mixllm_engine.types import FeedbackReceipt, Label, Outcome

ROOT = Path(__file__).parents[2]


def outcome(decision_id: str, number: int = 0) -> NewOutcome:
    return NewOutcome(decision_id=decision_id, outcome=Outcome(candidate="a"), time_s=float(number))


def judgement(decision_id: str, key: str = "user") -> NewFeedback:
    return NewFeedback(decision_id=decision_id, key=key, label=Label(1.0, 1.0), time_s=0.0)


class Database:
    """Takes entries, each once; is out of reach, slow, or fails as told."""

    def __init__(self) -> None:
        self.kept: list[Entry] = []
        self.transactions = 0
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()

    def write(self, entries: Sequence[Entry], again: bool) -> list[Result]:
        self.transactions += 1
        self.begun.set()
        assert self.open.wait(20.0)
        if self.error is not None:
            raise self.error
        if any(entry.decision_id == "poison" for entry in entries if isinstance(entry, NewOutcome)):
            raise StoreError("a value that can't be kept")
        assert again or not any(entry in self.kept for entry in entries)
        self.kept += [entry for entry in entries if entry not in self.kept]
        return [self.result(entry) for entry in entries]

    def result(self, entry: Entry) -> Result:
        if isinstance(entry, NewFeedback):
            if entry.decision_id == "unknown":
                return UnknownDecisionError("unknown")
            return FeedbackReceipt(
                decision_id=entry.decision_id, candidate="a", key=entry.key, reward=1.0, status="applied"
            )
        return None

    def hold(self) -> None:
        """Have the next transaction wait in mid-work."""
        self.open.clear()
        self.begun.clear()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(module, "_RETRY_S", 0.02)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def journal(database: Database) -> Iterator[Journal]:
    made = Journal(database.write, room=1000)
    yield made
    database.error = None
    database.open.set()
    made.close()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.002)


def gone() -> StoreUnavailableError:
    return StoreUnavailableError("gone")


# -- one transaction for many ------------------------------------------------------------------------------------------


def test_what_waits_meanwhile_shares_a_transaction_and_everybody_gets_the_own_result(
    journal: Journal, database: Database
) -> None:
    database.hold()
    with ThreadPoolExecutor(40) as threads:
        given = [threads.submit(journal.put, judgement(f"d{n}"), lasting=False) for n in range(40)]
        until(lambda: journal.waiting == 40)
        database.open.set()
        receipts = [future.result() for future in given]
    assert [receipt.decision_id for receipt in receipts if isinstance(receipt, FeedbackReceipt)] == [
        f"d{n}" for n in range(40)
    ]
    assert database.transactions == 2
    assert (len(database.kept), journal.waiting, journal.lost) == (40, 0, 0)


def test_a_batch_has_an_end(journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_AT_ONCE", 10)
    database.hold()
    for number in range(35):
        journal.put(outcome("d", number), lasting=True, wait=False)
    database.open.set()
    journal.settle()
    assert [entry.time_s for entry in database.kept if isinstance(entry, NewOutcome)] == [float(n) for n in range(35)]
    assert 4 <= database.transactions <= 5


def test_what_cannot_be_written_fails_alone(
    journal: Journal, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.hold()
    with ThreadPoolExecutor(3) as threads:
        journal.put(outcome("first"), lasting=True, wait=False)
        assert database.begun.wait(10.0)
        told = threads.submit(journal.put, judgement("d"), lasting=False)
        until(lambda: journal.waiting == 2)
        refused = threads.submit(journal.put, outcome("poison"), lasting=True)
        until(lambda: journal.waiting == 3)
        unknown = threads.submit(journal.put, judgement("unknown"), lasting=False)
        until(lambda: journal.waiting == 4)
        journal.put(outcome("last"), lasting=True, wait=False)
        database.open.set()
        assert isinstance(told.result(), FeedbackReceipt)
        with pytest.raises(StoreError, match="a value that can't be kept"):
            refused.result()
        with pytest.raises(UnknownDecisionError):
            unknown.result()
    journal.settle()
    assert [entry.decision_id for entry in database.kept if isinstance(entry, NewOutcome)] == ["first", "last"]
    assert journal.lost == 0  # everybody was told
    journal.put(outcome("poison"), lasting=True, wait=False)
    journal.settle()
    assert journal.lost == 1
    assert "a NewOutcome is lost: StoreError" in caplog.text
    assert "poison" not in caplog.text


# -- out of reach ------------------------------------------------------------------------------------------------------


def test_what_is_lasting_waits_until_the_database_is_back(
    journal: Journal, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    database.error = gone()
    started = time.monotonic()
    for number in range(20):
        assert journal.put(outcome("d", number), lasting=True) is None
    assert time.monotonic() - started < 1.0
    until(lambda: database.transactions > 3)
    assert (journal.waiting, database.kept) == (20, [])
    database.error = None
    until(lambda: not journal.waiting)
    assert database.kept == [outcome("d", number) for number in range(20)]
    assert journal.lost == 0
    assert caplog.text.count("entries wait to be written: gone") == caplog.text.count("can be reached again") == 1


def test_what_is_not_lasting_is_refused_at_once_and_not_written_later(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 30.0)
    database.error = gone()
    journal.put(outcome("d"), lasting=True)
    for _ in range(3):  # each is an attempt: nobody waits for the next one that is due
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="gone"):
            journal.put(judgement("d"), lasting=False)
        assert time.monotonic() - started < 1.0
    database.error = None
    assert isinstance(journal.put(judgement("d", "judge"), lasting=False), FeedbackReceipt)
    assert database.kept == [outcome("d"), judgement("d", "judge")]


def test_there_is_room_for_so_many(database: Database) -> None:
    journal = Journal(database.write, room=3)
    database.error = gone()
    for number in range(3):
        journal.put(outcome("d", number), lasting=True)
    with pytest.raises(StoreUnavailableError, match="3 entries wait to be written: there is no room for more"):
        journal.put(outcome("d", 3), lasting=True)
    assert journal.lost == 0  # whoever gave it was told
    journal.gave_up()
    assert (journal.waiting, journal.lost) == (3, 1)
    database.error = None
    journal.settle()
    assert len(database.kept) == 3
    journal.close()


def test_to_settle_is_to_wait_for_what_nobody_waits_for(journal: Journal, database: Database) -> None:
    database.hold()
    with ThreadPoolExecutor(2) as threads:
        watched = threads.submit(journal.put, judgement("d"), lasting=False)
        assert database.begun.wait(10.0)
        journal.settle()  # returns while the database still works on it: who gave it is not told yet
        assert not watched.done() and journal.waiting == 1
        journal.put(outcome("e"), lasting=True, wait=False)
        settled = threads.submit(journal.settle)
        time.sleep(0.02)
        assert not settled.done()
        database.open.set()
        settled.result(10.0)
        assert outcome("e") in database.kept and watched.result(10.0)


# -- slow --------------------------------------------------------------------------------------------------------------


def test_a_slow_database_holds_up_one_entry_for_a_while_and_the_others_not_at_all(
    journal: Journal, database: Database
) -> None:
    database.hold()
    started = time.monotonic()
    journal.put(outcome("d"), lasting=True)
    assert 0.1 <= time.monotonic() - started < 1.0
    started = time.monotonic()
    for number in range(100):
        journal.put(outcome("d", number + 1), lasting=True)
    assert time.monotonic() - started < 2.0  # 10 s, were each of them held up
    database.open.set()
    journal.settle()
    assert len(database.kept) == 101
    journal.put(outcome("e"), lasting=True)
    assert database.kept[-1] == outcome("e")  # on disk when it returns, as before


@pytest.mark.parametrize("in_hand", [True, False])
def test_a_database_that_never_answers_is_an_error_for_who_has_to_know(
    in_hand: bool, journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_S", 0.1)
    database.hold()
    if not in_hand:
        journal.put(outcome("d"), lasting=True, wait=False)
        assert database.begun.wait(10.0)
    hope = "it may still be kept, and to give it again does no harm" if in_hand else "it was not kept"
    with pytest.raises(StoreUnavailableError, match=f"has not answered for 0.1 s: {hope}"):
        journal.put(judgement("d"), lasting=False)
    database.open.set()
    journal.settle()
    assert (judgement("d") in database.kept) is in_hand
    assert (journal.waiting, journal.lost) == (0, 0)


def test_who_settles_is_not_held_up_for_long(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CLOSING_S", 1.0)
    database.hold()
    journal.put(outcome("d"), lasting=True, wait=False)
    times = []
    for _ in range(3):
        times.append(time.monotonic())
        journal.settle()
    waits = [later - sooner for sooner, later in pairwise([*times, time.monotonic()])]
    assert waits[0] >= 1.0
    assert all(0.1 <= wait < 1.0 for wait in waits[1:])  # it is known to be slow by now
    database.open.set()
    journal.settle()
    assert journal.waiting == 0
    database.error = gone()
    started = time.monotonic()
    journal.put(outcome("e"), lasting=True, wait=False)
    journal.settle()
    assert time.monotonic() - started < 1.0
    assert journal.waiting == 1


# -- the thread --------------------------------------------------------------------------------------------------------


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mixllm-journal"]


def test_an_idle_thread_ends_and_another_one_starts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_S", 0.03)
    before = set(writers())
    journal = Journal(database.write, room=10)
    for number in range(3):
        journal.put(outcome("d", number), lasting=True)
        until(lambda: set(writers()) <= before)
    assert len(database.kept) == 3


def test_a_journal_that_nobody_holds_writes_what_waits_and_is_gone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IDLE_S", 0.03)
    journal = Journal(database.write, room=10)
    database.hold()
    journal.put(outcome("d"), lasting=True, wait=False)
    alive = weakref.ref(journal)
    del journal
    database.open.set()

    def collected() -> bool:
        gc.collect()
        return alive() is None

    until(collected)
    assert database.kept == [outcome("d")]


def test_where_no_thread_can_start_the_caller_writes(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", NoThread)
        assert isinstance(journal.put(judgement("d"), lasting=False), FeedbackReceipt)
        database.error = gone()
        assert journal.put(outcome("d"), lasting=True) is None
        with pytest.raises(StoreUnavailableError, match="gone"):
            journal.put(judgement("e"), lasting=False)
        database.error = None
        assert journal.waiting == 1
        journal.put(outcome("d", 1), lasting=True)
    assert database.kept == [judgement("d"), outcome("d"), outcome("d", 1)]


# -- the end -----------------------------------------------------------------------------------------------------------


def test_closing_writes_what_waits_and_a_closed_journal_goes_on(journal: Journal, database: Database) -> None:
    for number in range(50):
        journal.put(outcome("d", number), lasting=True, wait=False)
    journal.close()
    assert len(database.kept) == 50
    journal.put(outcome("d", 50), lasting=True)
    assert len(database.kept) == 51


def test_what_is_left_at_the_end_is_counted_and_who_waits_is_told(
    journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_CLOSING_S", 0.1)
    database.hold()
    for number in range(3):
        journal.put(outcome("d", number), lasting=True, wait=False)
    assert database.begun.wait(10.0)
    in_hand = journal._in_hand
    with ThreadPoolExecutor(1) as threads:
        judged = threads.submit(journal.put, judgement("d"), lasting=False)
        until(lambda: journal.waiting == 4)
        journal.close()
        with pytest.raises(StoreUnavailableError, match="closed before this was written"):
            judged.result(10.0)
    assert "the store is closed before 4 entries were written" in caplog.text
    assert journal.lost == 3 - in_hand
    database.error = gone()
    database.open.set()  # what was in hand comes back, and nobody is left to write it
    until(lambda: journal.lost == 3)
    database.error = None
    journal.put(outcome("e"), lasting=True)
    assert database.kept == [outcome("e")]


AT_EXIT = """
import time
from mixllm_engine import Outcome
from mixllm_engine.store.entries import NewOutcome
from mixllm_engine.store.journal import Journal
def write(entries, again):
    time.sleep(0.05)
    for entry in entries:
        print(entry.time_s, flush=True)
    return [None] * len(entries)
journal = Journal(write, room=100)
for number in range(20):
    entry = NewOutcome(decision_id="d", outcome=Outcome(candidate="a"), time_s=float(number))
    journal.put(entry, lasting=True, wait=False)
"""


def test_what_waits_when_the_interpreter_ends_is_written() -> None:
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(float(number)) for number in range(20)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_leaves_what_waits_to_its_parent_and_writes_its_own(
    journal: Journal, database: Database
) -> None:
    database.hold()
    journal.put(outcome("d"), lasting=True, wait=False)
    assert database.begun.wait(10.0)
    journal.gave_up()
    child = os.fork()
    if child == 0:
        as_new = (journal.waiting, journal.lost) == (0, 0)
        database.open.set()
        journal.put(outcome("e"), lasting=True)
        os._exit(0 if as_new and database.kept == [outcome("e")] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    database.open.set()
    journal.settle()
    assert (database.kept, journal.lost) == ([outcome("d")], 1)


# -- always ------------------------------------------------------------------------------------------------------------


class Moody(Database):
    """Fails as a list says, before it has kept anything, or after: a connection may be lost while it commits."""

    def __init__(self, moods: Sequence[str]) -> None:
        super().__init__()
        self.moods = list(moods)

    def write(self, entries: Sequence[Entry], again: bool) -> list[Result]:
        mood = self.moods.pop(0) if self.moods else "well"
        if mood == "gone":
            raise gone()
        results = super().write(entries, again)
        if mood == "lost while committing":
            raise gone()
        return results


@settings(max_examples=60, deadline=None)
@given(
    puts=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["waits", "queued", "feedback"])), max_size=25),
    moods=st.lists(st.sampled_from(["well", "gone", "lost while committing"]), max_size=12),
    most=st.integers(1, 5),
)
def test_what_was_taken_is_written_once_and_in_order(puts: list[tuple[str, str]], moods: list[str], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_RETRY_S", 0.001)
        patch.setattr(module, "_MOST_AT_ONCE", most)
        database = Moody(moods)
        journal = Journal(database.write, room=100)
        taken: list[Entry] = []
        refused: list[Entry] = []
        for number, (decision_id, how) in enumerate(puts):
            entry = judgement(decision_id, str(number)) if how == "feedback" else outcome(decision_id, number)
            try:
                result = journal.put(entry, lasting=how != "feedback", wait=how != "queued")
            except StoreUnavailableError:
                refused.append(entry)
            else:
                taken.append(entry)
                assert isinstance(result, FeedbackReceipt) is (how == "feedback")
                assert how != "feedback" or entry in database.kept
        until(lambda: not journal.waiting)
        journal.close()
        assert [entry for entry in database.kept if entry not in refused] == taken
        assert all(isinstance(entry, NewFeedback) for entry in refused)
        assert journal.lost == 0
