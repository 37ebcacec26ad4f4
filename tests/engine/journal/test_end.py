"""At the end, of a journal, an interpreter or a forked child, what waits is written or counted."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mixllm_engine.errors import StoreUnavailableError
from mixllm_engine.store import journal as module
from mixllm_engine.store.journal import Journal
from tests.engine.journal.database import Database, gone, judgement, outcome, until
from tests.engine.stores import ROOT


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
