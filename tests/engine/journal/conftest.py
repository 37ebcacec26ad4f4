"""A journal over a database that does as it is told, soon out of patience."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixllm_engine.store import journal as module
from mixllm_engine.store.journal import Journal
from tests.engine.journal.database import Database


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(module, "_RETRY_S", 0.02)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def journal(database: Database) -> Iterator[Journal]:
    made = Journal(database.write, room=1000)
    yield made
    database.error = None
    database.open.set()
    made.close()
