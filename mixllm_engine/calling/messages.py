"""Messages in OpenAI's form -> the query that is routed.

What is routed is the person's last request: neither the output of tools nor the documents of a harness say what is
asked. The whole prompt counts for cost and for the context window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mixllm_engine.errors import QueryError
from mixllm_engine.types import Capability, Query

_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_ATTACHMENT = 1000
_ATTACHMENTS: dict[str, Capability] = {"image_url": "images", "input_audio": "audio", "file": "pdf"}


def query_from_messages(
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Any] | None = None,
    response_format: Any = None,
    max_output_tokens: int | None = None,
) -> Query:
    """Build the query for a conversation.

    Parameters
    ----------
    messages : sequence of mapping
        Messages with ``role`` and ``content``.
    tools, response_format : optional
        As they will be sent: they say what the candidate must be able to do.
    max_output_tokens : int, optional
        Longest answer that will be asked for.

    Raises
    ------
    QueryError
        If no message has any text or attachment, or something is of another form.

    Examples
    --------
    >>> query = query_from_messages([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}])
    >>> query.text, query.prompt_tokens
    ('Hello?', 13)
    """
    if not isinstance(messages, Sequence) or not all(isinstance(message, Mapping) for message in messages):
        raise QueryError(f"messages must be a list of mappings with role and content, got {type(messages).__name__}")
    if tools is not None and not isinstance(tools, Sequence):
        raise QueryError(f"tools must be a list, got {type(tools).__name__}")
    texts = [(str(message.get("role")), text) for message in messages if (text := _text(message)).strip()]
    asked = [text for role, text in texts if role == "user"] or [text for _, text in texts]
    asked = asked or sorted(_needs(messages))  # an attachment without a word: its kind is all that is known
    if not asked:
        raise QueryError("no message has any text: there is nothing to route")
    needs = _needs(messages) | _format_needs(response_format)
    if tools or any(str(message.get("role")) == "tool" or message.get("tool_calls") for message in messages):
        needs.add("tools")
    return Query(
        text=asked[-1],
        needs=sorted(needs),
        prompt_tokens=sum(_tokens(message) for message in messages) + _size(str(list(tools)) if tools else ""),
        max_output_tokens=max_output_tokens,
        in_tool_loop=str(messages[-1].get("role")) == "tool",
    )


def _blocks(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    elif isinstance(content, Sequence):
        for block in content:
            if not isinstance(block, str | Mapping):
                raise QueryError(f"a part of a message's content is a text or a mapping, not {type(block).__name__}")
            yield {"type": "text", "text": block} if isinstance(block, str) else block


def _text(message: Mapping[str, Any]) -> str:
    blocks = (block.get("text") for block in _blocks(message) if str(block.get("type")) == "text")
    return "\n".join(str(text) for text in blocks if text is not None)


def _needs(messages: Sequence[Mapping[str, Any]]) -> set[Capability]:
    kinds = {str(block.get("type")) for message in messages for block in _blocks(message)}
    return {capability for kind, capability in _ATTACHMENTS.items() if kind in kinds}


def _format_needs(response_format: Any) -> set[Capability]:
    plain = response_format is None or (
        isinstance(response_format, Mapping) and str(response_format.get("type")) == "text"
    )
    return set() if plain else {"json_schema"}


def _tokens(message: Mapping[str, Any]) -> int:
    attachments = sum(str(block.get("type")) in _ATTACHMENTS for block in _blocks(message))
    calls = str(message["tool_calls"]) if message.get("tool_calls") else ""
    return _TOKENS_PER_MESSAGE + _TOKENS_PER_ATTACHMENT * attachments + _size(_text(message)) + _size(calls)


def _size(text: str) -> int:
    """Estimate tokens: providers' own tokenizers differ, and a long history must not be tokenised at every turn."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)
