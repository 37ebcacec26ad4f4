"""What a user names as a store: any SQLAlchemy URL, as text or as an object, and what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mixllm_engine import StoreError
from mixllm_engine.store import open_store
from mixllm_engine.testing import tiny_router


@pytest.mark.parametrize("where", ["sqlite://", "sqlite:///:memory:", "sqlite+pysqlite:///", sa.make_url("sqlite://")])
def test_a_database_in_memory_is_a_store_in_memory(where: Any) -> None:
    with tiny_router(store=where) as router:
        assert router.feedback(router.decide("hello"), 1.0).status == "applied"
        assert router.stats()["feedback_applied"] == 1


def test_a_url_may_be_an_object(tmp_path: Path) -> None:
    with tiny_router(store=sa.URL.create("sqlite", database=str(tmp_path / "log.db"))) as router:
        assert router.feedback(router.decide("hello"), 1.0).status == "applied"
    assert (tmp_path / "log.db").is_file()


def test_a_program_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "before")
    with tiny_router(store="sqlite:///log.db") as router:
        monkeypatch.chdir(tmp_path / "after")
        with router._store._engine.connect(), router._store._engine.connect():  # type: ignore[attr-defined]
            assert router.feedback(router.decide("hello"), 1.0).status == "applied"
    assert (tmp_path / "before" / "log.db").is_file() and not any((tmp_path / "after").iterdir())


def test_the_password_of_a_url_that_is_an_object_is_used_and_never_shown() -> None:
    url = sa.make_url("postgresql+psycopg://ada:sesame-open@127.0.0.1:1/db")
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert "ada:***@" in str(caught.value)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (b"log.db", "a store is None, a file path, a SQLAlchemy URL or a Store, not bytes"),
        ([], "a SQLAlchemy URL or a Store, not list"),
        ("sqlite+aiosqlite:///log.db", "that is not asynchronous|the driver of this database is missing"),
    ],
)
def test_what_is_no_store_is_one_clear_error(where: Any, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_store(where)
