"""Forks, as servers with several workers make them: what a child inherits is whole, and from then on its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    import sqlalchemy as sa

# As long as SQLite itself waits for a file.
_PATIENCE_S: Final = 30.0


class Forked(Protocol):
    """What a fork has to wait for, or what a child begins anew."""

    def before_fork(self) -> None:
        """Wait until nobody is in the middle of a change, and let nobody begin one."""
        ...

    def after_fork(self, *, in_child: bool) -> None:
        """Let everybody go on; in a child there are no other threads."""
        ...


class Connections:
    """Who uses the connections of a database.

    A child goes on with connections of its own. To PostgreSQL those of its parent are left alone. SQLite's locks belong
    to a process, and what the library knows of them to the file: a child that inherits an open connection believes that
    it holds locks which it does not hold, and loses what it writes. So none is open when a process forks.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._in_file = engine.dialect.name == "sqlite"
        self._begin()
        DATABASES.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._forking = False

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep forks waiting; whoever does so already must not do it again."""
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Close every connection to a file, as soon as nobody uses one."""
        if not self._in_file:
            return
        with self._changed:
            self._forking = True
            self._changed.wait_for(lambda: self._users == 0, _PATIENCE_S)
            self._engine.dispose()

    def after_fork(self, *, in_child: bool) -> None:
        """Let users go on."""
        if in_child:
            self._begin()
            _inherited.append(self._engine.pool)
            self._engine.dispose(close=False)
            return
        with self._changed:
            self._forking = False
            self._changed.notify_all()


_inherited: Final[list[sa.Pool]] = []  # kept, lest the connections are closed, which the parent goes on using

# A fork waits for them in this order: who holds a learned state may be about to use a database.
LEARNED: Final = WeakSet[Forked]()
DATABASES: Final = WeakSet[Forked]()
QUEUES: Final = WeakSet[Forked]()
_fork: Final = threading.Lock()  # one at a time
_held: Final[list[Forked]] = []


def _before_fork() -> None:
    _fork.acquire()
    for forked in chain(LEARNED, DATABASES, QUEUES):
        _held.append(forked)
        forked.before_fork()


def _after_fork(*, in_child: bool) -> None:
    while _held:
        _held.pop().after_fork(in_child=in_child)
    _fork.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(in_child=False),
        after_in_child=lambda: _after_fork(in_child=True),
    )
