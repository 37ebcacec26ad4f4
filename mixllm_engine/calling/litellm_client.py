"""The one place that calls LiteLLM: one HTTP request per attempt, and nothing that LiteLLM would do on its own.

LiteLLM is imported on first use, with its bundled price map. Its retries and those of the SDK below it are off: the
router decides what happens after a failure.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from mixllm_engine.errors import MissingKeyError
from mixllm_engine.types import Candidate

Messages = Sequence[Mapping[str, Any]]

_NO_KEY = "no-key-needed"
# What LiteLLM's streams remember of the provider's own words.
_WHY_IT_ENDED = ("received_finish_reason", "intermittent_finish_reason")


@cache
def load_litellm() -> ModuleType:
    """Import LiteLLM without a request to the network and without its advertisements on standard output."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    return litellm


def endpoint_key(candidate: Candidate) -> str | None:
    """Return the key to send, or ``None`` to leave it to LiteLLM and the provider's environment variable.

    An OpenAI-compatible endpoint of one's own gets no key unless one was given: the key of a paid account must not
    travel to another server just because it is in the environment.
    """
    key = candidate.secret_key()
    if key is None and candidate.api_base is not None and candidate.model.startswith("openai/"):
        host = urlsplit(candidate.api_base).hostname or ""
        return None if host.endswith("openai.com") else _NO_KEY
    return key


def require_key(candidate: Candidate) -> None:
    """Raise `MissingKeyError` that names the environment variable, if the candidate's provider needs one."""
    if endpoint_key(candidate) is not None:
        return
    missing = load_litellm().validate_environment(model=candidate.model, api_base=candidate.api_base)["missing_keys"]
    if missing:
        raise MissingKeyError(
            f"candidate {candidate.name!r} (model {candidate.model!r}) needs a key: set {' and '.join(missing)}, "
            "or give api_key=... to the Candidate"
        )


def call_arguments(candidate: Candidate, messages: Messages, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of one call; what the call says wins over the candidate's own parameters."""
    given = {**candidate.params, **params}
    arguments: dict[str, Any] = {
        **given,
        "model": candidate.model,
        "messages": [dict(message) for message in messages],
        "num_retries": 0,
        "max_retries": 0,
    }
    if candidate.api_base is not None:
        arguments["api_base"] = candidate.api_base
    if (key := endpoint_key(candidate)) is not None:
        arguments["api_key"] = key
    if given.get("stream"):
        arguments["stream_options"] = {"include_usage": True, **(given.get("stream_options") or {})}
    if given.get("tools"):
        # LiteLLM 1.106 imports its optional MCP gateway as soon as there are tools.
        arguments["_skip_mcp_handler"] = True
    return arguments


def complete(candidate: Candidate, messages: Messages, params: Mapping[str, Any]) -> Any:
    """Return a whole answer, a LiteLLM ``ModelResponse``."""
    require_key(candidate)
    return check_choices(load_litellm().completion(**call_arguments(candidate, messages, params)), candidate.model)


async def acomplete(candidate: Candidate, messages: Messages, params: Mapping[str, Any]) -> Any:
    """Return a whole answer without blocking."""
    require_key(candidate)
    response = await load_litellm().acompletion(**call_arguments(candidate, messages, params))
    return check_choices(response, candidate.model)


def stream(candidate: Candidate, messages: Messages, params: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the chunks of an answer; leaving the loop early closes the HTTP response."""
    require_key(candidate)
    chunks = load_litellm().completion(**call_arguments(candidate, messages, {**params, "stream": True}))
    try:
        for chunk in chunks:
            if _ends(chunk):
                check_end(chunks, candidate.model)
            yield chunk
    finally:
        close_stream(chunks)


async def astream(candidate: Candidate, messages: Messages, params: Mapping[str, Any]) -> AsyncIterator[Any]:
    """Yield the chunks of an answer without blocking; leaving the loop early closes the HTTP response."""
    require_key(candidate)
    chunks = await load_litellm().acompletion(**call_arguments(candidate, messages, {**params, "stream": True}))
    try:
        async for chunk in chunks:
            if _ends(chunk):
                check_end(chunks, candidate.model)
            yield chunk
    finally:
        await chunks.aclose()


def close_stream(chunks: Any) -> None:
    """Close the HTTP response below a blocking stream; on one that has ended it does nothing."""
    # LiteLLM's wrapper has no close() of its own; the stream below it has.
    with suppress(AttributeError):
        chunks.completion_stream.close()


def check_choices(response: Any, model: str) -> Any:
    """Return a whole answer, or raise if nothing is in it: some proxies say so, and others don't."""
    if not response.choices:
        message = "the answer has no choices"
        raise load_litellm().APIConnectionError(message=message, llm_provider="", model=model)
    return response


def check_end(chunks: Any, model: str) -> None:
    """Raise if LiteLLM made up the end of a stream that stopped without a word, as LiteLLM itself does from 1.109 on.

    Only where OpenAI's client reads the stream: some other providers never say why they ended.
    """
    by_openai = type(getattr(chunks, "completion_stream", None)).__module__.startswith("openai")
    if by_openai and not any(getattr(chunks, name, "unknown") for name in _WHY_IT_ENDED):
        message = "the stream ended before a finish reason was received"
        raise load_litellm().APIConnectionError(message=message, llm_provider="", model=model)


def _ends(chunk: Any) -> bool:
    return bool(chunk.choices and chunk.choices[0].finish_reason)
