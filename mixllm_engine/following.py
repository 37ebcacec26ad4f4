"""The log -> the learned state: on demand, and every so often in the background, so that all workers know the same.

Nobody leads: every router reads the same log from where it stopped. Rows are read without the router's lock, so that a
slow database holds up no decision.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final
from weakref import WeakSet, ref

from mixllm_engine.errors import StateError, StoreError
from mixllm_engine.learning.learner import Learner
from mixllm_engine.store.base import Store

_log = logging.getLogger(__name__)


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
        What else is to be done every so often; they may raise `StoreError`.
    forked : sequence of callable
        What is to be done in a process that was forked from this one.
    """

    def __init__(
        self,
        store: Store,
        begin: Callable[[], Learner],
        lock: threading.RLock,
        interval_s: float,
        chores: Sequence[Callable[[], None]] = (),
        forked: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._store = store
        self._begin_learner = begin
        self._known: Learner | None = None
        self.lock = lock
        self._interval_s = interval_s
        self._chores = chores
        self._forked = forked
        self._begun = 0  # how often the log was read
        self._read_at = float("-inf")
        self._behind = False  # whether the last reading failed
        self._stopped = threading.Event()
        self._begin()
        _followers.add(self)

    def _begin(self) -> None:
        self.turn = threading.RLock()  # taken before the router's, never while it is held
        self._thread: threading.Thread | None = None

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
        begun = self._begun
        with self.turn:
            if self._begun > begun:  # another thread has begun, and ended, since this one asked
                return 0
            self._begun += 1
            return self._read(self.learner)

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

    def keep_up(self) -> int:
        """Catch up with everything, and do the chores; returns the number of rows.

        Raises
        ------
        StoreError
            If the store can't be reached; `StateError` if what it keeps is damaged.
        """
        self.renew()
        rows = self.catch_up()
        for chore in self._chores:
            chore()
        return rows

    def try_to_catch_up(self) -> None:
        """Do as `catch_up` does; where the log can't be read now, the next attempt brings it in."""
        self._try(self.catch_up)

    def _try(self, work: Callable[[], int]) -> None:
        try:
            work()
        except (StoreError, StateError) as error:
            if not self._behind:
                _log.warning("what was written lately is learned later: %s", error)
            self._behind = True
        else:
            self._behind = False

    def look(self, now: float) -> None:
        """See to it that the log is read every so often; called before each decision.

        Parameters
        ----------
        now : float
            Seconds of the router's clock.
        """
        if self._store.shared and self._interval_s:
            if self._thread is None or not self._thread.is_alive():
                self._start()
        elif not 0.0 <= now - self._read_at < self._interval_s:
            self._read_at = now
            self.try_to_catch_up()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=10.0)

    # -- in the background -------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self.turn:
            if self._stopped.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            if self._begun == 0:  # the first decision already knows what the log says
                self._try(self.keep_up)
            arguments = (ref(self), self._stopped, self._interval_s)
            self._thread = threading.Thread(target=_follow, args=arguments, name="mixllm-follower", daemon=True)
            self._thread.start()


def _follow(follower: ref[Follower], stopped: threading.Event, interval_s: float) -> None:
    """Catch up until it is stopped or nobody holds the follower any more."""
    while not stopped.wait(interval_s):
        known = follower()
        if known is None:
            return
        known._try(known.keep_up)
        del known


_followers: Final = WeakSet[Follower]()


def _before_fork() -> None:
    """Wait until nobody is in the middle of a change, which a forked worker could never end."""
    _held.extend(follower.lock for follower in _followers)
    for lock in _held:
        lock.acquire()


def _after_fork() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    """Let a forked worker take its own turns; the thread that may have held one is not here."""
    _after_fork()
    for follower in _followers:
        follower._begin()
        for begin in follower._forked:
            begin()


_held: Final[list[threading.RLock]] = []
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
