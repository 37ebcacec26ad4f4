"""Saved files that were exchanged: for another encoder, other candidates or other features."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mixllm_engine import Router, StateError
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.store import open_store
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router
from tests.engine.safe_files.states import FILE, load, taught


def test_a_state_of_another_encoder_under_the_same_name_is_refused(tmp_path: Path) -> None:
    for size in (64, 32):
        with taught(encoder=HashingEncoder(size)) as router:
            router.save(tmp_path / str(size))
    os.rename(tmp_path / "64" / FILE, tmp_path / "spare")
    os.rename(tmp_path / "32" / FILE, tmp_path / "64" / FILE)
    os.rename(tmp_path / "spare", tmp_path / "32" / FILE)
    for size in (64, 32):
        with pytest.raises(StateError, match="learned with another encoder"):
            Router.load(tmp_path / str(size), encoder=HashingEncoder(size))


def test_a_state_of_quite_other_candidates_is_refused(tmp_path: Path) -> None:
    with taught() as router:
        router.save(tmp_path)
    mine = tiny_pool(names=["mine", "yours"])
    with pytest.raises(
        StateError, match="is of the candidates 'cheap', 'dear', 'new', none of which .*'mine', 'yours'"
    ):
        load(tmp_path, candidates=mine)
    with load(tmp_path, candidates=[*mine, *tiny_pool()]) as router:  # a pool that changed is none of another router
        assert router.stats()["candidates"]["cheap"]["labels"] > 0


def test_a_store_that_was_opened_for_a_state_that_is_refused_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taught() as router:
        router.save(tmp_path)
    closed: list[Router] = []
    monkeypatch.setattr(Router, "close", lambda router: closed.append(router))
    with pytest.raises(StateError, match="another router's"):
        load(tmp_path, candidates=tiny_pool(names=["mine"]), store=tmp_path / "log.db")
    assert len(closed) == 1
    closed[0]._store.close()
    store = open_store(None)
    with pytest.raises(StateError, match="another router's"):
        load(tmp_path, candidates=tiny_pool(names=["mine"]), store=store)
    assert len(closed) == 1  # who gave a store goes on with it


@pytest.mark.parametrize(
    "other",
    [
        FeatureConfig(domains="clusters", clusters=3, components=0),
        FeatureConfig(domains="clusters", clusters=2, components=1),
    ],
)
def test_states_over_other_features_of_the_same_length_are_not_mixed(other: FeatureConfig) -> None:
    store = open_store(None)
    with taught(store=store) as router:
        assert router._contexts.features.dimension == 7
        with pytest.raises(StateError, match="learned over the features .*'domains': 'none'.*'domains': 'clusters'"):
            taught(RouterConfig(features=other), store=store)
        # What no map depends on is no difference.
        tiny_router(store=store, config=RouterConfig(features=FeatureConfig(domains="none", components=3, clusters=5)))
        same = FeatureConfig(domains="none", components=3, clusters=5)
        assert tiny_router(store=store, config=RouterConfig(features=same)).stats()["feedback_applied"] == 4
