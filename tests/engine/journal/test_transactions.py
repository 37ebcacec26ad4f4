"""What waits is written in few transactions: once, in order, and each entry with its own result."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine.errors import StoreError, StoreUnavailableError, UnknownDecisionError
from mixllm_engine.store import journal as module
from mixllm_engine.store.entries import Entry, NewFeedback, NewOutcome, Result
from mixllm_engine.store.journal import Journal
from mixllm_engine.types import FeedbackReceipt
from tests.engine.journal.database import Database, gone, judgement, outcome, until


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
