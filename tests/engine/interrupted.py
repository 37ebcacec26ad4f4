"""What the processes of the tests of interruptions do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from mixllm_engine import Outcome, Router
from mixllm_engine.calling import RoutedClient
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.config import ExplorationConfig, FeatureConfig, RouterConfig
from mixllm_engine.testing import tiny_router

CONFIG = RouterConfig(features=FeatureConfig(domains="none"), exploration=ExplorationConfig(rate=0.0))
MESSAGES = [{"role": "user", "content": "What is two and two?"}]
CHILDREN, STEPS = 3, 10


def open_router(store: str, address: str | None = None) -> Router:
    return tiny_router(address, store=store, config=CONFIG)


def stream_until_terminated(how: str, store: str, address: str, parent: Connection) -> None:
    """Give feedback that is acknowledged, then read a stream; the parent sends SIGTERM in the middle."""
    router = open_router(store, address)
    first = router.decide("What is two and two?")
    router.feedback(first, 1.0)
    client = RoutedClient(router)
    load_litellm()
    if how == "asyncio":
        asyncio.run(_read(client, parent))
        return
    if how == "exit":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number, chunk in enumerate(client.stream(MESSAGES, force="cheap")):
        _say(parent, number, chunk)


async def _read(client: RoutedClient, parent: Connection) -> None:
    """Read a stream in a task that SIGTERM cancels, as servers do."""
    task = asyncio.ensure_future(_read_stream(client, parent))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        client.router.close()


async def _read_stream(client: RoutedClient, parent: Connection) -> None:
    decision = await client.adecide(MESSAGES, force="cheap")
    number = 0
    async for chunk in client.astream(MESSAGES, decision=decision):
        _say(parent, number, chunk)
        number += 1


def _say(parent: Connection, number: int, chunk: Any) -> None:
    if number == 1:  # the answer has begun, and goes on
        parent.send(chunk.decision.decision_id)


def fork(when: str, store: str, parent: Connection) -> None:
    """Fork workers after the import alone, or when a router was used; all of them decide and give feedback."""
    router = open_router(store) if when == "after use" else None
    if router is not None:
        work(router, "before")
    children = []
    for child in range(CHILDREN):
        if not (pid := os.fork()):
            code = 1
            try:
                work(router or open_router(store), f"child {child}")
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    router = router or open_router(store)
    work(router, "parent")
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    work(router, "after")
    stats = router.stats()
    router.close()
    parent.send((codes, stats))


def work(router: Router, who: str) -> None:
    for step in range(STEPS):
        decision = router.decide(f"question {step} of {who}")
        router.dispatched(decision.decision_id, decision.candidate)
        router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=5 + step))
        assert router.feedback(decision, step / STEPS).candidate == decision.candidate
        assert router.explain(decision.decision_id).outcomes[0].response_tokens == 5 + step
