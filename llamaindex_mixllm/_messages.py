"""LlamaIndex's chat messages -> messages in OpenAI's form.

Only what that form knows is carried over. The `additional_kwargs` of a message may come from any integration, so
nothing of them is forwarded but tool calls and the id of the call that a tool's output answers.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import IOBase
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from mixllm_engine import QueryError

Part = dict[str, Any]

_ROLES = {MessageRole.CHATBOT: "assistant", MessageRole.MODEL: "assistant"}


def to_openai(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Convert a conversation; the messages stay as they are.

    Raises
    ------
    QueryError
        If a message has something that no candidate can be sent.

    Examples
    --------
    >>> to_openai([ChatMessage(role="user", content="Hello?", additional_kwargs={"foreign": 1})])
    [{'role': 'user', 'content': 'Hello?'}]
    """
    return [_message(message) for message in messages]


def _message(message: ChatMessage) -> dict[str, Any]:
    role = _ROLES.get(message.role, message.role.value)
    calls = _tool_calls(message) if role == "assistant" else []
    content = _content(message.blocks)
    converted: dict[str, Any] = {"role": role, "content": "" if content is None and not calls else content}
    if calls:
        converted["tool_calls"] = calls
    if role == "tool":
        converted["tool_call_id"] = _required(message, "tool_call_id")
    if role == "function":
        converted["name"] = _required(message, "name")
    return converted


def _required(message: ChatMessage, key: str) -> str:
    if not message.additional_kwargs.get(key):
        raise QueryError(f"a message of role {message.role.value!r} needs additional_kwargs={{{key!r}: ...}}")
    return str(message.additional_kwargs[key])


# -- content ---------------------------------------------------------------------------------------------------------


def _content(blocks: Sequence[ContentBlock]) -> str | list[Part] | None:
    """Return plain text where there is nothing else, which every provider takes; ``None`` if there is no content."""
    parts: list[Part] = []
    for block in blocks:
        if not isinstance(block, CachePoint):
            try:
                parts.extend(_parts(block))
            except (ValueError, OSError) as error:  # LlamaIndex's, where a file is empty, gone or no base64
                raise QueryError(f"a block of type {type(block).__name__} can't be read: {error}") from error
        elif parts:
            parts[-1] = {**parts[-1], "cache_control": block.cache_control.model_dump()}
    if all(part.keys() == {"type", "text"} for part in parts):
        return "\n".join(part["text"] for part in parts) if parts else None
    return [part for part in parts if part.get("text") != ""]  # providers refuse empty parts


def _parts(block: ContentBlock) -> list[Part]:
    match block:
        case TextBlock():
            return [_text(block.text)]
        case ImageBlock():
            return [{"type": "image_url", "image_url": _image(block)}]
        case AudioBlock():
            audio = {"data": _base64(block.resolve_audio()), "format": block.format or "wav"}
            return [{"type": "input_audio", "input_audio": audio}]
        case DocumentBlock():
            return [_document(block)]
        case CitableBlock():
            header = _text(f"{block.title} ({block.source}):")
            return [header, *(part for nested in block.content for part in _parts(nested))]
        case CitationBlock():
            return _parts(block.cited_content)
        case ThinkingBlock() | ToolCallBlock():
            # Thoughts are of use to the model that had them only, and the next answer may come from another one.
            # Tool calls have a place of their own in the message.
            return []
        case _:
            raise QueryError(f"a block of type {type(block).__name__} can't be sent to a candidate")


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _image(block: ImageBlock) -> Part:
    if block.url is not None and not block.image:
        url = str(block.url)  # providers fetch it themselves
    else:
        url = f"data:{block.image_mimetype or 'image/jpeg'};base64,{_base64(block.resolve_image())}"
    return {"url": url, "detail": block.detail} if block.detail else {"url": url}


def _document(block: DocumentBlock) -> Part:
    kind = block.document_mimetype or "application/octet-stream"
    if kind.startswith("text/"):
        return _text(_bytes(block.resolve_document()).decode(errors="replace"))
    data = f"data:{kind};base64,{_base64(block.resolve_document())}"
    return {"type": "file", "file": {"filename": block.title or "document", "file_data": data}}


def _bytes(buffer: IOBase) -> bytes:
    data: bytes = buffer.read()
    return data


def _base64(buffer: IOBase) -> str:
    return b64encode(_bytes(buffer)).decode()


# -- tool calls ------------------------------------------------------------------------------------------------------


def _tool_calls(message: ChatMessage) -> list[dict[str, Any]]:
    """Read the calls from the blocks; messages of older integrations have them in `additional_kwargs` only."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if blocks:
        return [_call(block.tool_call_id, block.tool_name, block.tool_kwargs) for block in blocks]
    calls = message.additional_kwargs.get("tool_calls") or ()
    if not isinstance(calls, Sequence):
        raise QueryError(f"tool_calls in additional_kwargs are a list, not {type(calls).__name__}")
    return [_foreign_call(call) for call in calls]


def _foreign_call(call: Any) -> dict[str, Any]:
    function = _get(call, "function")
    name = _get(function, "name")
    if not isinstance(name, str):
        raise QueryError(f"a tool call in additional_kwargs is not in OpenAI's form: {type(call).__name__}")
    return _call(_get(call, "id"), name, _get(function, "arguments"))


def _call(call_id: str | None, name: str, arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    # Integrations whose provider gives calls no ids let a tool's output refer to the tool by name.
    return {"id": call_id or name, "type": "function", "function": {"name": name, "arguments": text or "{}"}}


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
