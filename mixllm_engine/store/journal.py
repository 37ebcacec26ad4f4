"""What waits to be written: one thread appends it to the log, as much as there is in each transaction.

Callers wait until their entry is on disk, or hand it over and go on. While the database can't be reached, entries that
may wait do so, and are written when it is back; there is room for a number of them, and what finds none is refused.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakSet

from mixllm_engine.errors import StoreUnavailableError
from mixllm_engine.store import forking
from mixllm_engine.store.entries import Entry, Result

_log = logging.getLogger(__name__)

_MOST_AT_ONCE: Final = 500
# An answer is not held up by a slow disk for longer than this.
_PATIENCE_S: Final = 1.0
# Nor is who has to know that an entry is on disk, by a database that does not even fail.
_LONGEST_S: Final = 60.0
_RETRY_S: Final = 1.0
# A thread with nothing to do ends; the next entry starts another one.
_IDLE_S: Final = 5.0
_CLOSING_S: Final = 10.0


@dataclass(kw_only=True, eq=False, slots=True)
class _Waiting:
    """An entry that is to be written. A `lasting` one is kept while the database can't be reached.

    `watched`: somebody waits for its result, and is told it once.
    """

    entry: Entry
    lasting: bool
    watched: bool
    result: Result = None
    told: threading.Lock = field(default_factory=threading.Lock)  # is free when the result is there
    tried: bool = False

    def __post_init__(self) -> None:
        self.told.acquire()

    def tell(self, result: Result) -> None:
        if self.watched:
            self.watched, self.result = False, result
            self.told.release()


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
        Entries that this process could not keep, and of which nobody was told so.
    """

    def __init__(self, write: Callable[[Sequence[Entry], bool], Sequence[Result]], room: int) -> None:
        self._write = write
        self._room = room
        self._begin()
        forking.QUEUES.add(self)
        _journals.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()  # guards all that follows
        self._queue = deque[_Waiting]()
        self._in_hand = 0  # entries that the thread has taken from the queue
        self._done = 0  # entries that are through, ever
        self._let_go = 0  # how many will be when the last one is that nobody waits for
        self._thread: threading.Thread | None = None
        self._unavailable = False
        self._failures = 0  # how often the database could not be reached, ever
        self._retry_at = 0.0  # where somebody waits, that is at once
        self._slow = False
        self._suspects = 0  # how many are written one by one, because one of them can't be
        self.lost = 0

    @property
    def waiting(self) -> int:
        """Number of entries that are not on disk yet."""
        return self._in_hand + len(self._queue)

    def put(self, entry: Entry, *, lasting: bool, wait: bool = True) -> Result:
        """Hand over an entry; returns what became of it, or ``None`` where that is not known yet.

        Parameters
        ----------
        entry : Entry
            What to append.
        lasting : bool
            Let it wait while the database can't be reached, or is slow, instead of raising.
        wait : bool
            Return when it is on disk. What is not lasting is always waited for.

        Raises
        ------
        UnknownDecisionError
            If the log does not know its decision.
        StoreError
            If it can't be kept. `StoreUnavailableError`: it was not lasting, and the database can't be reached or does
            not answer; or it was, and there is no room left.
        """
        with self._changed:
            if lasting and self.waiting >= self._room:
                raise StoreUnavailableError(f"{self.waiting} entries wait to be written: there is no room for more")
            held_up = self.waiting > 0 and (self._slow or self._unavailable)
            watched = not lasting or (wait and not held_up)
            waiting = _Waiting(entry=entry, lasting=lasting, watched=watched)
            self._queue.append(waiting)
            if watched:
                self._retry_at = 0.0
            else:
                self._let_go = self._done + self.waiting
            self._changed.notify_all()
            started = self._start()
        if not started:
            self._run(0.0)
        return self._result(waiting) if watched else None

    def settle(self) -> None:
        """Wait until what was handed over is through, or it turns out that this will take its time.

        Who waits for an entry by themselves has not been told that it is kept: it is nothing to wait for here.
        """
        with self._changed:
            if self._done < self._let_go:
                self._wait_until(self._let_go, _PATIENCE_S if self._slow else _CLOSING_S)

    def _wait_until(self, done: int, timeout_s: float) -> None:
        failures, self._retry_at = self._failures, 0.0
        self._changed.notify_all()
        if not self._changed.wait_for(
            lambda: self._done >= done or self._failures > failures or self._thread is None, timeout_s
        ):
            self._slow = True

    def close(self) -> None:
        """Write what waits, as far as the database can be reached, and end the thread; a later entry starts another."""
        with self._changed:
            self._wait_until(self._done + self.waiting, _CLOSING_S)
            thread, self._thread = self._thread, None
            if self.waiting:
                _log.error("the store is closed before %d entries were written", self.waiting)
            for waiting in self._queue:
                self._finish(waiting, StoreUnavailableError("the store was closed before this was written"))
            self._queue.clear()
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE_S)

    def gave_up(self) -> None:
        """Count an entry for which there was no room."""
        with self._changed:
            self.lost += 1

    def before_fork(self) -> None:
        """Need nothing: what waits is left to the parent."""

    def after_fork(self, *, in_child: bool) -> None:
        """Begin anew in a child, where the thread is not."""
        if in_child:
            self._begin()

    # -- whoever waits -----------------------------------------------------------------------------------------------

    def _start(self) -> bool:
        """See to it that a thread runs; returns whether there is one."""
        if self._thread is not None:
            return True
        self._thread = threading.Thread(target=self._run, args=(_IDLE_S,), name="mixllm-journal", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is about to end, or there are too many: whoever has the entry writes it
            self._thread = threading.current_thread()
            return False
        return True

    def _result(self, waiting: _Waiting) -> Result:
        if not waiting.told.acquire(timeout=_PATIENCE_S if waiting.lasting else _LONGEST_S):
            with self._changed:
                if waiting.watched:
                    self._slow = True
                    self._let_go = self._done + self.waiting
                    waiting.tell(None if waiting.lasting else self._late(waiting))
        if isinstance(waiting.result, Exception):
            raise waiting.result
        return waiting.result

    def _late(self, waiting: _Waiting) -> StoreUnavailableError:
        try:
            self._queue.remove(waiting)
        except ValueError:
            hope = "it may still be kept, and to give it again does no harm"
        else:
            self._done += 1
            hope = "it was not kept"
        return StoreUnavailableError(f"the database has not answered for {_LONGEST_S:g} s: {hope}")

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self, idle_s: float) -> None:
        """Write until there is nothing to write for a while, or, if that while is 0, until nothing can be written."""
        while batch := self._next(idle_s):
            again = any(waiting.tried for waiting in batch)
            for waiting in batch:
                waiting.tried = True
            try:
                results = self._write([waiting.entry for waiting in batch], again)
            except StoreUnavailableError as error:
                self._interrupted(batch, error, stays=idle_s > 0.0)
            except Exception as error:  # it goes to whoever waits; above a thread there is nobody
                if len(batch) > 1:
                    self._one_by_one(batch)
                else:
                    self._finished(batch, [error])
            else:
                self._finished(batch, results)

    def _next(self, idle_s: float) -> list[_Waiting]:
        """Return what to write now; nothing ends the thread."""
        this = threading.current_thread()
        with self._changed:
            if self._unavailable and idle_s:
                self._changed.wait_for(
                    lambda: self._thread is not this or time.monotonic() >= self._retry_at,
                    self._retry_at - time.monotonic(),
                )
            self._changed.wait_for(lambda: self._queue or self._thread is not this, idle_s)
            if self._thread is not this:
                return []
            if not self._queue:
                self._thread = None
                return []
            many = 1 if self._suspects else min(len(self._queue), _MOST_AT_ONCE)
            batch = [self._queue.popleft() for _ in range(many)]
            self._in_hand += len(batch)
            return batch

    def _one_by_one(self, batch: Sequence[_Waiting]) -> None:
        """Have the next attempts find out which entry can't be written."""
        with self._changed:
            self._in_hand -= len(batch)
            self._queue.extendleft(reversed(batch))
            self._suspects = len(batch)

    def _finished(self, batch: Sequence[_Waiting], results: Sequence[Result]) -> None:
        with self._changed:
            self._in_hand -= len(batch)
            self._suspects = max(0, self._suspects - len(batch))
            for waiting, result in zip(batch, results, strict=True):
                if self._finish(waiting, result):
                    _log.error("a %s is lost: %s", type(waiting.entry).__name__, type(result).__name__)
            if self._unavailable:
                _log.warning("the store can be reached again")
            self._unavailable = self._slow = False
            self._changed.notify_all()

    def _interrupted(self, batch: Sequence[_Waiting], error: StoreUnavailableError, *, stays: bool) -> None:
        """Let go of everybody who waits; what is lasting is kept, in its order."""
        with self._changed:
            self._in_hand -= len(batch)
            closed = self._thread is not threading.current_thread()
            known = [*batch] if closed else [*batch, *self._queue]
            if not closed:
                self._queue = deque(waiting for waiting in known if waiting.lasting)
            for waiting in known:
                if closed or not waiting.lasting:
                    self._finish(waiting, StoreUnavailableError(str(error)))
                else:
                    waiting.tell(None)
            self._let_go = self._done + self.waiting
            if not self._unavailable:
                _log.warning("entries wait to be written: %s", error)
            self._unavailable, self._retry_at = True, time.monotonic() + _RETRY_S
            self._failures += 1
            if not (stays or closed):
                self._thread = None
            self._changed.notify_all()

    def _finish(self, waiting: _Waiting, result: Result) -> bool:
        """Tell whoever waits for an entry; returns whether it is lost and nobody is told so."""
        lost = waiting.lasting and not waiting.watched and isinstance(result, Exception)
        self._done += 1
        self.lost += lost
        waiting.tell(result)
        return lost


_journals: Final = WeakSet[Journal]()


@atexit.register
def _at_exit() -> None:
    for journal in list(_journals):
        journal.close()
