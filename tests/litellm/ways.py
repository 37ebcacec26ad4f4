"""The four ways to ask LiteLLM, each down to one whole answer, so that what holds for one can be held for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mixllm_engine.calling.litellm_client import load_litellm

Way = Callable[..., Awaitable[Any]]


async def whole(**call: Any) -> Any:
    return load_litellm().completion(**call)


async def awaited(**call: Any) -> Any:
    return await load_litellm().acompletion(**call)


async def streamed(**call: Any) -> Any:
    chunks = list(load_litellm().completion(**call, stream=True, stream_options={"include_usage": True}))
    return load_litellm().stream_chunk_builder(chunks)


async def streamed_async(**call: Any) -> Any:
    stream = await load_litellm().acompletion(**call, stream=True, stream_options={"include_usage": True})
    return load_litellm().stream_chunk_builder([chunk async for chunk in stream])


WAYS: dict[str, Way] = {"whole": whole, "awaited": awaited, "streamed": streamed, "streamed async": streamed_async}
