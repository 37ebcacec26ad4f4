"""The log -> the learned state: on demand, and every so often in the background, so that all workers know the same.

Nobody leads: every router reads the same log from where it stopped. Rows are read without the router's lock, and by a
thread of their own once decisions are made, so that a slow database holds up nobody for long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final
from weakref import finalize, ref

from mixllm_engine.decision.gate import Gate
from mixllm_engine.errors import StateError, StoreError
from mixllm_engine.learning.learner import Learner
from mixllm_engine.store import forking
from mixllm_engine.store.base import Store

_log = logging.getLogger(__name__)
_BATCH: Final = 1000

# Nobody waits longer than this for what is learned anyway, soon after.
_PATIENCE_S: Final = 1.0
_CLOSING_S: Final = 10.0


class Follower:
    """Keeps a learner up to date with a log.

    Parameters
    ----------
    store : Store
        The log.
    begin : callable
        Makes a learner that begins with what the store keeps.
    lock : threading.RLock
        Guards the learner.
    interval_s : float
        How often other workers' rows are looked for.
    chores : sequence of callable
        What else is to be done that often, one at a time; they may raise `StoreError`.
    forked : sequence of callable
        What is to be done in a process that was forked from this one.
    gate : Gate, optional
        Of a rollout: judged answers are its evidence.
    """

    def __init__(
        self,
        store: Store,
        begin: Callable[[], Learner],
        lock: threading.RLock,
        interval_s: float,
        chores: Sequence[Callable[[], None]] = (),
        forked: Sequence[Callable[[], None]] = (),
        gate: Gate | None = None,
    ) -> None:
        self._store = store
        self._begin_learner = begin
        self._known: Learner | None = None
        self.lock = lock
        self._interval_s = interval_s
        self._chores = chores
        self._forked = forked
        self._looked_at = float("-inf")
        self._stopped = False
        self._gate = gate
        self._begin()
        forking.LEARNED.add(self)

    def _begin(self) -> None:
        self.turn = threading.RLock()  # taken before the router's, never while it is held
        self._begun = 0  # how often the log was read ...
        self._ended_well = 0  # ... and which of these readings was the latest that succeeded
        self._brought_in = 0  # how much this process had written when that began
        self._thread: threading.Thread | None = None
        self._late = False  # whether the log can't be read now, or only slowly
        self._progress = threading.Condition()
        self._awaited = list[Callable[[], bool]]()  # what threads wait for: each says whether it has come
        self._wake = threading.Event()
        finalize(self, self._wake.set).atexit = False  # ends the thread of a follower that nobody stopped

    @property
    def learner(self) -> Learner:
        """The learned state; made on first use, because the features need the encoder."""
        if self._known is None:
            with self.lock:
                self._known = self._known or self._begin_learner()
        return self._known

    def catch_up(self) -> int:
        """Bring in what the log holds by now, whoever wrote it; returns the number of rows.

        Raises
        ------
        StoreError
            If the log can't be read.
        """
        asked = self._begun
        with self.turn:
            if self._ended_well > asked:  # another thread has begun, and succeeded, since this one asked
                return 0
            self._begun += 1
            written = self._store.written
            folded = self._read(self.learner)
            if self._gate is not None:
                self._read_for(self._gate)
            self._ended_well, self._brought_in = self._begun, written
            self._tell()
            return folded

    def _read_for(self, gate: Gate) -> None:
        while rows := self._store.feedback_after(gate.position, _BATCH):
            for row in rows:
                if row.before is None:  # what is judged again later is no new evidence
                    gate.judged(row.reason, row.ranking[0], row.propensity, row.after)
            gate.position = rows[-1].sequence
        gate.settle()

    def _read(self, learner: Learner) -> int:
        folded, more = 0, True
        while more:
            news = learner.news(self._store)
            with self.lock:
                folded += learner.fold(news)
            more = news.more
        return folded

    def renew(self) -> None:
        """Begin anew where another worker has changed what the log begins with, by a table or by dropping old rows.

        Until the new learner has read the log, decisions are made with the old one.
        """
        with self.turn:
            older = self.learner
            if self._store.state_number(older.encoder) != older.based_on:
                newer = self._begin_learner()
                self._read(newer)
                with self.lock:
                    newer.follows(older)
                    self._known = newer

    def refresh(self) -> int:
        """Bring in all that the store holds by now, tables of others too; returns the number of rows.

        Raises
        ------
        StoreError
            If the store can't be reached; `StateError` if what it keeps is damaged.
        """
        with self.turn:
            self.renew()
            return self.catch_up()

    def keep_up(self) -> int:
        """Refresh, and do the chores, one thread at a time; returns the number of rows. Raises what `refresh` does."""
        with self.turn:
            rows = self.refresh()
            for chore in self._chores:
                chore()
            return rows

    def try_to_catch_up(self) -> None:
        """Do as `catch_up` does; what can't be read now, or takes its time, is brought in by the next attempt."""
        asked = self._begun
        self._attempt(lambda: self._ended_well > asked)

    def try_to_bring_in(self) -> None:
        """Bring in what this process has written by now, as `try_to_catch_up` does; it may be under way already."""
        written = self._store.written
        self._attempt(lambda: self._brought_in >= written)

    def _attempt(self, done: Callable[[], bool]) -> None:
        if not self._in_background():
            self._try(self.catch_up)
            return
        with self._progress:
            if done():
                return
            self._awaited.append(done)
            self._wake.set()
            try:
                if not self._progress.wait_for(lambda: self._late or done(), _PATIENCE_S):
                    self._late = True
            finally:
                self._awaited.remove(done)

    def look(self, now: float) -> None:
        """See to it that the log is read every so often; called before each decision.

        Parameters
        ----------
        now : float
            Seconds of the router's clock.
        """
        if self._store.shared and self._interval_s:
            if not self._in_background():
                self._start()
        elif not 0.0 <= now - self._looked_at < self._interval_s:
            self._looked_at = now
            self._try(self.catch_up)

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING_S)

    def before_fork(self) -> None:
        """Wait until nobody is in the middle of a change, which a forked worker could never end."""
        self.lock.acquire()

    def after_fork(self, *, in_child: bool) -> None:
        """Let a forked worker take its own turns; the thread that may have held one is not here."""
        self.lock.release()
        if in_child:
            self._begin()
            for begin in self._forked:
                begin()

    # -- in the background -------------------------------------------------------------------------------------------

    def _in_background(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _start(self) -> None:
        with self.turn:
            if self._stopped or self._in_background():
                return
            if self._begun == 0:  # the first decision already knows what the log says
                self._try(self.keep_up)
            arguments = (ref(self), self._wake, self._interval_s)
            self._thread = threading.Thread(target=_follow, args=arguments, name="mixllm-follower", daemon=True)
            self._thread.start()

    def _work(self, *, due: bool) -> None:
        if due:
            self._try(self.keep_up)
        elif self._late or any(not done() for done in list(self._awaited)):
            self._try(self.catch_up)

    def _try(self, work: Callable[[], int]) -> None:
        try:
            work()
        except (StoreError, StateError) as error:
            if not self._late:
                _log.warning("what was written lately is learned later: %s", error)
            self._late = True
            self._tell()
        else:
            self._late = False

    def _tell(self) -> None:
        with self._progress:
            self._progress.notify_all()


def _follow(follower: ref[Follower], wake: threading.Event, interval_s: float) -> None:
    """Catch up whenever somebody wants it, and every so often, until it is stopped or nobody holds the follower."""
    due_s = time.monotonic() + interval_s
    while True:
        wake.wait(max(0.0, due_s - time.monotonic()))
        wake.clear()
        known = follower()
        if known is None or known._stopped:
            return
        due = time.monotonic() >= due_s
        known._work(due=due)
        if due:
            due_s = time.monotonic() + interval_s
        del known
