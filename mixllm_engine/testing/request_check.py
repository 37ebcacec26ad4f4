"""Which chat-completions requests the real API would refuse, and why.

Lenient fakes hide mistakes that only show up against a provider: an empty list of tools, a parameter of our own that
leaked into the body, a tool result without its call. This module refuses them. Parameters and messages follow OpenAI's
published request types; ``reasoning_content`` in messages, which several compatible servers take, is allowed too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_PARAMETER_NAMES = """
audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages metadata
modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_options
prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream
stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options
"""
_MESSAGE_KEY_NAMES = """
role content name tool_calls tool_call_id refusal reasoning_content audio function_call annotations
"""
PARAMETERS = frozenset(_PARAMETER_NAMES.split())
MESSAGE_KEYS = frozenset(_MESSAGE_KEY_NAMES.split())
# An assistant may leave its content out if it does one of these instead.
_INSTEAD_OF_CONTENT = ("tool_calls", "function_call", "refusal", "audio")
# role -> the content parts it may have
_PARTS = {
    "system": {"text"},
    "developer": {"text"},
    "user": {"text", "image_url", "input_audio", "file"},
    "assistant": {"text", "refusal"},
    "tool": {"text"},
    "function": set[str](),
}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class InvalidRequestError(ValueError):
    """The real API would answer 400.

    Attributes
    ----------
    param : str or None
        The part of the body that is wrong, as in OpenAI's error objects.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def check(body: Mapping[str, Any]) -> None:
    """Raise `InvalidRequestError` if the real API would refuse this body."""
    model = body.get("model")
    _require(isinstance(model, str) and model != "", "you must provide a model parameter", "model")
    for key in body:
        _require(key in PARAMETERS, f"Unrecognized request argument supplied: {key}", key)
    _check_switches(body)
    _check_numbers(body)
    _check_tools(body)
    _check_messages(body.get("messages"))


def _require(condition: bool, message: str, param: str | None = None) -> None:
    if not condition:
        raise InvalidRequestError(message, param)


def _object(value: object, message: str, param: str | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequestError(message, param)
    return value


def _array(value: object, where: str, param: str | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequestError(f"'{where}' must be an array, got {_kind(value)}", param or where)
    _require(value != [], f"[] is too short - '{where}'", param or where)
    return value


def _check_switches(body: Mapping[str, Any]) -> None:
    stream = body.get("stream")
    _require(stream is None or isinstance(stream, bool), f"'stream' must be a boolean, got {_kind(stream)}", "stream")
    options = body.get("stream_options")
    if options is not None:
        _require(bool(stream), "'stream_options' is only allowed when 'stream' is enabled", "stream_options")
        known = isinstance(options, dict) and set(options) <= {"include_usage", "include_obfuscation"}
        _require(known, "'stream_options' is an object with include_usage, include_obfuscation", "stream_options")
    form = body.get("response_format")
    if form is not None:
        kind = form.get("type") if isinstance(form, dict) else None
        _require(kind in ("text", "json_object", "json_schema"), "Invalid 'response_format.type'", "response_format")
        schema = form.get("json_schema")
        named = kind != "json_schema" or (isinstance(schema, dict) and isinstance(schema.get("name"), str))
        _require(named, "Missing required parameter: 'response_format.json_schema.name'", "response_format")


def _check_numbers(body: Mapping[str, Any]) -> None:
    limits: dict[str, tuple[float, float]] = {
        "temperature": (0, 2),
        "top_p": (0, 1),
        "presence_penalty": (-2, 2),
        "frequency_penalty": (-2, 2),
        "max_tokens": (1, float("inf")),
        "max_completion_tokens": (1, float("inf")),
        "n": (1, 1),  # the one limit that is the scripted server's own
    }
    for name, (low, high) in limits.items():
        value = body.get(name)
        if value is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(number and low <= value <= high, f"'{name}' must be a number from {low} to {high}", name)


def _check_tools(body: Mapping[str, Any]) -> None:
    if "tools" not in body:
        for name in ("tool_choice", "parallel_tool_calls"):
            _require(name not in body, f"'{name}' is only allowed when 'tools' are specified", name)
        return
    names = [_tool_name(tool, f"tools[{index}]") for index, tool in enumerate(_array(body["tools"], "tools"))]
    if "tool_choice" in body:
        _check_tool_choice(body["tool_choice"], names)
    parallel = body.get("parallel_tool_calls", True)
    _require(isinstance(parallel, bool), "'parallel_tool_calls' must be a boolean", "parallel_tool_calls")


def _tool_name(tool: object, where: str) -> str:
    """Return the name of a tool, of a tool choice or of a tool call: they share the outer form."""
    tool = _object(tool, f"Invalid '{where}': expected an object, got {_kind(tool)}", where)
    kind = tool.get("type")
    _require(kind in ("function", "custom"), f"Invalid '{where}.type': expected 'function' or 'custom'", where)
    name = _object(tool.get(str(kind)), f"Missing required parameter: '{where}.{kind}'", where).get("name")
    valid = isinstance(name, str) and _TOOL_NAME.fullmatch(name) is not None
    _require(valid, f"Invalid '{where}.{kind}.name': expected 1 to 64 of a-z, A-Z, 0-9, _ and -", where)
    return str(name)


def _check_tool_choice(choice: object, names: list[str]) -> None:
    if choice in ("auto", "none", "required"):
        return
    chosen = _object(choice, "'tool_choice' must be 'auto', 'none', 'required' or an object", "tool_choice")
    name = _tool_name(chosen, "tool_choice")
    _require(name in names, f"Tool choice {name!r} not found in 'tools' parameter", "tool_choice")


def _check_messages(messages: object) -> None:
    unanswered: set[str] = set()  # ids of tool calls whose results have not come yet
    for index, message in enumerate(_array(messages, "messages")):
        where = f"messages[{index}]"
        _check_message(_object(message, f"Invalid '{where}': expected an object, got {_kind(message)}", where), where)
        if message["role"] == "tool":
            answered = message["tool_call_id"]
            _require(answered in unanswered, f"'{where}' has role 'tool' but answers no preceding 'tool_calls'", where)
            unanswered.discard(answered)
        else:
            _require_answers(unanswered)
            unanswered = {call["id"] for call in message.get("tool_calls") or ()}
    _require_answers(unanswered)


def _require_answers(unanswered: set[str]) -> None:
    message = f"'tool_calls' must be followed by tool messages responding to each id; missing: {sorted(unanswered)}"
    _require(not unanswered, message, "messages")


def _check_message(message: Mapping[str, Any], where: str) -> None:
    role = str(message.get("role"))
    _require(role in _PARTS, f"Invalid '{where}.role': expected one of {sorted(_PARTS)}", where)
    extra = sorted(set(message) - MESSAGE_KEYS)
    _require(not extra, f"Additional properties are not allowed in '{where}': {extra}", where)
    if role == "tool":
        named = isinstance(message.get("tool_call_id"), str)
        _require(named, f"Missing required parameter: '{where}.tool_call_id'", where)
    if "tool_calls" in message:
        _check_tool_calls(message["tool_calls"], role, where)
    _check_content(message, role, where)


def _check_tool_calls(calls: object, role: str, where: str) -> None:
    _require(role == "assistant", f"'{where}.tool_calls' is only allowed in an assistant message", where)
    for index, call in enumerate(_array(calls, f"{where}.tool_calls", where)):
        spot = f"{where}.tool_calls[{index}]"
        _tool_name(call, spot)
        _require(isinstance(call.get("id"), str), f"Missing required parameter: '{spot}.id'", where)
        if call["type"] == "function":
            text = isinstance(call["function"].get("arguments"), str)
            _require(text, f"'{spot}.function.arguments' must be a string with JSON in it", where)


def _check_content(message: Mapping[str, Any], role: str, where: str) -> None:
    content = message.get("content")
    if content is None:
        silent = role == "assistant" and any(message.get(key) for key in _INSTEAD_OF_CONTENT)
        _require(silent or role == "function", f"'{where}.content' must be a string or an array, got null", where)
    elif not isinstance(content, str):
        for index, part in enumerate(_array(content, f"{where}.content", where)):
            _check_part(part, _PARTS[role], f"{where}.content[{index}]")


def _check_part(part: object, allowed: set[str], where: str) -> None:
    part = _object(part, f"Invalid '{where}': expected an object, got {_kind(part)}", where)
    kind = str(part.get("type"))
    _require(kind in allowed, f"Invalid '{where}.type': {kind!r}, expected one of {sorted(allowed)}", where)
    _require(_PAYLOADS[kind](part.get(kind)), f"Invalid or missing '{where}.{kind}'", where)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _has_text(*keys: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(isinstance(value.get(key), str) for key in keys)


# content part -> whether what stands under the key of its own type has the right form
_PAYLOADS: dict[str, Callable[[object], bool]] = {
    "text": _is_text,
    "refusal": _is_text,
    "image_url": _has_text("url"),
    "input_audio": _has_text("data", "format"),
    "file": lambda value: isinstance(value, dict) and bool(value.keys() & {"file_data", "file_id"}),
}


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
