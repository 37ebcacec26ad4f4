"""A chat client in OpenAI's form that routes: decide, call, fall back, record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from mixllm_engine.calling import litellm_client, routed
from mixllm_engine.calling.litellm_client import Messages
from mixllm_engine.calling.messages import query_from_messages
from mixllm_engine.calling.usage import Usage
from mixllm_engine.decision.budget import Budget
from mixllm_engine.router import Router
from mixllm_engine.types import Candidate, Decision


class Terms(TypedDict, total=False):
    """The conditions of one call, as `Router.decide` takes them."""

    budget: Budget | None
    willingness_to_pay: float | None
    max_wait_s: float | None
    allow: list[str] | None
    deny: list[str]
    force: str | None
    session: str | None


@dataclass(frozen=True, kw_only=True)
class Routed:
    """An answer, or a chunk of one, with where it came from.

    Attributes
    ----------
    decision : Decision
        The decision; its id is the reference for feedback.
    candidate : Candidate
        Who answered; another than the decision's first choice after a fallback.
    response : object
        LiteLLM's response or chunk.
    """

    decision: Decision
    candidate: Candidate
    response: Any

    @property
    def text(self) -> str:
        """The text of the answer or chunk."""
        choices = self.response.choices
        part = getattr(choices[0], "message", None) or getattr(choices[0], "delta", None) if choices else None
        return (part.content or "") if part is not None else ""


class RoutedClient:
    """Chat completions that are routed.

    In every call `params` go to the model and `terms` to the router; a `decision` that was made before is carried out
    instead of a new one.

    Parameters
    ----------
    router : Router
        Who decides and learns.

    Examples
    --------
    >>> from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
    >>> with ScriptedServer() as server:
    ...     for name in ("cheap", "dear"):
    ...         server.script(name, Reply(text=f"Hello from {name}."))
    ...     router = tiny_router(api_base=server.base_url)
    ...     answer = RoutedClient(router).complete([{"role": "user", "content": "Hello?"}], force="cheap")
    >>> answer.text
    'Hello from cheap.'
    >>> router.feedback(answer.decision, reward=1.0).status
    'applied'
    """

    def __init__(self, router: Router) -> None:
        self.router = router

    def complete(
        self,
        messages: Messages,
        params: Mapping[str, Any] | None = None,
        *,
        decision: Decision | None = None,
        **terms: Unpack[Terms],
    ) -> Routed:
        """Return a whole answer."""
        decision, given = decision or self.decide(messages, params, **terms), self._params(params)
        candidate, response = routed.call(
            self.router, decision, lambda c: litellm_client.complete(c, messages, given), response_usage
        )
        return Routed(decision=decision, candidate=candidate, response=response)

    async def acomplete(
        self,
        messages: Messages,
        params: Mapping[str, Any] | None = None,
        *,
        decision: Decision | None = None,
        **terms: Unpack[Terms],
    ) -> Routed:
        """Return a whole answer without blocking."""
        decision, given = decision or await self.adecide(messages, params, **terms), self._params(params)
        candidate, response = await routed.acall(
            self.router, decision, lambda c: litellm_client.acomplete(c, messages, given), response_usage
        )
        return Routed(decision=decision, candidate=candidate, response=response)

    def stream(
        self,
        messages: Messages,
        params: Mapping[str, Any] | None = None,
        *,
        decision: Decision | None = None,
        **terms: Unpack[Terms],
    ) -> Generator[Routed, None, None]:
        """Decide now, and return the chunks of the answer; the call begins with the first `next`."""
        decision, given = decision or self.decide(messages, params, **terms), self._params(params)
        return _labelled(
            decision,
            routed.stream(self.router, decision, lambda c: litellm_client.stream(c, messages, given), CHUNK_READER),
        )

    def astream(
        self,
        messages: Messages,
        params: Mapping[str, Any] | None = None,
        *,
        decision: Decision | None = None,
        **terms: Unpack[Terms],
    ) -> AsyncGenerator[Routed, None]:
        """Do as `stream` does, without blocking but for the decision; make that with `adecide` where it matters."""
        decision, given = decision or self.decide(messages, params, **terms), self._params(params)
        return _alabelled(
            decision,
            routed.astream(self.router, decision, lambda c: litellm_client.astream(c, messages, given), CHUNK_READER),
        )

    def decide(self, messages: Messages, params: Mapping[str, Any] | None = None, **terms: Unpack[Terms]) -> Decision:
        """Choose for a conversation without calling anyone."""
        litellm_client.load_litellm()  # takes seconds the first time: not to be counted as a candidate's latency
        given = params or {}
        query = query_from_messages(
            messages,
            tools=given.get("tools"),
            response_format=given.get("response_format"),
            max_output_tokens=given.get("max_tokens") or given.get("max_completion_tokens"),
        )
        return self.router.decide(query, **terms)

    async def adecide(
        self, messages: Messages, params: Mapping[str, Any] | None = None, **terms: Unpack[Terms]
    ) -> Decision:
        """Do as `decide` does, in a thread: encoding takes milliseconds, and a durable store waits for its disk."""
        return await asyncio.to_thread(self.decide, messages, params, **terms)

    def _params(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        return {"timeout": self.router.config.calling.timeout_s, **(params or {})}


def _labelled(
    decision: Decision, chunks: Generator[tuple[Candidate, Any], None, None]
) -> Generator[Routed, None, None]:
    with closing(chunks):
        for candidate, chunk in chunks:
            yield Routed(decision=decision, candidate=candidate, response=chunk)


async def _alabelled(
    decision: Decision, chunks: AsyncGenerator[tuple[Candidate, Any], None]
) -> AsyncGenerator[Routed, None]:
    async with aclosing(chunks):
        async for candidate, chunk in chunks:
            yield Routed(decision=decision, candidate=candidate, response=chunk)


def response_usage(response: Any) -> Usage:
    """Read the usage of a whole LiteLLM response."""
    return Usage.from_openai(getattr(response, "usage", None))


def _chunk_usage(chunk: Any) -> Usage | None:
    usage = getattr(chunk, "usage", None)
    return None if usage is None else Usage.from_openai(usage)


def _chunk_is_token(chunk: Any) -> bool:
    if not chunk.choices:
        return False
    delta = chunk.choices[0].delta
    return bool(delta.content or delta.tool_calls or getattr(delta, "reasoning_content", None))


CHUNK_READER: routed.Reader[Any] = routed.Reader(is_token=_chunk_is_token, usage=_chunk_usage)
