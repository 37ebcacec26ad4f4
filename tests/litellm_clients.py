"""LiteLLM keeps its clients for ten minutes and leaves them to the garbage collector, in the middle of another test."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from inspect import isawaitable
from typing import Any, TypeVar

Result = TypeVar("Result")


def take_cached() -> list[Any]:
    """Empty LiteLLM's cache of clients, if LiteLLM was imported at all."""
    litellm = sys.modules.get("litellm")
    if litellm is None:
        return []
    cache = litellm.in_memory_llm_clients_cache
    clients = list(cache.cache_dict.values())
    cache.flush_cache()
    return clients


async def close(clients: list[Any]) -> None:
    """Close clients; connections of an async one only if the event loop that made them still runs."""
    for client in clients:
        if isawaitable(closing := client.close()):
            await closing


async def and_close(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Await something, and close LiteLLM's clients before the event loop ends."""
    try:
        return await coroutine
    finally:
        await close(take_cached())


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Do as `asyncio.run`, and close LiteLLM's clients before the event loop ends.

    A thread in which a loop runs already, as Playwright's does as long as its browser is open, leaves it to another.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(and_close(coroutine))
    with ThreadPoolExecutor(max_workers=1) as aside:
        return aside.submit(asyncio.run, and_close(coroutine)).result()
