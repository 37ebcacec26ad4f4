"""A store in a file: what is no store is refused and left alone; what was kept survives a kill and tells no secret."""

from __future__ import annotations

import dataclasses
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mixllm_engine import Router, StoreError
from mixllm_engine.store import open_store
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router
from tests.engine.stores import ROOT, SMALL, place, record


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(b"this is not a database, whatever its name says" * 50)
    with pytest.raises(StoreError, match="not a database"):
        open_store(path)
    assert path.read_bytes().startswith(b"this is not")


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(StoreError, match="a database of something else .tables customers."):
        open_store(path)
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


def test_a_truncated_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = open_store(path)
    for step in range(50):
        store.add_decision(record(f"d{step}"))
    store.close()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreError, match="can't be used"):
        broken = open_store(path)
        broken.decision("d49")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nosuchdialect://x", "a SQLite file or a PostgreSQL database, not 'nosuchdialect'"),
        ("mysql://x", "a SQLite file or a PostgreSQL database, not 'mysql'"),
        ("postgresql+nosuchdriver://x", "this one can't be used"),
        ("sqlite:////no/such/folder/log.db", "the store .* can't be used: unable to open database file"),
    ],
)
def test_a_store_out_of_reach_is_one_clear_error(where: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_store(where)


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "100% mine?.db#1"
    open_store(path).close()
    assert path.is_file()


def test_a_password_is_never_shown() -> None:
    with pytest.raises(StoreError) as caught:
        open_store("sqlite://user:sesame@/no/such/folder/x.db")
    assert "sesame" not in str(caught.value)


KILLED = """
import os, signal, sys
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.testing import tiny_router
router = tiny_router(store=sys.argv[1], config=RouterConfig(features=FeatureConfig(domains="none")))
decision = router.decide("What is two and two?")
receipt = router.feedback(decision.decision_id, 1.0)
print(decision.decision_id, receipt.status, decision.candidate, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_acknowledged_feedback_survives_a_kill(kind: str, request: pytest.FixtureRequest) -> None:
    path = place(kind, request)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    decision_id, status, candidate = done.stdout.split()
    assert status == "applied"
    with tiny_router(store=path, config=SMALL) as router:
        stats = router.stats()
        assert (stats["decisions"], stats["feedback_applied"], stats["feedback_pending"]) == (1, 1, 0)
        assert stats["candidates"][candidate]["labels"] == 1.0
        assert router.feedback(decision_id, 1.0).status == "duplicate"


def test_no_prompt_and_no_key_reach_the_files(tmp_path: Path) -> None:
    pool = [dataclasses.replace(c, api_key="sk-very-secret") for c in tiny_pool("http://127.0.0.1:1/v1")]
    with Router(pool, store=tmp_path / "log.db", encoder=HashingEncoder(), config=SMALL) as router:
        decision = router.decide("my confidential question")
        router.feedback(decision, 1.0)
        router.save(tmp_path)
        assert "sk-very-secret" not in repr(router) + str(router.stats()) + str(router.explain(decision.decision_id))
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"127.0.0.1" in raw  # the pool was saved
    assert b"confidential" not in raw
    assert b"sk-very-secret" not in raw
