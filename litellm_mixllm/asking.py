"""A call of LiteLLM's -> what the model gets, and what the router goes by.

LiteLLM hands a provider its parameters in three places, alike on all four paths (whole or streamed, blocking or not):
``optional_params`` has what OpenAI knows and every keyword that LiteLLM does not; ``litellm_params`` has the metadata,
the session and the timeout; headers come alone. So terms may be given as ``budget="low"``, or as
``metadata={"mixllm": {"budget": "low"}}``, the form that passes through the proxy and the frameworks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, cast

from mixllm_engine import ConfigError, Query
from mixllm_engine.calling import Terms
from mixllm_engine.calling.messages import query_from_messages

Messages = Sequence[Mapping[str, Any]]

_TERMS = tuple(Terms.__annotations__)
# The outer call's own affairs: the router calls with its own, and LiteLLM streams to the caller as that asked.
_OUTER = ("stream", "stream_options", "max_retries")
# What LiteLLM puts in where nobody gave a timeout.
_NO_TIMEOUT_S = 600.0
# Some agents hand a tool's output to the model as if the person said it.
_SAID_BY_A_HARNESS = ("Observation:",)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One call.

    Attributes
    ----------
    messages : sequence of mapping
        The conversation.
    params : dict
        What the model gets.
    terms : Terms
        What the router goes by.
    query : Query
        What is routed.
    """

    messages: Messages
    params: dict[str, Any]
    terms: Terms
    query: Query

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Asked:
        """Read what LiteLLM gives a provider.

        Raises
        ------
        ConfigError
            If the terms are of no use.
        QueryError
            If there is nothing to route.
        """
        messages, settings = given["messages"], given.get("litellm_params") or {}
        optional = dict(given["optional_params"])
        terms = {**_from_metadata(settings), **{name: optional.pop(name) for name in _TERMS if name in optional}}
        params = {name: value for name, value in optional.items() if name not in _OUTER}
        params |= _from_around(given, settings)
        query = as_query(messages, params)
        terms.setdefault("session", _session(settings, messages, query, params))
        return cls(messages=messages, params=params, terms=cast(Terms, terms), query=query)


def as_query(messages: Messages, params: Mapping[str, Any]) -> Query:
    """Return what is routed: the person's last request, whatever an agent said in the person's name since."""
    query = query_from_messages(
        messages,
        tools=params.get("tools"),
        response_format=params.get("response_format"),
        max_output_tokens=params.get("max_tokens") or params.get("max_completion_tokens"),
    )
    said = [index for index, by_harness in _said(messages) if not by_harness]
    if not said or said[-1] == max((index for index, _ in _said(messages)), default=-1):
        return query
    asked = query_from_messages(messages[: said[-1] + 1])
    return replace(query, text=asked.text, in_tool_loop=True)


def terms_in(metadata: object) -> dict[str, Any]:
    """Return the terms under ``"mixllm"`` in a call's metadata; raises `ConfigError` where they can't be any."""
    given = metadata.get("mixllm") if isinstance(metadata, Mapping) else None
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not set(given) <= set(_TERMS):
        shown = sorted(map(str, given)) if isinstance(given, Mapping) else given
        raise ConfigError(f'metadata["mixllm"] has {shown!r}; it is a mapping with some of {", ".join(_TERMS)}')
    return dict(given)


def _from_metadata(settings: Mapping[str, Any]) -> dict[str, Any]:
    found = (terms_in(settings.get(name)) for name in ("litellm_metadata", "metadata"))
    return {name: value for terms in found for name, value in terms.items()}


def _from_around(given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    around: dict[str, Any] = {}
    timeout_s = given.get("timeout") or settings.get("timeout")
    if timeout_s is not None and timeout_s != _NO_TIMEOUT_S:
        around["timeout"] = timeout_s
    if given.get("headers"):
        around["extra_headers"] = dict(given["headers"])
    if (user := _user(given)) is not None:
        around["user"] = user
    return around


def _user(given: Mapping[str, Any]) -> str | None:
    """Return the end user, whom LiteLLM keeps from providers that it does not know to take one."""
    details = getattr(given.get("logging_obj"), "model_call_details", None) or {}
    return details.get("user") or None


def _session(settings: Mapping[str, Any], messages: Messages, query: Query, params: Mapping[str, Any]) -> str | None:
    """Return LiteLLM's session, or what all calls of a tool loop have in common; ``None`` = no loop can come."""
    metadata = settings.get("metadata") or {}
    named = settings.get("litellm_session_id") or metadata.get("session_id")
    if named:
        return str(named)
    if not (params.get("tools") or query.in_tool_loop):
        return None
    requests = [str(messages[index].get("content")) for index, by_harness in _said(messages) if not by_harness]
    return f"loop-{blake2b(repr(requests).encode(), digest_size=16).hexdigest()}"


def _said(messages: Messages) -> Iterator[tuple[int, bool]]:
    """Yield where something is said in the person's name, and whether an agent said it."""
    before = ""
    for index, message in enumerate(messages):
        role = str(message.get("role"))
        if role == "user":
            yield index, before == "assistant" and _opening(message).startswith(_SAID_BY_A_HARNESS)
        before = role


def _opening(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = next((block.get("text") for block in content if isinstance(block, Mapping)), None)
    return str(content or "")
