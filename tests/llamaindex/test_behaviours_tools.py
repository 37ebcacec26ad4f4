"""Behaviours 11 to 18 of a good LlamaIndex citizen: tools and structured output."""

import sys
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from llamaindex_mixllm import MixLLM
from mixllm_engine.testing import Reply, ScriptedServer

from .behaviours import pool
from .contract import (
    ADD_CALL,
    CITY_PROMPT,
    HELLO,
    PARIS,
    PARIS_CALL,
    QUESTION,
    SUBTRACT_CALL,
    City,
    asked,
    body,
    collected,
    tools,
)


async def test_behaviour_11_one_call_several_or_none(server: ScriptedServer, llm: MixLLM) -> None:
    """The model may call one tool, several where that is allowed, or none."""
    server.script("cheap", Reply(text="Both.", tool_calls=[ADD_CALL, SUBTRACT_CALL]))
    one = await llm.achat_with_tools(tools(), QUESTION)
    assert [call.tool_id for call in llm.get_tool_calls_from_response(one)] == ["call_1"]
    assert [call["id"] for call in one.message.additional_kwargs["tool_calls"]] == ["call_1"]
    assert body(server)["parallel_tool_calls"] is False
    both = llm.chat_with_tools(tools(), QUESTION, allow_parallel_tool_calls=True)
    assert [call.tool_kwargs for call in llm.get_tool_calls_from_response(both)] == [
        {"a": 1, "b": 2},
        {"a": 3, "b": -4},
    ]
    assert both.message.content == "Both."
    server.script("cheap", Reply(text="Three."))
    none = llm.chat_with_tools(tools(), QUESTION)
    assert llm.get_tool_calls_from_response(none, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match="answered with text: 'Three.'"):
        llm.get_tool_calls_from_response(none)


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({}, None),
        ({"tool_required": True}, "required"),
        ({"tool_required": True, "tool_choice": None}, "required"),
        ({"tool_choice": None}, None),
        ({"tool_choice": "auto"}, "auto"),
        ({"tool_choice": "none", "tool_required": True}, "none"),
        ({"tool_choice": "add"}, {"type": "function", "function": {"name": "add"}}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "add"}}},
            {"type": "function", "function": {"name": "add"}},
        ),
    ],
)
def test_behaviour_12_tool_choice_is_said_as_providers_take_it(
    server: ScriptedServer, llm: MixLLM, arguments: dict[str, Any], sent: Any
) -> None:
    """Required, by name or in OpenAI's form; ``None`` is not said at all."""
    llm.chat_with_tools(tools(), QUESTION, **arguments)
    assert body(server).get("tool_choice") == sent


def test_behaviour_13_the_callers_history_stays_as_it_is(server: ScriptedServer, llm: MixLLM) -> None:
    """Neither the list nor the messages in it are changed."""
    history = [ChatMessage(role="system", content="Calculate.")]
    before = [message.model_dump_json() for message in history]
    llm.chat_with_tools(tools(), QUESTION, history)
    assert [message.model_dump_json() for message in history] == before
    assert [message["content"] for message in body(server)["messages"]] == ["Calculate.", QUESTION]


@pytest.mark.parametrize("way", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_behaviour_14_calls_stand_in_both_places(server: ScriptedServer, llm: MixLLM, way: str) -> None:
    """A tool call is a block, and in OpenAI's form in `additional_kwargs`: parts of LlamaIndex read only one place."""
    server.script("cheap", Reply(tool_calls=[ADD_CALL]))
    last = (await asked(llm, way, tools=[tool.metadata.to_openai_tool() for tool in tools()]))[-1]
    block = ToolCallBlock(tool_call_id="call_1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
    assert last.message.blocks == [block]
    function = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    assert last.message.additional_kwargs == {
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}]
    }


async def test_behaviour_15_calls_can_be_read_before_they_are_complete(server: ScriptedServer, llm: MixLLM) -> None:
    """Every chunk of a stream can be asked for its calls; what is no JSON gives no arguments."""
    server.script("cheap", Reply(tool_calls=[ADD_CALL, SUBTRACT_CALL]))
    chunks = list(llm.stream_chat_with_tools(tools(), QUESTION, allow_parallel_tool_calls=True))
    achunks = await collected(await llm.astream_chat_with_tools(tools(), QUESTION, allow_parallel_tool_calls=True))
    for said in (chunks, achunks):
        read = [llm.get_tool_calls_from_response(chunk, error_on_no_tool_call=False) for chunk in said]
        assert [call.tool_kwargs for call in read[-1]] == [{"a": 1, "b": 2}, {"a": 3, "b": -4}]
        assert any(calls and calls[0].tool_kwargs not in ({}, {"a": 1, "b": 2}) for calls in read)
    for bad in ("]{", "[1]", ""):
        block = ToolCallBlock(tool_name="add", tool_kwargs=bad)
        (call,) = llm.get_tool_calls_from_response(ChatResponse(message=ChatMessage(role="assistant", blocks=[block])))
        assert call.tool_kwargs == {}


def test_behaviour_16_histories_of_other_integrations_are_accepted(server: ScriptedServer) -> None:
    """Calls, thoughts and images of a memory are sent or left out; foreign `additional_kwargs` are never forwarded."""
    llm = MixLLM(router=pool(server, cheap={"supports_tools": True, "supports_images": True}))
    call = ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
    foreign = {"decision_id": "x", "usage": {}, "refusal": "no", "name": "n"}
    history = [
        ChatMessage(blocks=[TextBlock(text=QUESTION), ImageBlock(url="https://example.org/a.png")]),
        ChatMessage(
            role="assistant",
            blocks=[ThinkingBlock(content="hm"), TextBlock(text="I add."), call],
            additional_kwargs=foreign,
        ),
        ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "c1", **foreign}),
    ]
    assert llm.chat(history).message.content == "Good day to you"
    sent = body(server)["messages"]
    assert [part["type"] for part in sent[0]["content"]] == ["text", "image_url"]
    function = {"name": "add", "arguments": '{"a": 1, "b": 2}'}
    calls = [{"id": "c1", "type": "function", "function": function}]
    assert sent[1] == {"role": "assistant", "content": "I add.", "tool_calls": calls}
    assert sent[2] == {"role": "tool", "tool_call_id": "c1", "content": "3"}


@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")  # in LlamaIndex's StructuredLLM
async def test_behaviour_17_structured_output_in_all_forms(server: ScriptedServer, llm: MixLLM) -> None:
    """Blocking or not, whole or growing, of a template or a conversation; a model that ignores the tool is an error."""
    server.script("cheap", Reply(tool_calls=[PARIS_CALL]))
    assert llm.structured_predict(City, CITY_PROMPT, country="France") == PARIS
    assert await llm.astructured_predict(City, CITY_PROMPT, country="France") == PARIS
    parts: list[Any] = list(llm.stream_structured_predict(City, CITY_PROMPT, country="France"))
    aparts = await collected(await llm.astream_structured_predict(City, CITY_PROMPT, country="France"))
    for said in (parts, aparts):
        assert said[-1] == PARIS
        assert len(said) > 2  # it grew
    structured = llm.as_structured_llm(City)
    assert structured.complete("Which city?").raw == structured.chat(HELLO).raw == PARIS
    assert (await structured.achat(HELLO)).raw == list(structured.stream_chat(HELLO))[-1].raw == PARIS
    assert {request.body["tool_choice"] for request in server.requests} == {"required"}
    server.script("cheap", Reply(text="Paris, of course."))
    with pytest.raises(ValueError, match="expected at least one tool call.*Paris, of course"):
        llm.structured_predict(City, CITY_PROMPT, country="France")


async def test_behaviour_18_tools_need_no_mcp(
    server: ScriptedServer, llm: MixLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools work where LiteLLM's optional gateway is not installed; `probes` tries all else so, in a new process."""
    monkeypatch.setitem(sys.modules, "mcp", None)
    server.script("cheap", Reply(tool_calls=[ADD_CALL]))
    assert llm.predict_and_call(tools(), QUESTION).response == "3"
    assert (await llm.apredict_and_call(tools(), QUESTION)).response == "3"
    assert (server.count("cheap"), server.count("dear")) == (2, 0)  # it was not taken for the candidate's fault
