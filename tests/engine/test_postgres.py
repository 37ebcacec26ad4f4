"""What only a server can do wrong: commits out of order, workers that start together, connections that are lost."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
import sqlalchemy as sa

from mixllm_engine import Outcome, StoreError
from mixllm_engine.store import engines, open_store, preparing, schema
from mixllm_engine.store.base import Store
from mixllm_engine.store.sql import SqlStore
from mixllm_engine.types import Label
from tests.engine.stores import OLDER, place, record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(postgres_url: str) -> Iterator[SqlStore]:
    opened = SqlStore(postgres_url)
    yield opened
    opened.close()


def judge(store: Store, decision_id: str) -> None:
    store.add_feedback(decision_id, "user", Label(1.0, 1.0), 0.0)


def observe(store: Store, decision_id: str) -> None:
    store.add_outcome(decision_id, Outcome(candidate="a", response_tokens=3), 0.0)


@pytest.mark.parametrize("append", [judge, observe])
def test_a_row_whose_transaction_commits_late_is_neither_missed_nor_read_twice(
    append: Callable[[Store, str], None], store: SqlStore, postgres_url: str
) -> None:
    for decision_id in ("first", "second"):
        store.add_decision(record(decision_id))
    slow, quick = SqlStore(postgres_url), SqlStore(postgres_url)
    inserted, released = threading.Event(), threading.Event()

    @sa.event.listens_for(slow._engine, "commit")
    def hold(_: sa.Connection) -> None:
        inserted.set()
        assert released.wait(20.0)

    read: list[str] = []
    position = 0

    def follow() -> None:
        nonlocal position
        for row in (store.feedback_after if append is judge else store.outcomes_after)(position, 100):
            position = row.sequence
            read.append(row.decision_id)

    with ThreadPoolExecutor(2) as threads:
        holding = threads.submit(append, slow, "first")
        assert inserted.wait(20.0)
        passing = threads.submit(append, quick, "second")
        wait([passing], timeout=0.5)
        follow()
        released.set()
        holding.result()
        passing.result()
    follow()
    assert read == ["first", "second"]
    slow.close()
    quick.close()


def test_workers_that_prepare_an_empty_database_together_agree(postgres_url: str) -> None:
    gate = threading.Barrier(6)

    def prepare() -> str:
        gate.wait()
        opened = open_store(postgres_url)
        identity = opened.identity
        opened.close()
        return identity

    with ThreadPoolExecutor(6) as threads:
        assert len({future.result() for future in [threads.submit(prepare) for _ in range(6)]}) == 1


def test_an_older_database_is_brought_up_to_date_by_all_or_nothing(
    store: SqlStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_decision(record("d1", explored=True))
    for key, reward in (("user", 1.0), ("judge", 0.5)):
        store.add_feedback("d1", key, Label(reward, 1.0), 4.0)
    rows = [(row.before, row.after) for row in store.feedback_after(0, 100)]
    with store._engine.begin() as connection:
        connection.exec_driver_sql(OLDER)
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_STEPS", {1: (*preparing._STEPS[1], "SELECT no_such_column")})
        with pytest.raises(StoreError, match="no_such_column"):
            open_store(postgres_url)
    columns = {column["name"] for column in sa.inspect(store._engine).get_columns(schema.feedback.name)}
    assert columns == {"decision_id", "key", "reward", "time_s"}
    newer = open_store(postgres_url)
    assert [(row.before, row.after) for row in newer.feedback_after(0, 100)] == rows
    assert newer.exploring_draws() == {"a": 1}
    newer.close()


def test_a_schema_of_something_else_is_refused_and_left_alone(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE customers (name TEXT)")
    with pytest.raises(StoreError, match="a database of something else .tables customers.; give MixLLM .* a schema"):
        open_store(postgres_url)
    assert sa.inspect(engine).get_table_names() == ["customers"]
    engine.dispose()


def test_connections_that_were_lost_at_rest_are_replaced(
    store: SqlStore, postgres_server: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_RESTED_S", 0.0)
    store.add_decision(record("d1"))
    with store._engine.connect() as connection:
        number = connection.execute(sa.func.pg_backend_pid()).scalar_one()
    admin = sa.create_engine(postgres_server)
    with admin.begin() as connection:
        connection.execute(sa.select(sa.func.pg_terminate_backend(number, 5000)))
    admin.dispose()
    judge(store, "d1")
    assert store.counts().feedback == 1


def test_a_server_that_is_gone_is_one_clear_error_until_it_is_back(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"store 'postgresql\+psycopg://user:\*\*\*@/.*connection") as caught:
        open_store(f"postgresql+psycopg://user:sesame@/name?host={tmp_path}")
    assert "sesame" not in str(caught.value)


def test_values_are_not_repeated_in_errors(store: SqlStore) -> None:
    rows = [{"name": "very-private", "value": ""}] * 2
    with pytest.raises(StoreError, match="duplicate key value") as caught, store.writing() as connection:
        connection.execute(sa.insert(schema.meta), rows)
    assert "very-private" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_forked_worker_does_not_share_connections(kind: str, request: pytest.FixtureRequest) -> None:
    where = str(place(kind, request))
    done = subprocess.run([sys.executable, "-c", FORKED, where], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0"] * 4


FORKED = """
import os, sys
import numpy as np
from mixllm_engine.store import open_store
from mixllm_engine.types import Label
from tests.engine.stores import record
store = open_store(sys.argv[1])
store.add_decision(record("d"))
children = []
for worker in range(4):
    child = os.fork()
    if child == 0:
        for step in range(20):
            store.add_feedback("d", f"{worker}-{step}", Label(1.0, 1.0), 0.0)
        os._exit(0)
    children.append(child)
    store.add_feedback("d", f"parent-{worker}", Label(1.0, 1.0), 0.0)
for child in children:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert store.counts().feedback == 84
"""
