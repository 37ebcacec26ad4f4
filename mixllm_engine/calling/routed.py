"""The four ways to carry out a decision: whole or streamed, blocking or not.

What is called is up to the caller: a function from a candidate to an answer. A stream falls back to the next candidate
only before its first token; what a consumer has seen is never taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from mixllm_engine.calling.attempts import Attempts, Recorder
from mixllm_engine.calling.usage import Usage
from mixllm_engine.types import Candidate, Decision

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Reader(Generic[T]):
    """How to read the chunks of a stream.

    Attributes
    ----------
    is_token : callable
        Whether a chunk brings something of the answer (text, reasoning, a tool call).
    usage : callable
        The usage that a chunk reports, or ``None``.
    """

    is_token: Callable[[T], bool]
    usage: Callable[[T], Usage | None]


def call(
    recorder: Recorder, decision: Decision, invoke: Callable[[Candidate], T], usage: Callable[[T], Usage]
) -> tuple[Candidate, T]:
    """Get a whole answer from the first candidate that gives one.

    Raises
    ------
    AllCandidatesFailedError
        If every candidate failed.
    """
    attempts = Attempts(recorder, decision)
    for attempt in attempts:
        try:
            answer = invoke(attempt.candidate)
        except BaseException as error:  # recorded whatever it is; only a provider's failure is not raised again
            if not attempts.failed(attempt, error):
                raise
            continue
        attempt.answered(usage(answer))
        return attempt.candidate, answer
    raise attempts.exhausted()


async def acall(
    recorder: Recorder, decision: Decision, invoke: Callable[[Candidate], Awaitable[T]], usage: Callable[[T], Usage]
) -> tuple[Candidate, T]:
    """Do as `call` does, without blocking; bookkeeping runs in a thread, since a durable store waits for its disk."""
    attempts = Attempts(recorder, decision)
    for attempt in attempts:
        try:
            answer = await invoke(attempt.candidate)
        except Exception as error:
            if not await asyncio.to_thread(attempts.failed, attempt, error):
                raise
            continue
        except BaseException as error:  # a cancelled task must not wait for a thread
            attempts.failed(attempt, error)
            raise
        await asyncio.to_thread(attempt.answered, usage(answer))
        return attempt.candidate, answer
    raise attempts.exhausted()


def stream(
    recorder: Recorder, decision: Decision, invoke: Callable[[Candidate], Iterator[T]], reader: Reader[T]
) -> Generator[tuple[Candidate, T], None, None]:
    """Yield the chunks of the first candidate that begins to answer, each with its candidate."""
    attempts = Attempts(recorder, decision)
    for attempt in attempts:
        begun, used = False, Usage()
        held: list[T] = []  # chunks without content, kept back until the answer really begins
        try:
            with _closed(invoke(attempt.candidate)) as chunks:
                for chunk in chunks:
                    used = reader.usage(chunk) or used
                    held.append(chunk)
                    if not begun and reader.is_token(chunk):
                        begun = True
                        attempt.first_token()
                    if begun:
                        yield from ((attempt.candidate, ready) for ready in _drained(held))
        except BaseException as error:  # recorded whatever it is; only a provider's failure is not raised again
            if not attempts.failed(attempt, error, used):
                raise
            continue
        attempt.answered(used)
        yield from ((attempt.candidate, ready) for ready in held)
        return
    raise attempts.exhausted()


async def astream(
    recorder: Recorder, decision: Decision, invoke: Callable[[Candidate], AsyncIterator[T]], reader: Reader[T]
) -> AsyncGenerator[tuple[Candidate, T], None]:
    """Do as `stream` does, without blocking."""
    attempts = Attempts(recorder, decision)
    for attempt in attempts:
        begun, used = False, Usage()
        held: list[T] = []
        try:
            async with _Aclosed(invoke(attempt.candidate)) as chunks:
                async for chunk in chunks:
                    used = reader.usage(chunk) or used
                    held.append(chunk)
                    if not begun and reader.is_token(chunk):
                        begun = True
                        attempt.first_token()
                    if begun:
                        for ready in _drained(held):
                            yield attempt.candidate, ready
        except Exception as error:
            if not await asyncio.to_thread(attempts.failed, attempt, error, used):
                raise
            continue
        except BaseException as error:  # as above
            attempts.failed(attempt, error, used)
            raise
        await asyncio.to_thread(attempt.answered, used)
        for ready in held:
            yield attempt.candidate, ready
        return
    raise attempts.exhausted()


def _drained(held: list[T]) -> list[T]:
    ready, held[:] = held[:], []
    return ready


@contextmanager
def _closed(chunks: Iterator[T]) -> Iterator[Iterator[T]]:
    """Close a stream however its loop ends, so that an abandoned answer stops costing money."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


class _Aclosed(Generic[T]):
    """Do as `_closed` does. It is no generator: an event loop that ends would close that as well, and both get lost."""

    def __init__(self, chunks: AsyncIterator[T]) -> None:
        self._chunks = chunks

    async def __aenter__(self) -> AsyncIterator[T]:
        return self._chunks

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._chunks, AsyncGenerator):
            with suppress(RuntimeError):  # the loop that ends is closing it just now
                await self._chunks.aclose()
