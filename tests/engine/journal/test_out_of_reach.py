"""While the database is out of reach or slow, what is lasting waits, and all else is refused or goes on."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from mixllm_engine.errors import StoreUnavailableError
from mixllm_engine.store import journal as module
from mixllm_engine.store.journal import Journal
from mixllm_engine.types import FeedbackReceipt
from tests.engine.journal.database import Database, gone, judgement, outcome, until


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
