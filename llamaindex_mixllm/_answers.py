"""LiteLLM's responses and chunks, and those of LlamaIndex LLMs that are candidates -> LlamaIndex's responses.

Every response carries where it came from and what it used::

    raw                   the provider's response as a plain dict, with "usage" and "mixllm"
    raw["mixllm"]         decision_id (the reference for feedback), candidate, model, propensity, explored
    additional_kwargs     prompt_tokens, completion_tokens, total_tokens; in streams thinking_delta
    message               text, thoughts and tool calls, and nothing of ours: others splat it into their next request
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ContentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from llamaindex_mixllm._delegates import delegated_raw
from mixllm_engine.calling import Routed

_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One tool call; `arguments` is JSON, incomplete while it is streamed."""

    call_id: str
    name: str
    arguments: str

    def block(self) -> ToolCallBlock:
        """Return it as a block, with its arguments parsed once they are complete."""
        return ToolCallBlock(tool_call_id=self.call_id, tool_name=self.name, tool_kwargs=_parsed(self.arguments))

    def openai(self) -> dict[str, Any]:
        """Return it in OpenAI's form."""
        return {
            "id": self.call_id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


def chat_response(routed: Routed) -> ChatResponse:
    """Convert a whole answer."""
    if isinstance(routed.response, ChatResponse):
        return _relayed(routed, routed.response)
    said = routed.response.choices[0].message
    calls = [
        Call(call_id=call.id or _new_id(), name=call.function.name or "", arguments=call.function.arguments or "")
        for call in said.tool_calls or ()
    ]
    raw = _raw(routed)
    message = assistant(said.content or "", getattr(said, "reasoning_content", None) or "", calls)
    return ChatResponse(message=message, raw=raw, additional_kwargs=_usage(raw))


def completion_response(routed: Routed) -> CompletionResponse:
    """Convert a whole answer to a prompt."""
    if isinstance(routed.response, ChatResponse):
        return _relayed_completion(routed, routed.response)
    raw = _raw(routed)
    return CompletionResponse(text=routed.text, raw=raw, additional_kwargs=_usage(raw))


class StreamedAnswer:
    """What has been said so far; every chunk is converted to a response of its own that shares nothing with others."""

    def __init__(self) -> None:
        self._text = ""
        self._thoughts = ""
        self._calls: list[Call] = []
        self._places: dict[int, int] = {}  # index in the stream -> position in `_calls`

    def chat(self, routed: Routed) -> ChatResponse:
        """Convert one chunk."""
        if isinstance(routed.response, ChatResponse):
            return _relayed(routed, routed.response)  # it holds what was said before, too
        text, thought = self._add(routed)
        raw = _raw(routed)
        more = {"thinking_delta": thought} if thought else {}
        message = assistant(self._text, self._thoughts, self._calls)
        return ChatResponse(message=message, delta=text, raw=raw, additional_kwargs={**_usage(raw), **more})

    def completion(self, routed: Routed) -> CompletionResponse:
        """Convert one chunk of the answer to a prompt."""
        if isinstance(routed.response, ChatResponse):
            return _relayed_completion(routed, routed.response)
        text, _ = self._add(routed)
        raw = _raw(routed)
        return CompletionResponse(text=self._text, delta=text, raw=raw, additional_kwargs=_usage(raw))

    def _add(self, routed: Routed) -> tuple[str, str]:
        """Take a chunk in; returns the text and the thought that it brings."""
        choices = routed.response.choices
        if not choices:
            return "", ""  # some providers send the usage this way
        delta = choices[0].delta
        text, thought = delta.content or "", getattr(delta, "reasoning_content", None) or ""
        self._text += text
        self._thoughts += thought
        for piece in delta.tool_calls or ():
            self._add_call(piece)
        return text, thought

    def _add_call(self, piece: Any) -> None:
        place = self._places.get(piece.index)
        name, arguments = piece.function.name or "", piece.function.arguments or ""
        if place is None or (piece.id and piece.id != self._calls[place].call_id):
            # Some providers give every call the index 0; a new id is a new call.
            self._places[piece.index] = len(self._calls)
            self._calls.append(Call(call_id=piece.id or _new_id(), name=name, arguments=arguments))
            return
        known = self._calls[place]
        self._calls[place] = Call(call_id=known.call_id, name=known.name or name, arguments=known.arguments + arguments)


def assistant(text: str, thoughts: str, calls: list[Call]) -> ChatMessage:
    """Build a message; tool calls stand in it twice, since parts of LlamaIndex look in one place only."""
    blocks: list[ContentBlock] = [ThinkingBlock(content=thoughts)] if thoughts else []
    if text or not calls:
        blocks.append(TextBlock(text=text))
    blocks.extend(call.block() for call in calls)
    more = {"tool_calls": [call.openai() for call in calls]} if calls else {}
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=more)


def _relayed(routed: Routed, said: ChatResponse) -> ChatResponse:
    raw = _raw(routed)
    thought = said.additional_kwargs.get("thinking_delta")
    additional = {**_usage(raw), **({"thinking_delta": thought} if thought else {})}
    return ChatResponse(
        message=said.message, delta=said.delta, raw=raw, logprobs=said.logprobs, additional_kwargs=additional
    )


def _relayed_completion(routed: Routed, said: ChatResponse) -> CompletionResponse:
    raw = _raw(routed)
    return CompletionResponse(
        text=said.message.content or "",
        delta=said.delta,
        raw=raw,
        logprobs=said.logprobs,
        additional_kwargs=_usage(raw),
    )


def _raw(routed: Routed) -> dict[str, Any]:
    decision = routed.decision
    mixllm = {
        "decision_id": decision.decision_id,
        "candidate": routed.candidate.name,
        "model": routed.candidate.model,
        "propensity": decision.propensity,
        "explored": decision.explored,
    }
    response = routed.response
    told = delegated_raw(response) if isinstance(response, ChatResponse) else response.model_dump()
    return {**told, "mixllm": mixllm}


def _usage(raw: dict[str, Any]) -> dict[str, Any]:
    usage = raw.get("usage") or {}
    return {name: usage[name] for name in _USAGE if name in usage}


def _parsed(arguments: str) -> dict[str, Any] | str:
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _new_id() -> str:
    return f"call_{uuid4().hex}"
