"""How transactions begin on SQLite and on PostgreSQL, and who waits for whom.

SQLite's driver begins nothing by itself here. That each transaction says how it begins, instead of listeners of the
engine, halves what a short statement takes (130 -> 75 us): SQLAlchemy looks for listeners at every turn, once there is
one.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa

from mixllm_engine.errors import StoreUnavailableError
from mixllm_engine.store import engines

_LOOK_S: Final = 0.001
_LOCKS: Final = 0x4D69784C  # sets our advisory locks apart from those of other programs in the same database
_LOCK_LOG: Final = sa.text("SELECT pg_advisory_xact_lock(:locks, CAST(CAST(CAST(:log AS regclass) AS oid) AS integer))")


class Transactions:
    """The ways to use a database, each for what it is named after.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        From `engines.make_engine`.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._in_file = engine.dialect.name == "sqlite"
        named = engine.url.database if self._in_file and "uri" not in engine.url.query else None
        self._path = os.path.abspath(named) if named else None  # the program may change its folder later
        self._file: tuple[int, int] | None = None  # which one the path led to when it was first written to
        if self._path is not None:
            sa.event.listen(engine, "do_connect", self._check_file)  # SQLite would make a new one
        # One statement alone needs no transaction: on PostgreSQL, that saves two ways to the server and back.
        self._single = engine if self._in_file else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._frozen = engine if self._in_file else engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Begin a transaction; what it wrote is durable when it ends well, and undone when it does not."""
        self._check_file()
        with self._engine.begin() as connection:
            if self._in_file:
                _begin_to_write(connection)
                self._file = self._file or self._found()  # not before: to be opened may give a file another number
            yield connection

    def _found(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path or "")
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_file(self, *_: object) -> None:
        """Refuse a file that is not the one that was opened: SQLite writes on into one that nobody will find again."""
        if self._file is not None and (there := self._found()) != self._file:
            what = "is gone" if there is None else "was replaced while it was open: put it back, or open the store anew"
            raise StoreUnavailableError(f"the store {self._path!r} can't be used: its file {what}")

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection for statements that only read, and wait for nobody."""
        self._check_file()
        with self._single.connect() as connection:
            if self._in_file:
                _begin_to_read(connection)
            yield connection

    @contextmanager
    def asking(self) -> Iterator[sa.Connection]:
        """Give a connection for single statements that only read; each sees a moment of its own."""
        self._check_file()
        with self._single.connect() as connection:
            yield connection

    @contextmanager
    def at_one_moment(self) -> Iterator[sa.Connection]:
        """Begin a transaction that reads much, and sees all of it as it was when it began."""
        self._check_file()
        with self._frozen.connect() as connection:
            if self._in_file:
                _begin_to_read(connection)  # in WAL mode that is enough
            yield connection


def wait_to_prepare(connection: sa.Connection) -> None:
    """Let one transaction at a time make or change the tables; the others then find what it made."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCKS, 0)))


def wait_to_append(connection: sa.Connection, log: sa.Table) -> None:
    """Let one transaction at a time append to a log, right before it does: rows appear in the order of their ids.

    PostgreSQL hands out ids when rows are inserted, but shows rows when their transactions commit, in any order: a
    follower that has read row 8 would never look back for row 7. The lock ends after the rows have become visible, so
    whoever gets the next id commits later. It is an advisory one because a lock of the table would be in the way of
    vacuum; other schemas have logs, and locks, of their own. On SQLite a transaction that writes is alone anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_LOG, {"locks": _LOCKS, "log": log.name})


def _begin_to_read(connection: sa.Connection) -> None:
    _driver(connection).execute("BEGIN")


def _begin_to_write(connection: sa.Connection) -> None:
    """Begin as soon as nobody else writes.

    A reader that turned writer in mid-transaction could not wait for its turn; one that takes the lock first can.
    SQLite's own way of waiting looks ever less often, in the end ten times a second, while the file is free again
    after milliseconds: two workers spent 40 % of their writers' time so (measured), and answered 43 questions a second
    instead of 50.
    """
    until = time.monotonic() + engines.BUSY_S
    driver = _driver(connection)
    driver.execute(engines.busy_timeout(0.0))
    try:
        while not _begun(connection, last_try=time.monotonic() >= until):
            time.sleep(_LOOK_S)
    finally:
        driver.execute(engines.busy_timeout(engines.BUSY_S))


def _begun(connection: sa.Connection, *, last_try: bool) -> bool:
    try:
        _driver(connection).execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if last_try or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # fails again, as an error of SQLAlchemy's
            return True
        return False
    return True


def _driver(connection: sa.Connection) -> Any:
    """Return the driver's connection: through SQLAlchemy, such a statement takes ten times as long."""
    return connection.connection.dbapi_connection
