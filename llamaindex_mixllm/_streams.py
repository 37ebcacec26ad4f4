"""Streams that are closed all the way down.

LlamaIndex's callback decorators report the chunks of a stream by a generator of their own. When that is closed it does
not close the stream below: this is left to the garbage collector, and never happens while somebody keeps the reported
exception. An answer that nobody reads would go on, and be paid for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, closing
from typing import Any, TypeVar

from llama_index.core.base.llms.base import BaseLLM

S = TypeVar("S")
T = TypeVar("T")
Decorator = Callable[[], Callable[..., Any]]


def observed(
    callback: Decorator, llm: BaseLLM, given: Any, kwargs: dict[str, Any], start: Callable[[], Generator[T, None, None]]
) -> Generator[T, None, None]:
    """Start a stream under a callback decorator.

    Parameters
    ----------
    callback : callable
        ``llm_chat_callback`` or ``llm_completion_callback``.
    llm : BaseLLM
        Whose callbacks are told.
    given, kwargs
        What they are told: the messages or the prompt, and the other arguments of the call.
    start : callable
        Makes the stream.
    """
    sources: list[Generator[T, None, None]] = []

    def begin(_llm: BaseLLM, _given: Any, **_: Any) -> Generator[T, None, None]:
        sources.append(start())
        return sources[0]

    return _linked(callback()(begin)(llm, given, **kwargs), sources[0])


async def aobserved(
    callback: Decorator,
    llm: BaseLLM,
    given: Any,
    kwargs: dict[str, Any],
    start: Callable[[], Awaitable[AsyncGenerator[T, None]]],
) -> AsyncGenerator[T, None]:
    """Do as `observed` does, without blocking."""
    sources: list[AsyncGenerator[T, None]] = []

    async def begin(_llm: BaseLLM, _given: Any, **_: Any) -> AsyncGenerator[T, None]:
        sources.append(await start())
        return sources[0]

    return _alinked(await callback()(begin)(llm, given, **kwargs), sources[0])


def converted(chunks: Generator[S, None, None], convert: Callable[[S], T]) -> Generator[T, None, None]:
    """Convert every chunk of a stream."""
    with closing(chunks):
        for chunk in chunks:
            yield convert(chunk)


async def aconverted(chunks: AsyncGenerator[S, None], convert: Callable[[S], T]) -> AsyncGenerator[T, None]:
    """Convert every chunk of a stream, without blocking."""
    async with aclosing(chunks):
        async for chunk in chunks:
            yield convert(chunk)


def _linked(stream: Generator[T, None, None], source: Generator[T, None, None]) -> Generator[T, None, None]:
    with closing(source), closing(stream):  # the stream first, since it iterates over the source
        yield from stream


async def _alinked(stream: AsyncGenerator[T, None], source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    async with aclosing(source), aclosing(stream):
        async for chunk in stream:
            yield chunk
