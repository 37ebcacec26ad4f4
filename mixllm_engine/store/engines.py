"""A URL -> an engine whose transactions keep what a store promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from mixllm_engine.errors import StoreError
from mixllm_engine.redaction import is_secret

# How long a worker waits for another one: for SQLite's file, or for a lock on PostgreSQL.
_BUSY_S: Final = 30.0
_LOOK_S: Final = 0.001
# A server whose machine is gone does not say so.
_PATIENCE: Final = {"connect_timeout": 10, "tcp_user_timeout": int(_BUSY_S * 1000)}
# A connection that was used so lately is taken to be alive.
_RESTED_S = 1.0
_USED_S: Final = "mixllm_used_s"
_BEGIN: Final = "mixllm_begin"
_LOCKS: Final = 0x4D69784C  # sets our advisory locks apart from those of other programs in the same database
_LOCK_LOG: Final = sa.text("SELECT pg_advisory_xact_lock(:locks, CAST(CAST(CAST(:log AS regclass) AS oid) AS integer))")


def file_url(path: Path) -> sa.URL:
    """Return the URL of a SQLite file, whatever signs its path has."""
    return sa.URL.create("sqlite", database=str(path.expanduser().absolute()))


def make_engine(where: str | sa.URL) -> sa.Engine:
    """Return an engine for transactions that write.

    Raises
    ------
    StoreError
        If the URL is none, or of a database on which the promises were never proved.
    """
    settings: dict[str, Any] = {"json_serializer": _compact_json, "hide_parameters": True}
    try:
        url = _url(where)
        backend = url.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise StoreError(f"a store is a SQLite file or a PostgreSQL database, not {backend!r}")
        if backend == "postgresql":
            # The server's administrator may have chosen another isolation; but locks are useless where a transaction
            # does not see what was committed while it waited for one.
            patience = {name: value for name, value in _PATIENCE.items() if name not in url.query}
            settings |= {"isolation_level": "READ COMMITTED", "connect_args": patience}
        engine = sa.create_engine(url, **settings)
    except ImportError as error:
        raise StoreError(
            f"the driver of this database is missing ({error}); for PostgreSQL: pip install 'mixllm[postgres]', and a "
            "URL that begins with postgresql+psycopg://"
        ) from error
    except (exc.ArgumentError, exc.NoSuchModuleError) as error:
        raise StoreError(f"a store is a file path or a SQLAlchemy URL; this one can't be used: {error}") from error
    if backend == "sqlite":
        _keep_private(url)
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    else:
        sa.event.listen(engine, "connect", _configure_postgresql)
        sa.event.listen(engine, "checkin", _note_time)
        sa.event.listen(engine, "checkout", _check)
    return engine


def shown(url: sa.URL) -> str:
    """Return how errors call a database: without passwords, wherever in the URL they stand.

    Examples
    --------
    >>> shown(sa.make_url("postgresql+psycopg://ada:1234@host/db?password=5678&sslmode=require"))
    'postgresql+psycopg://ada:***@host/db?sslmode=require'
    """
    secret = [name for name in url.query if is_secret(name)]
    return url.difference_update_query(secret).render_as_string(hide_password=True)


def _url(where: str | sa.URL) -> sa.URL:
    try:
        return sa.make_url(where)
    except ValueError:
        pass  # SQLAlchemy's error would repeat what it took for a port, which may be the rest of a password
    raise StoreError(
        "the URL of the store can't be read: its port is not a number. In a password, write @ as %40, : as %3A and / "
        "as %2F; urllib.parse.quote_plus does that"
    )


def _keep_private(url: sa.URL) -> None:
    """Make a new SQLite file for its owner only; SQLite's further files take over its mode."""
    if url.database and url.database != ":memory:" and "uri" not in url.query:
        with suppress(OSError):  # it is there already, or SQLite will say what is wrong
            os.close(os.open(url.database, os.O_CREAT | os.O_EXCL, 0o600))


def reading(engine: sa.Engine) -> sa.Engine:
    """Return the same engine for transactions that only read; they wait for nobody."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="AUTOCOMMIT")  # saves two ways to the server and back
    return engine.execution_options(**{_BEGIN: "BEGIN"})


def asking(engine: sa.Engine) -> sa.Engine:
    """Return the same engine for single statements that only read; each sees one moment without a transaction."""
    if engine.dialect.name == "postgresql":
        return reading(engine)
    return engine.execution_options(**{_BEGIN: ""})


def at_one_moment(engine: sa.Engine) -> sa.Engine:
    """Return the same engine for transactions that read much and see all of it as it was when they began."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ")
    return reading(engine)  # in WAL mode that is so anyway


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


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    for pragma in (_busy_timeout(_BUSY_S), "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A reader that turns writer in mid-transaction could not wait for its turn; one that took the lock first can.
    statement = connection.get_execution_options().get(_BEGIN)
    if statement is None:
        _wait_to_write(connection)
    elif statement:
        connection.exec_driver_sql(statement)


def _wait_to_write(connection: sa.Connection) -> None:
    """Begin as soon as nobody else writes.

    SQLite's own way of waiting looks ever less often, in the end ten times a second, while the file is free again
    after milliseconds: two workers spent 40 % of their writers' time so (measured), and answered 43 questions a second
    instead of 50.
    """
    until = time.monotonic() + _BUSY_S
    connection.exec_driver_sql(f"PRAGMA {_busy_timeout(0.0)}")
    try:
        while not _begun(connection, last_try=time.monotonic() >= until):
            time.sleep(_LOOK_S)
    finally:
        connection.exec_driver_sql(f"PRAGMA {_busy_timeout(_BUSY_S)}")


def _begun(connection: sa.Connection, *, last_try: bool) -> bool:
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except exc.OperationalError as error:
        busy = isinstance(error.orig, sqlite3.Error) and error.orig.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
        if last_try or not busy:
            raise
        return False
    return True


def _busy_timeout(seconds: float) -> str:
    return f"busy_timeout={int(seconds * 1000)}"


def _configure_postgresql(connection: Any, _record: Any) -> None:
    before, connection.autocommit = connection.autocommit, True  # else the settings would end with the transaction
    cursor = connection.cursor()
    # The second is for a worker whose machine is gone in mid-transaction: the server has not noticed, its locks stay.
    for setting in ("lock_timeout", "idle_in_transaction_session_timeout"):
        cursor.execute(f"SET {setting} = {int(_BUSY_S * 1000)}")
    cursor.close()
    connection.autocommit = before


def _note_time(_connection: Any, record: Any) -> None:
    record.info[_USED_S] = time.monotonic()


def _check(connection: Any, record: Any, _proxy: Any) -> None:
    """Have a connection replaced that was lost while it rested; to ask each time would cost a third more time."""
    if time.monotonic() - record.info.get(_USED_S, math.inf) < _RESTED_S:
        return
    try:
        connection.cursor().execute("SELECT 1")
        connection.rollback()
    except connection.OperationalError as error:
        raise exc.DisconnectionError from error


def _compact_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
