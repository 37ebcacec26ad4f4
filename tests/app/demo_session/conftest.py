"""A stage that the tests of this folder share, a visit of its own for each, and nobody's keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mixllm_engine.app.demo.session import Visit
from mixllm_engine.app.demo.stage import Stage
from tests.app.demo_stage import make_stage


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    made = make_stage()
    yield made
    made.close()


@pytest.fixture
def visit(stage: Stage) -> Iterator[Visit]:
    made = Visit(stage, seed=0)
    yield made
    made.close()
