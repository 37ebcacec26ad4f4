"""A database that is gone or locked at the start is one clear error; who waits for a writer begins right after it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from mixllm_engine import StoreError, StoreUnavailableError
from mixllm_engine.store import engines, open_store, transactions
from mixllm_engine.store.sql import SqlStore
from tests.engine import postgres
from tests.engine.store_faults.faults import SECRET
from tests.engine.stores import ask, router_on


def test_a_database_that_is_gone_at_the_start_is_one_clear_error(server: postgres.Server, tmp_path: Path) -> None:
    with postgres.empty_schema(server.url) as url:
        secret = sa.make_url(url).set(password=SECRET).render_as_string(hide_password=False)
        server.stop()
        try:
            with pytest.raises(
                StoreUnavailableError, match=r"store 'postgresql\+psycopg://.*' can't be used"
            ) as caught:
                router_on(secret)
        finally:
            server.start()
        assert SECRET not in str(caught.value)
        with router_on(secret) as router:
            ask(router)
    with pytest.raises(StoreError, match="the store 'sqlite:.*' can't be used: unable to open database file"):
        router_on(f"sqlite:///{tmp_path / 'no such folder' / 'log.db'}")


def test_a_file_that_another_program_locks_at_the_start_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_S", 0.1)
    path = tmp_path / "log.db"
    open_store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="database is locked"):
            router_on(f"sqlite:///{path}")
    router_on(f"sqlite:///{path}").close()


def test_who_waits_for_another_writer_begins_right_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, looks = tmp_path / "log.db", 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert seconds <= 0.002  # not the tenth of a second that SQLite's own patience ends with
        if looks == 200:
            other.rollback()

    with (
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
        closing(SqlStore(f"sqlite:///{path}")) as store,
    ):
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(transactions, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
        store.forget_workers(["nobody"])
        assert looks == 200
        with store.writing() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000  # for all else
