"""What waits to be written: one thread appends it to the log, as much as there is in each transaction.

Callers wait until their entry is on disk, or hand it over and go on. While the database can't be reached, entries that
may wait do so, and are written when it is back; there is room for a number of them, and what finds none is counted.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Final
from weakref import WeakSet

from mixllm_engine.errors import StoreUnavailableError
from mixllm_engine.store.entries import Entry, Result

_log = logging.getLogger(__name__)

_MOST_AT_ONCE: Final = 500
# An answer is not held up by a slow disk for longer than this.
_PATIENCE_S: Final = 1.0
_RETRY_S: Final = 1.0
# A thread with nothing to do ends; the next entry starts another one.
_IDLE_S: Final = 5.0
_CLOSING_S: Final = 10.0


@dataclass(kw_only=True, eq=False, slots=True)
class _Waiting:
    """An entry in the queue; a `lasting` one stays there while the database can't be reached."""

    entry: Entry
    lasting: bool
    watched: bool
    done: Future[Result] = field(default_factory=lambda: Future[Result]())
    tried: bool = False


class Journal:
    """A queue of entries and the thread that writes them.

    Parameters
    ----------
    write : callable
        Appends entries in one transaction and returns a result for each. Its second argument says whether some may
        be in the log already. It raises `StoreUnavailableError` where the same may succeed later.
    room : int
        How many entries may wait.

    Attributes
    ----------
    lost : int
        Entries that could not be kept, and of which nobody was told so.
    """

    def __init__(self, write: Callable[[Sequence[Entry], bool], Sequence[Result]], room: int) -> None:
        self._write = write
        self._room = room
        self.lost = 0
        self._begin()
        _journals.add(self)

    def _begin(self) -> None:
        self._queue = deque[_Waiting]()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._unavailable: StoreUnavailableError | None = None
        self._retry_at = 0.0
        self._slow = False
        self._closing = False
        self._taken = 0  # entries that have left the queue, ever
        self._suspects = 0  # how many at its head are written one by one, because one of them can't be

    @property
    def waiting(self) -> int:
        """Number of entries that are not on disk yet."""
        return len(self._queue)

    def put(self, entry: Entry, *, lasting: bool, wait: bool = True) -> Result:
        """Hand over an entry; returns what became of it, or ``None`` where that is not known yet.

        Parameters
        ----------
        entry : Entry
            What to append.
        lasting : bool
            Let it wait while the database can't be reached, or is slow, instead of raising.
        wait : bool
            Return when it is on disk.

        Raises
        ------
        UnknownDecisionError
            If the log does not know its decision.
        StoreError
            If it can't be kept. `StoreUnavailableError`: it was not lasting, and the database can't be reached, or it
            was, and there is no room left.
        """
        watched = wait and not (lasting and (self._slow or self._unavailable))
        waiting = self._enqueue(_Waiting(entry=entry, lasting=lasting, watched=watched))
        if not watched:
            return None
        try:
            result = waiting.done.result(_PATIENCE_S if lasting else None)
        except TimeoutError:
            self._slow, waiting.watched = True, False
            return None
        if isinstance(result, Exception):
            raise result
        return result

    def settle(self, timeout_s: float = _CLOSING_S) -> None:
        """Wait until what was handed over so far is on disk, or it turns out that the database can't be reached."""
        with self._changed:
            until = self._taken + len(self._queue)
            self._changed.wait_for(lambda: self._taken >= until or self._unavailable is not None, timeout_s)

    def close(self) -> None:
        """Write what waits, as far as the database can be reached, and end the thread; a later entry starts another."""
        self.settle()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(_CLOSING_S)
        with self._changed:
            self._closing = False
            left = len(self._queue)
            self._taken += left
            self._queue.clear()
        if left:
            self.lost += left
            _log.error("%d entries could not be written before the store was closed", left)

    def _enqueue(self, waiting: _Waiting) -> _Waiting:
        with self._changed:
            if waiting.lasting and len(self._queue) >= self._room:
                raise StoreUnavailableError(f"{len(self._queue)} entries wait to be written: there is no room for more")
            self._queue.append(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mixllm-journal", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return waiting

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next():
            try:
                results = self._attempt(batch)
            except StoreUnavailableError as error:
                self._interrupted(error)
            except Exception as error:  # it goes to whoever waits; above a thread there is nobody
                if len(batch) > 1:
                    self._suspects = len(batch)
                else:
                    self._finished(batch, [error])
            else:
                self._finished(batch, results)

    def _next(self) -> list[_Waiting]:
        """Return what to write now; nothing ends the thread."""
        with self._changed:
            if self._unavailable is not None:
                self._changed.wait_for(lambda: self._closing, self._retry_at - time.monotonic())
            self._changed.wait_for(lambda: self._queue or self._closing, _IDLE_S)
            if self._closing or not self._queue:
                self._thread = None
                return []
            return list(islice(self._queue, 1 if self._suspects else _MOST_AT_ONCE))

    def _attempt(self, batch: Sequence[_Waiting]) -> Sequence[Result]:
        again = any(waiting.tried for waiting in batch)
        for waiting in batch:
            waiting.tried = True
        return self._write([waiting.entry for waiting in batch], again)

    def _finished(self, batch: Sequence[_Waiting], results: Sequence[Result]) -> None:
        with self._changed:
            for _ in batch:
                self._queue.popleft()
            self._taken += len(batch)
            self._suspects = max(0, self._suspects - len(batch))
            if self._unavailable is not None:
                _log.warning("the store can be reached again")
            self._unavailable, self._slow = None, False
            self._changed.notify_all()
        for waiting, result in zip(batch, results, strict=True):
            if isinstance(result, Exception) and not waiting.watched:
                self.lost += 1
                _log.error("a %s could not be written: %s", type(waiting.entry).__name__, type(result).__name__)
            if not waiting.done.done():
                waiting.done.set_result(result)

    def _interrupted(self, error: StoreUnavailableError) -> None:
        """Let go of everybody who waits; what is lasting stays in the queue."""
        with self._changed:
            if self._unavailable is None:
                _log.warning("entries wait to be written: %s", error)
            self._unavailable, self._retry_at = error, time.monotonic() + _RETRY_S
            let_go = [waiting for waiting in self._queue if waiting.watched]
            self._taken += sum(not waiting.lasting for waiting in self._queue)
            self._queue = deque(waiting for waiting in self._queue if waiting.lasting)
            self._changed.notify_all()
        for waiting in let_go:
            waiting.watched = False
            waiting.done.set_result(None if waiting.lasting else StoreUnavailableError(str(error)))


_journals: Final = WeakSet[Journal]()


def _after_fork() -> None:
    """Leave what waits to the parent, whose thread is not here."""
    for journal in _journals:
        journal._begin()


def _at_exit() -> None:
    for journal in _journals:
        journal.settle()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
