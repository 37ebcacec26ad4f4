"""A saved folder on a store whose older rows were dropped meanwhile: what they taught is not lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mixllm_engine import Router
from mixllm_engine.testing import FakeClock, HashingEncoder, tiny_router
from tests.engine.stores import place
from tests.engine.test_retention import KINDS, TABLE, assert_same, config, teach


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def loaded(folder: Path, store: Path | str | None, clock: FakeClock) -> Router:
    return Router.load(folder, store=store, encoder=HashingEncoder(), clock=clock)


@KINDS
@pytest.mark.parametrize("saved_after", [0, 10])
def test_rows_that_were_dropped_since_a_save_still_count(
    saved_after: int, kind: str, request: pytest.FixtureRequest, opened: ExitStack, tmp_path: Path
) -> None:
    store, clock = place(kind, request), FakeClock()
    router = opened.enter_context(tiny_router(store=store, clock=clock, config=config(keep_decisions=5)))
    teach(router, clock, 0, saved_after)
    router.save(tmp_path / "older")
    teach(router, clock, saved_after, 30)
    assert router.prune() > 20
    router.save(tmp_path / "newer")
    teach(router, clock, 40, 5)
    for folder in ("older", "newer"):
        assert_same(opened.enter_context(loaded(tmp_path / folder, store, clock)), router)


def test_rows_that_were_dropped_long_ago_count_beside_a_folder_from_elsewhere(
    opened: ExitStack, tmp_path: Path
) -> None:
    store, clock = tmp_path / "log.db", FakeClock()
    elsewhere = tiny_router(config=config())
    elsewhere.fit(TABLE, progress=False)
    elsewhere.save(tmp_path / "state")
    dropping = config(keep_decisions=5)
    with tiny_router(store=store, clock=clock, config=dropping) as router:
        teach(router, clock, 0, 40)
    shutil.copy(store, tmp_path / "whole.db")
    with tiny_router(store=store, clock=clock, config=dropping) as router:
        assert router.prune() > 30
    late, whole = (
        opened.enter_context(loaded(tmp_path / "state", path, clock)) for path in (store, tmp_path / "whole.db")
    )
    assert_same(late, whole)
    assert late.stats()["candidates"]["dear"]["labels"] > 60
