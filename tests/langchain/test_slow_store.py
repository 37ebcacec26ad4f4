"""A slow database holds up no event loop: what is written is written in threads."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from langchain_mixllm import ChatMixLLM
from mixllm_engine.config import ExplorationConfig, FeatureConfig, RouterConfig
from mixllm_engine.store.entries import Entry, Result
from mixllm_engine.store.sql import SqlStore
from mixllm_engine.testing import Failure, Reply, ScriptedServer, tiny_router

WRITE_S = 0.5


@pytest.fixture
def _little_garbage() -> Iterator[None]:
    """Leave aside what other tests left: a collection of a million objects holds up a loop for half a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


async def gaps_s(stop: asyncio.Event) -> list[float]:
    """Return how long each turn of a loop took that does nothing else."""
    turns = [time.perf_counter()]
    while not stop.is_set():
        await asyncio.sleep(0.005)
        turns.append(time.perf_counter())
    return [later - sooner for sooner, later in pairwise(turns)]


@pytest.mark.usefixtures("_little_garbage")
async def test_the_event_loop_goes_on_while_the_database_is_slow(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RouterConfig(
        features=FeatureConfig(domains="none"), exploration=ExplorationConfig(rate=0.0, pulls=0, optimism=0.0)
    )
    with tiny_router(api_base=server.base_url, config=config) as another:  # some things take long the first time
        server.script("cheap", Failure(status=500))
        await ChatMixLLM(router=another, budget="very_low").ainvoke("What does LiteLLM build when a call fails?")
        server.script("cheap", Reply())
    with tiny_router(api_base=server.base_url, store=tmp_path / "log.db", config=config) as router:
        llm = ChatMixLLM(router=router, budget="very_low")
        await llm.ainvoke("What is imported?")
        assert [chunk async for chunk in llm.astream("And in parts?")]
        store = router._store
        assert isinstance(store, SqlStore)
        write = store._journal._write

        def slow(entries: Sequence[Entry], again: bool) -> Sequence[Result]:
            time.sleep(WRITE_S)
            return write(entries, again)

        monkeypatch.setattr(store._journal, "_write", slow)
        server.script("cheap", Failure(status=500))
        stop = asyncio.Event()
        watched = asyncio.create_task(gaps_s(stop))
        started = time.perf_counter()
        failed_over = await llm.ainvoke("question")
        assert failed_over.response_metadata["mixllm"]["candidate"] == "dear"
        answers = await asyncio.gather(*(llm.ainvoke(f"question {number}", force="dear") for number in range(4)))
        assert [chunk async for chunk in llm.astream("And in parts?", force="dear")]
        await llm.afeedback(answers[0], 1.0)
        took_s = time.perf_counter() - started
        stop.set()
        assert max(await watched) < 0.7 * WRITE_S
        assert took_s > 3 * WRITE_S  # the writes were waited for, though not by the loop
        stats = router.stats()
        assert (stats["decisions"], stats["outcomes"], stats["feedback_applied"]) == (8, 9, 1)
