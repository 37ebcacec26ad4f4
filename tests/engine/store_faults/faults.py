"""What makes a database unusable for a while: it is stopped, locked, moved away, read-only or full."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from mixllm_engine import Router
from mixllm_engine.store.sql import SqlStore
from tests.engine import postgres

SECRET = "sesame"


class Fault(ABC):
    """Something that makes a database unusable for a while."""

    reads_fail = False

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def begin(self, router: Router) -> None: ...

    @abstractmethod
    def end(self) -> None: ...


class Stopped(Fault):
    """The server is gone."""

    reads_fail = True
    server: postgres.Server

    def begin(self, router: Router) -> None:
        self.server.stop()

    def end(self) -> None:
        self.server.start()


class Locked(Fault):
    """Another program holds the file's lock for longer than SQLite waits."""

    def begin(self, router: Router) -> None:
        self._other = sqlite3.connect(sa.make_url(self.url).database or "", isolation_level=None)
        self._other.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self._other.execute("ROLLBACK")
        self._other.close()


class Moved(Fault):
    """Somebody takes the file away, and puts it back."""

    reads_fail = True

    def begin(self, router: Router) -> None:
        self._file = Path(sa.make_url(self.url).database or "")
        self._file.rename(self._file.with_suffix(".away"))

    def end(self) -> None:
        self._file.with_suffix(".away").rename(self._file)


class Pragma(Fault):
    """SQLite refuses to write."""

    fault: str
    well: str

    def begin(self, router: Router) -> None:
        self._now = self.fault
        store = router._store
        assert isinstance(store, SqlStore)

        @event.listens_for(store._engine, "checkout")
        def refuse(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
            connection.execute(f"PRAGMA {self._now}")

    def end(self) -> None:
        self._now = self.well


class ReadOnly(Pragma):
    """The file can't be written to."""

    fault, well = "query_only = ON", "query_only = OFF"


class Full(Pragma):
    """The disk is full."""

    fault, well = "max_page_count = 1", "max_page_count = 1000000"  # no less than it has, so not one more
