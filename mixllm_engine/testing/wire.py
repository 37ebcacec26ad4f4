"""The chat-completions wire format: behaviours -> JSON objects and stream chunks.

Everything here is a pure function; nothing touches a socket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from mixllm_engine.testing.behaviours import Failure, Reply, ToolCall

Json: TypeAlias = dict[str, Any]

# What the real API puts into an error where the script says nothing.
_USUAL_KIND = {401: "authentication_error", 403: "request_forbidden", 408: "request_timeout", 429: "requests"}
_USUAL_CODE = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What all objects that answer one request have in common."""

    id: str
    created: int
    model: str

    def wrap(self, kind: str, choices: list[Json], **more: object) -> Json:
        """Return a complete response object or stream chunk."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices, **more}


def words(text: str) -> list[str]:
    r"""Cut a text into the pieces that are streamed: words, each with the white space before it.

    Examples
    --------
    >>> words("one  two\n")
    ['one', '  two', '\n']
    """
    return re.findall(r"\s*\S+|\s+", text)


def usage(reply: Reply) -> Json:
    """Return the token counts that a reply reports."""
    reasoning = len((reply.reasoning or "").split())
    spoken = len(reply.text.split()) + sum(len(f"{call.name} {_arguments(call)}".split()) for call in reply.tool_calls)
    response = reasoning + spoken if reply.response_tokens is None else reply.response_tokens
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": response,
        "total_tokens": reply.prompt_tokens + response,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": min(reasoning, response), "audio_tokens": 0},
    }


def completion(reply: Reply, envelope: Envelope) -> Json:
    """Return the answer to a request that did not ask for a stream."""
    message: Json = {"role": "assistant", "content": _content(reply), "refusal": None, "annotations": []}
    if reply.reasoning is not None:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in reply.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}
    return envelope.wrap("chat.completion", [choice], usage=usage(reply), service_tier="default")


def opening(reply: Reply, envelope: Envelope, *, include_usage: bool) -> Json:
    """Return the first chunk of a stream: it names the role and says nothing."""
    delta = {"role": "assistant", "content": None if _content(reply) is None else "", "refusal": None}
    return _chunk(envelope, delta, include_usage=include_usage)


def tokens(reply: Reply, envelope: Envelope, *, include_usage: bool) -> Iterator[Json]:
    """Yield the chunks that carry something: reasoning, then text, then tool calls."""
    for delta in _deltas(reply):
        yield _chunk(envelope, delta, include_usage=include_usage)


def closing(reply: Reply, envelope: Envelope, *, include_usage: bool) -> Iterator[Json]:
    """Yield the finish chunk and, if it was asked for, the chunk that has the usage and no choice."""
    yield _chunk(envelope, {}, include_usage=include_usage, finish_reason=_finish_reason(reply))
    if include_usage:
        yield envelope.wrap("chat.completion.chunk", [], usage=usage(reply))


def error(failure: Failure, *, param: str | None = None) -> Json:
    """Return the body of an error response."""
    usual_kind = "server_error" if failure.status >= 500 else _USUAL_KIND.get(failure.status, "invalid_request_error")
    return {
        "error": {
            "message": failure.message,
            "type": failure.kind or usual_kind,
            "param": param,
            "code": failure.code or _USUAL_CODE.get(failure.status),
        }
    }


def _chunk(envelope: Envelope, delta: Json, *, include_usage: bool, finish_reason: str | None = None) -> Json:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    # With include_usage the real API puts a null usage into every chunk but the last.
    more: Json = {"usage": None} if include_usage else {}
    return envelope.wrap("chat.completion.chunk", [choice], **more)


def _deltas(reply: Reply) -> Iterator[Json]:
    for word in words(reply.reasoning or ""):
        yield {"reasoning_content": word}
    for word in words(reply.text):
        yield {"content": word}
    for index, call in enumerate(reply.tool_calls):
        head = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield {"tool_calls": [head]}
        for piece in words(_arguments(call)):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _content(reply: Reply) -> str | None:
    return None if reply.tool_calls and not reply.text else reply.text


def _arguments(call: ToolCall) -> str:
    return json.dumps(dict(call.arguments), ensure_ascii=False)


def _finish_reason(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
