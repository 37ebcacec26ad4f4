"""Writers that are soon out of patience, and a server that may be stopped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixllm_engine import following
from mixllm_engine.store import journal
from tests.engine import postgres


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(journal, "_RETRY_S", 0.05)
    monkeypatch.setattr(following, "_PATIENCE_S", 0.2)


@pytest.fixture(scope="package")
def server() -> Iterator[postgres.Server]:
    with postgres.own_server() as running:
        yield running
