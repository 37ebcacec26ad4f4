"""Messages, as dictionaries and as those of both frameworks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from mixllm_engine.calling.messages import query_from_messages
from mixllm_engine.testing import tiny_router
from tests.engine.fuzz.drawing import JSON, WORDS, mostly
from tests.engine.fuzz.routers import SMALL, Property, only_ours

TYPES = ["text", "image_url", "input_audio", "file", "tool_result", "tool_use", "document", "media", "thinking"]
BLOCK = mostly(
    WORDS
    | st.fixed_dictionaries(
        {"type": mostly(st.sampled_from(TYPES))},
        optional={"text": mostly(WORDS), "content": JSON, "source": JSON, "mime_type": JSON, "image_url": JSON},
    )
)
CONTENT = mostly(WORDS | st.lists(BLOCK, max_size=4))
MESSAGE = mostly(
    st.fixed_dictionaries(
        {"role": mostly(st.sampled_from(["user", "assistant", "system", "tool"])), "content": CONTENT},
        optional={"tool_calls": JSON, "name": JSON},
    )
)


def message_targets(_: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    router = tiny_router(config=SMALL)
    calls = st.fixed_dictionaries(
        {"messages": mostly(st.lists(MESSAGE, max_size=4))},
        optional={
            "tools": mostly(st.lists(JSON, max_size=2)),
            "response_format": mostly(st.just({"type": "json_object"})),
            "max_output_tokens": mostly(st.integers(1, 100)),
        },
    )

    def routed(call: dict[str, Any]) -> None:
        with only_ours():
            router.decide(query_from_messages(**call))

    return {"messages": (calls, routed)}


def langchain_targets(_: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    messages = pytest.importorskip("langchain_core.messages")
    from langchain_mixllm._messages import for_litellm, outlines

    router = tiny_router(config=SMALL)
    kinds = st.sampled_from(["HumanMessage", "AIMessage", "SystemMessage", "ToolMessage", "ChatMessage"])
    fields = st.fixed_dictionaries(
        {"content": CONTENT},
        optional={
            "name": WORDS,
            "role": WORDS,
            "tool_call_id": WORDS,
            "additional_kwargs": st.dictionaries(WORDS, JSON, max_size=2),
            "response_metadata": st.dictionaries(WORDS | st.just("model_provider"), JSON, max_size=2),
        },
    )

    def routed(drawn: list[tuple[str, dict[str, Any]]]) -> None:
        made = []
        for kind, fields in drawn:
            with suppress(TypeError, ValueError, KeyError):  # no message for LangChain
                made.append(getattr(messages, kind)(**fields))
        with only_ours():
            router.decide(query_from_messages(outlines(made)))
        for_litellm(made)

    return {"messages of LangChain": (st.lists(st.tuples(kinds, fields), max_size=4), routed)}


def llamaindex_targets(_: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    types = pytest.importorskip("llama_index.core.base.llms.types")
    from llamaindex_mixllm._messages import to_openai

    router = tiny_router(config=SMALL)
    blocks: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "TextBlock": {"text": WORDS},
        "ImageBlock": {"image": st.binary(max_size=20), "image_mimetype": WORDS, "detail": WORDS},
        "AudioBlock": {"audio": st.binary(max_size=20), "format": WORDS},
        "DocumentBlock": {"data": st.binary(max_size=20), "document_mimetype": WORDS, "title": WORDS},
        "ThinkingBlock": {"content": WORDS},
        "ToolCallBlock": {"tool_call_id": WORDS, "tool_name": WORDS, "tool_kwargs": JSON},
    }
    block = st.sampled_from(sorted(blocks)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.fixed_dictionaries(blocks[kind]))
    )
    message = st.tuples(
        st.sampled_from([role.value for role in types.MessageRole]),
        st.lists(block, max_size=3),
        st.dictionaries(WORDS | st.sampled_from(["tool_calls", "tool_call_id"]), JSON, max_size=2),
    )

    def routed(drawn: list[Any]) -> None:
        made = []
        for role, parts, more in drawn:
            with suppress(TypeError, ValueError):  # no message for LlamaIndex
                built = [getattr(types, kind)(**fields) for kind, fields in parts]
                made.append(types.ChatMessage(role=role, blocks=built, additional_kwargs=more))
        with only_ours():
            router.decide(query_from_messages(to_openai(made)))

    return {"messages of LlamaIndex": (st.lists(message, max_size=3), routed)}
