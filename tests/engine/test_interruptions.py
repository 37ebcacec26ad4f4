"""Processes that are terminated, interrupted, or forked in the middle of their work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mixllm_engine.calling import RoutedClient
from mixllm_engine.testing import Reply, ScriptedServer
from tests.engine import interrupted
from tests.engine.interrupted import CHILDREN, MESSAGES, STEPS, open_router
from tests.engine.stores import place

# Forked from a process that has imported what takes seconds.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ["pytest", "litellm", "sqlalchemy.dialects.postgresql.psycopg", "tests.engine.interrupted"]
LONG = Reply(text="word " * 2000, token_delay_s=0.05)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as started:
        started.script("cheap", LONG)
        yield started


def started(target: Callable[..., None], *args: object) -> tuple[Any, Any]:
    """Start a process; returns it with our end of its pipe."""
    PROCESSES.set_forkserver_preload(PRELOADED)
    ours, its = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=(*args, its), daemon=True)
    process.start()
    its.close()
    return process, ours


@pytest.mark.parametrize(
    ("how", "kind", "code", "error"),
    [
        ("kill", "sqlite", -signal.SIGTERM, None),
        ("kill", "postgresql", -signal.SIGTERM, None),
        ("exit", "sqlite", 143, "cancelled"),
        ("asyncio", "sqlite", 0, "cancelled"),
    ],
    ids=["by default", "by default, PostgreSQL", "sys.exit", "asyncio"],
)
def test_sigterm_in_mid_stream_ends_in_time_and_loses_nothing(
    how: str, kind: str, code: int, error: str | None, server: ScriptedServer, request: pytest.FixtureRequest
) -> None:
    store = str(place(kind, request))
    process, pipe = started(interrupted.stream_until_terminated, how, store, server.base_url)
    decision_id = pipe.recv()
    told = time.monotonic()
    process.terminate()
    process.join(30.0)
    assert (process.exitcode, time.monotonic() - told < 15.0) == (code, True)
    server.wait_for(lambda record: record.disconnected)  # nobody pays for the rest
    begun = time.monotonic()
    with open_router(store) as router:  # nothing is locked
        stats = router.stats()
        assert (stats["decisions"], stats["feedback_applied"]) == (2, 1)
        outcomes = [outcome.error for outcome in router.explain(decision_id).outcomes]
        assert outcomes == ([] if error is None else [error])
        assert router.feedback(decision_id, 0.5).candidate == "cheap"
    assert time.monotonic() - begun < 15.0
    if kind == "sqlite":
        with sqlite3.connect(store) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        file.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("when", ["after import", "after use"])
def test_parent_and_children_of_a_fork_all_work(when: str, kind: str, request: pytest.FixtureRequest) -> None:
    store = str(place(kind, request))
    process, pipe = started(interrupted.fork, when, store)
    codes, stats = pipe.recv()
    process.join(10.0)
    assert (codes, process.exitcode) == ([0] * CHILDREN, 0)
    everything = STEPS * (CHILDREN + 2 + (when == "after use"))
    assert [stats[what] for what in ("decisions", "outcomes", "feedback_applied")] == [everything] * 3
    assert sum(said["labels"] for said in stats["candidates"].values()) == everything
    with open_router(store) as fresh:
        assert fresh.stats()["candidates"].keys() == stats["candidates"].keys()
        for name, said in fresh.stats()["candidates"].items():
            assert said["labels"] == stats["candidates"][name]["labels"]
            assert said["mean_reward"] == pytest.approx(stats["candidates"][name]["mean_reward"])


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_an_interrupt_in_mid_call_is_passed_on_and_is_no_bad_grade(
    streams: bool, server: ScriptedServer, tmp_path: Path
) -> None:
    server.script("cheap", [Reply(text="ready"), LONG])
    with open_router(str(tmp_path / "log.db"), server.base_url) as router:
        client = RoutedClient(router)
        client.complete(MESSAGES, force="cheap")  # imports, before anybody interrupts
        begun = threading.Event()

        def interrupt() -> None:
            if streams:
                begun.wait(10.0)
            else:
                server.wait_for(lambda _: len(server.requests) == 2, timeout_s=10.0)
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            if streams:
                for _ in client.stream(MESSAGES, force="cheap"):
                    begun.set()
            else:
                client.complete(MESSAGES, force="cheap")
        thread.join()
        stats = router.stats()
        assert (stats["outcomes"], stats["candidates"]["cheap"]["in_flight"]) == (2, 0)
        assert not router.decide("x").scores["cheap"].reason  # and no pause
    server.wait_for(lambda record: record.disconnected)
