"""ChatMessage -> OpenAI's form, for every block there is; what is strange is refused, what is foreign stays behind."""

import json
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from llamaindex_mixllm import MixLLM
from llamaindex_mixllm._messages import to_openai
from mixllm_engine import QueryError, Router
from mixllm_engine.testing import Reply, ScriptedServer, ToolCall

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 24
PNG_URL = "data:image/png;base64," + b64encode(PNG).decode()
PDF = b"%PDF-1.4 ..."
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def converted(*blocks: Any, role: str = "user", **additional: Any) -> dict[str, Any]:
    (message,) = to_openai([ChatMessage(role=MessageRole(role), blocks=list(blocks), additional_kwargs=additional)])
    return message


@pytest.mark.parametrize(
    ("role", "sent"),
    [
        ("system", "system"),
        ("developer", "developer"),
        ("user", "user"),
        ("assistant", "assistant"),
        ("chatbot", "assistant"),
        ("model", "assistant"),
    ],
)
def test_roles(role: str, sent: str) -> None:
    assert converted(TextBlock(text="hi"), role=role) == {"role": sent, "content": "hi"}


def test_texts_are_joined_as_llamaindex_joins_them() -> None:
    blocks = [TextBlock(text="one"), TextBlock(text="two")]
    assert converted(*blocks)["content"] == ChatMessage(blocks=blocks).content == "one\ntwo"


def test_no_content_is_empty_content() -> None:
    assert converted() == {"role": "user", "content": ""}


@pytest.mark.parametrize(
    ("block", "part"),
    [
        (ImageBlock(image=PNG), {"type": "image_url", "image_url": {"url": PNG_URL}}),
        (
            ImageBlock(url="https://example.org/a.png", detail="low"),
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        ),
        (
            AudioBlock(audio=b"RIFF\0\0\0\0WAVE", format="wav"),
            {"type": "input_audio", "input_audio": {"data": b64encode(b"RIFF\0\0\0\0WAVE").decode(), "format": "wav"}},
        ),
        (
            DocumentBlock(data=PDF, title="a.pdf", document_mimetype="application/pdf"),
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64," + b64encode(PDF).decode()},
            },
        ),
        (DocumentBlock(data=b"plain words", document_mimetype="text/plain"), {"type": "text", "text": "plain words"}),
    ],
    ids=["image", "image-url", "audio", "pdf", "text-document"],
)
def test_attachments(block: Any, part: dict[str, Any]) -> None:
    content = converted(TextBlock(text="see"), block, ImageBlock(url="https://example.org/b.png"))["content"]
    assert content[0] == {"type": "text", "text": "see"}
    assert content[1] == part


def test_buffers_are_read() -> None:
    if "IOBase" not in str(ImageBlock.model_fields["image"].annotation):
        pytest.skip("this version of LlamaIndex takes no buffers")
    content = converted(ImageBlock(image=BytesIO(PNG), image_mimetype="image/png"))["content"]
    assert content == [{"type": "image_url", "image_url": {"url": PNG_URL}}]


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    content = converted(ImageBlock(path=tmp_path / "a.png"))["content"]
    assert content == [{"type": "image_url", "image_url": {"url": PNG_URL}}]


def test_attachments_need_candidates_that_take_them(server: ScriptedServer, router: Router) -> None:
    message = ChatMessage(blocks=[TextBlock(text="What is this?"), ImageBlock(image=PNG)])
    with pytest.raises(LookupError, match="does not support images"):
        MixLLM(router=router).chat([message])


def test_empty_texts_are_left_out_beside_attachments() -> None:
    content = converted(TextBlock(text=""), ImageBlock(url="https://example.org/a.png"))["content"]
    assert [part["type"] for part in content] == ["image_url"]


def test_a_cache_point_marks_what_stands_before_it() -> None:
    point = CachePoint(cache_control=CacheControl(type="ephemeral"))
    marked = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "5m"}}
    assert converted(TextBlock(text="long"), point, TextBlock(text="short"))["content"] == [
        marked,
        {"type": "text", "text": "short"},
    ]
    assert converted(point, TextBlock(text="short"))["content"] == "short"


def test_citable_and_cited_texts() -> None:
    block = CitableBlock(title="Guide", source="guide.md", content=[TextBlock(text="Turn left.")])
    assert converted(block)["content"] == "Guide (guide.md):\nTurn left."
    cited = CitationBlock(
        cited_content=TextBlock(text="Turn left."), source="guide.md", title="Guide", additional_location_info={}
    )
    assert converted(cited, role="assistant")["content"] == "Turn left."


def test_thoughts_stay_behind() -> None:
    message = converted(ThinkingBlock(content="secret"), TextBlock(text="four"), role="assistant")
    assert message == {"role": "assistant", "content": "four"}


def test_a_block_that_nobody_takes_is_an_error() -> None:
    with pytest.raises(QueryError, match="VideoBlock"):
        converted(VideoBlock(video=b"0000", video_mimetype="video/mp4"))


# -- tool calls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}'])
def test_calls_from_blocks(arguments: Any) -> None:
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs=arguments)
    assert converted(block, role="assistant") == {"role": "assistant", "content": None, "tool_calls": [CALL]}


class Attributes:
    """A call as the objects of other integrations have it."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        Attributes(id="c1", function=Attributes(name="add", arguments='{"a": 1}')),
        {"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}},
    ],
    ids=["dict", "object", "parsed"],
)
def test_calls_from_additional_kwargs(call: Any) -> None:
    assert converted(role="assistant", tool_calls=[call])["tool_calls"] == [CALL]


def test_calls_are_not_sent_twice() -> None:
    block = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1})
    assert converted(block, role="assistant", tool_calls=[CALL])["tool_calls"] == [CALL]


def test_calls_without_an_id_go_by_their_name() -> None:
    assert converted(ToolCallBlock(tool_name="add"), role="assistant")["tool_calls"][0]["id"] == "add"


def test_calls_in_an_unknown_form_are_an_error() -> None:
    with pytest.raises(QueryError, match="not in OpenAI's form"):
        converted(role="assistant", tool_calls=[{"name": "add", "input": {}}])


def test_results_refer_to_their_call() -> None:
    result = {"role": "tool", "content": "3", "tool_call_id": "c1"}
    assert converted(TextBlock(text="3"), role="tool", tool_call_id="c1") == result
    with pytest.raises(QueryError, match="tool_call_id"):
        converted(TextBlock(text="3"), role="tool")


def test_foreign_additional_kwargs_are_never_forwarded() -> None:
    foreign = {"decision_id": "x", "tool_call_id": "c1", "usage": {}, "refusal": "no", "name": "n"}
    assert converted(TextBlock(text="hi"), role="user", **foreign, tool_calls=[CALL]) == {
        "role": "user",
        "content": "hi",
    }
    assert converted(TextBlock(text="hi"), role="assistant", **foreign) == {"role": "assistant", "content": "hi"}


def test_the_history_of_a_modern_agent_is_accepted_by_a_strict_server(server: ScriptedServer, router: Router) -> None:
    """What one candidate said, with thoughts and calls, is sent to another."""
    server.script("cheap", Reply(text="I add.", reasoning="hm", tool_calls=[ToolCall(name="add", arguments={"a": 1})]))
    llm = MixLLM(router=router)
    asked = ChatMessage(content="What is 1 + 2?")
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    said = llm.chat([asked], tools=tools).message
    result = ChatMessage(role=MessageRole.TOOL, content="3", additional_kwargs={"tool_call_id": "call_1"})
    history = [asked, said, result]
    before = [message.model_dump_json() for message in history]
    assert llm.chat(history, tools=tools, force="dear").message.content == "A very good day"
    assert [message.model_dump_json() for message in history] == before
    sent: Any = server.requests[-1].body["messages"]
    assert sent[1]["content"] == "I add."
    assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert sent[2] == {"role": "tool", "tool_call_id": "call_1", "content": "3"}
