"""A URL -> an engine whose connections keep what a store promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy import exc

from mixllm_engine.errors import StoreError
from mixllm_engine.redaction import is_secret

# How long a worker waits for another one: for SQLite's file, or for a lock on PostgreSQL.
BUSY_S: Final = 30.0
# A server whose machine is gone does not say so.
_PATIENCE: Final = {"connect_timeout": 10, "tcp_user_timeout": int(BUSY_S * 1000)}
# A connection that was used so lately is taken to be alive.
_RESTED_S = 1.0
_USED_S: Final = "mixllm_used_s"


def file_url(path: Path) -> sa.URL:
    """Return the URL of a SQLite file, whatever signs its path has."""
    return sa.URL.create("sqlite", database=str(path.expanduser().absolute()))


def make_engine(where: str | sa.URL) -> sa.Engine:
    """Return an engine; how its transactions begin: `store.transactions`.

    Raises
    ------
    StoreError
        If the URL is none, or of a database on which the promises were never proved.
    """
    settings: dict[str, Any] = {"json_serializer": compact_json, "hide_parameters": True}
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
        if engine.dialect.is_async:
            raise StoreError(f"a store needs a driver that is not asynchronous, such as psycopg, not {engine.driver!r}")
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
    else:
        sa.event.listen(engine, "connect", _configure_postgresql)
        sa.event.listen(engine, "checkin", _note_time)
        sa.event.listen(engine, "checkout", _check)
    return engine


def compact_json(value: object) -> str:
    """Return the JSON text of plain values, five times as fast as the standard library does."""
    return to_json(value).decode()


def busy_timeout(seconds: float) -> str:
    """Return the statement that says how long SQLite waits for a file that another program has locked."""
    return f"PRAGMA busy_timeout={int(seconds * 1000)}"


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


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # `store.transactions` says BEGIN
    cursor = connection.cursor()
    cursor.execute(busy_timeout(BUSY_S))
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _configure_postgresql(connection: Any, _record: Any) -> None:
    before, connection.autocommit = connection.autocommit, True  # else the settings would end with the transaction
    cursor = connection.cursor()
    # The second is for a worker whose machine is gone in mid-transaction: the server has not noticed, its locks stay.
    for setting in ("lock_timeout", "idle_in_transaction_session_timeout"):
        cursor.execute(f"SET {setting} = {int(BUSY_S * 1000)}")
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
