"""What a scripted server can be told to do, and what it remembers of each request.

A *behaviour* is a small frozen value; `mixllm_engine.testing.server.ScriptedServer` carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One function call in an answer.

    Parameters
    ----------
    name : str
        The function to call.
    arguments : mapping
        Its arguments; sent as a JSON string, as the real API does.
    id : str
        Names the call, so that the tool's result can refer to it. Distinct within one `Reply`.
    """

    name: str
    arguments: Mapping[str, object]
    id: str = "call_1"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A complete, correct answer.

    Parameters
    ----------
    text : str
        The answer. Streamed one word per chunk, white space kept.
    tool_calls : sequence of ToolCall
        Calls that the answer makes, after the text.
    reasoning : str, optional
        Thinking shown before the answer, as ``reasoning_content``.
    prompt_tokens, cached_tokens : int
        Reported usage: tokens in the prompt, and how many of them came from the provider's cache.
    response_tokens : int, optional
        Reported usage of the answer; by default the number of words in everything that is sent.
    finish_reason : str, optional
        By default ``"tool_calls"`` if there are any, else ``"stop"``.
    delay_s : float
        Silence before the first byte, in seconds.
    token_delay_s : float
        Silence between two words of a stream, in seconds. An answer that is not streamed is late by the sum, for
        a model needs the same time to write it.
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    reasoning: str | None = None
    prompt_tokens: int = 11
    response_tokens: int | None = None
    cached_tokens: int = 0
    finish_reason: str | None = None
    delay_s: float = 0.0
    token_delay_s: float = 0.0

    def __post_init__(self) -> None:
        for call in self.tool_calls:
            if not isinstance(call, ToolCall):  # frameworks have classes of the same name
                raise TypeError(f"tool_calls takes ToolCall of {__name__}, got {call!r}")
        ids = [call.id for call in self.tool_calls]
        if len(set(ids)) < len(ids):
            raise ValueError(f"tool calls of one reply need distinct ids, got {ids!r}: give ToolCall(id=...)")
        if not 0 <= self.cached_tokens <= self.prompt_tokens:
            raise ValueError(
                f"cached_tokens is {self.cached_tokens}, allowed is 0 to {self.prompt_tokens} (prompt_tokens)"
            )
        _refuse_negative(self, "delay_s", "token_delay_s")
        if self.response_tokens is not None:
            _refuse_negative(self, "response_tokens")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error in the form in which OpenAI reports errors.

    Parameters
    ----------
    status : int
        HTTP status, 400 to 599.
    message : str
        Human-readable text.
    code : str, optional
        Machine-readable reason, such as ``"context_length_exceeded"``; by default the usual one for the status.
    kind : str, optional
        The error's ``type``, such as ``"insufficient_quota"``; by default the usual one for the status.
    retry_after_s : float, optional
        Sent as ``retry-after-ms``, and rounded up to whole seconds as ``retry-after``.
    delay_s : float
        Silence before the error, in seconds.
    """

    status: int
    message: str = "scripted failure"
    code: str | None = None
    kind: str | None = None
    retry_after_s: float | None = None
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"status {self.status!r} is no HTTP error: give one from 400 to 599")
        _refuse_negative(self, "delay_s")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """An answer that breaks off.

    A stream loses its connection after some words; an answer that is not streamed loses it in mid-body.

    Parameters
    ----------
    text : str
        The answer that never arrives in full.
    after_tokens : int
        How many of its words are sent first (streams only). 0 cuts before the first word.
    clean : bool
        Whether the HTTP body still ends in an orderly way, as behind a proxy that gives up quietly. Then only the
        missing finish chunk and ``[DONE]`` (or the half JSON object) betray the cut, and careless clients take the
        rest for an answer.
    """

    text: str
    after_tokens: int
    clean: bool = False

    def __post_init__(self) -> None:
        _refuse_negative(self, "after_tokens")


@dataclass(frozen=True, kw_only=True)
class Hang:
    """Silence: the request is accepted and nothing is sent; then the connection is closed.

    It ends early when the client disconnects or the server is closed.

    Parameters
    ----------
    seconds : float
        How long to stay silent.
    """

    seconds: float

    def __post_init__(self) -> None:
        _refuse_negative(self, "seconds")


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """HTTP 200 with a body that is not what the client expects.

    Parameters
    ----------
    body : str
        Sent as the JSON body, or as the data of the only event of a stream. An error object
        (``'{"error": {"message": "..."}}'``) makes a stream that fails after its headers.
    """

    body: str


Behaviour: TypeAlias = Reply | Failure | Cut | Hang | Malformed
"""Anything that the server can be told to do with one request."""


@dataclass(frozen=True, kw_only=True)
class RecordedRequest:
    """One HTTP request as the server saw it.

    The body and the key are left out of ``repr``, so that neither prompts nor keys end up in logs and test reports.

    Attributes
    ----------
    model : str
        The model that the body names; empty if it names none.
    body : dict
        The parsed JSON body; empty if it is no JSON object.
    path : str
        Path of the URL.
    stream : bool
        Whether a stream was asked for.
    api_key : str or None
        The bearer token.
    status : int or None
        HTTP status of the answer; None while there is none.
    finished : bool
        Whether the scripted answer, a `Failure` or `Cut` included, was sent to its end.
    disconnected : bool
        Whether the client went away before that.
    """

    model: str
    body: Mapping[str, object] = field(repr=False)
    path: str
    stream: bool
    api_key: str | None = field(repr=False)
    status: int | None = None
    finished: bool = False
    disconnected: bool = False


Step: TypeAlias = Behaviour | Callable[[RecordedRequest], Behaviour]
"""A behaviour, or a function that chooses one for the request at hand."""

Script: TypeAlias = Step | Sequence[Step]
"""A step for every request, or steps for the first, second, ... request, of which the last one repeats."""


def _refuse_negative(behaviour: object, *names: str) -> None:
    for name in names:
        value = getattr(behaviour, name)
        if value < 0:
            raise ValueError(f"{name} is {value!r}, but can't be negative")
