"""A call that is decided: what is sent to whom, whichever of the candidates it comes to.

A candidate is called through LiteLLM, in OpenAI's form, or is a LlamaIndex LLM (`_delegates`). The four ways here are
what the drivers of `mixllm_engine.calling.routed` ask of a candidate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.llms.llm import LLM

from llamaindex_mixllm._delegates import Delegate, delegated_usage
from mixllm_engine import Candidate, Decision
from mixllm_engine.calling import Routed, litellm_client, routed
from mixllm_engine.calling.client import CHUNK_READER, response_usage
from mixllm_engine.calling.usage import Usage


@dataclass(frozen=True, kw_only=True)
class Call:
    """What all attempts of one call have in common.

    Attributes
    ----------
    decision : Decision
        Who is to answer, and who if that fails.
    messages : sequence of ChatMessage
        The conversation.
    sent : list of dict
        The same in OpenAI's form.
    params : dict
        Parameters in OpenAI's form; they win over a candidate's own.
    timeout_s : float
        Of a call through LiteLLM, where neither `params` nor the candidate say another. LlamaIndex LLMs have their own.
    models : mapping of str to LLM
        The candidates that are LlamaIndex LLMs, by name.
    """

    decision: Decision
    messages: Sequence[ChatMessage]
    sent: list[dict[str, Any]]
    params: dict[str, Any]
    timeout_s: float
    models: Mapping[str, LLM]

    def complete(self, candidate: Candidate) -> Any:
        """Return a whole answer."""
        if delegate := self._delegate(candidate):
            return delegate.complete()
        return litellm_client.complete(candidate, self.sent, self._litellm(candidate))

    def acomplete(self, candidate: Candidate) -> Awaitable[Any]:
        """Return a whole answer without blocking."""
        if delegate := self._delegate(candidate):
            return delegate.acomplete()
        return litellm_client.acomplete(candidate, self.sent, self._litellm(candidate))

    def stream(self, candidate: Candidate) -> Iterator[Any]:
        """Yield the chunks of an answer."""
        if delegate := self._delegate(candidate):
            return delegate.stream()
        return litellm_client.stream(candidate, self.sent, self._litellm(candidate))

    def astream(self, candidate: Candidate) -> AsyncIterator[Any]:
        """Yield the chunks of an answer without blocking."""
        if delegate := self._delegate(candidate):
            return delegate.astream()
        return litellm_client.astream(candidate, self.sent, self._litellm(candidate))

    def labelled(self, chunk: tuple[Candidate, Any]) -> Routed:
        """Say of a chunk which decision it is from."""
        return Routed(decision=self.decision, candidate=chunk[0], response=chunk[1])

    def _delegate(self, candidate: Candidate) -> Delegate | None:
        llm = self.models.get(candidate.name)
        if llm is None:
            return None
        return Delegate(llm=llm, messages=self.messages, params={**candidate.params, **self.params})

    def _litellm(self, candidate: Candidate) -> dict[str, Any]:
        return {"timeout": candidate.params.get("timeout", self.timeout_s), **self.params}


def usage_of(answer: Any) -> Usage:
    """Read the usage of a whole answer."""
    return (delegated_usage(answer) or Usage()) if isinstance(answer, ChatResponse) else response_usage(answer)


def _chunk_usage(chunk: Any) -> Usage | None:
    return delegated_usage(chunk) if isinstance(chunk, ChatResponse) else CHUNK_READER.usage(chunk)


def _chunk_is_token(chunk: Any) -> bool:
    if not isinstance(chunk, ChatResponse):
        return CHUNK_READER.is_token(chunk)
    thought = chunk.additional_kwargs.get("thinking_delta")
    return bool(chunk.delta or thought or any(isinstance(block, ToolCallBlock) for block in chunk.message.blocks))


READER: routed.Reader[Any] = routed.Reader(is_token=_chunk_is_token, usage=_chunk_usage)
