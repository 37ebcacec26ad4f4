"""The thread that writes: it ends when it is idle or nobody holds its journal, and can be done without."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from mixllm_engine.errors import StoreUnavailableError
from mixllm_engine.store import journal as module
from mixllm_engine.store.journal import Journal
from mixllm_engine.types import FeedbackReceipt
from tests.engine.journal.database import Database, gone, judgement, outcome, until


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
