"""Tools, structured output and agents: what is asked of the model, and what is made of its answer."""

import json
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine import Candidate, NoEligibleCandidateError, Router
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, ToolCall

QUESTION = "What is 1 + 2?"
ADD_CALL = ToolCall(name="add", arguments={"a": 1, "b": 2})
TWO_CALLS = (ADD_CALL, ToolCall(name="add", arguments={"a": 3, "b": 4}, id="call_2"))


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class City(BaseModel):
    """A city and its country."""

    name: str
    country: str


PARIS = ToolCall(name="City", arguments={"name": "Paris", "country": "France"})
CITY_PROMPT = PromptTemplate("Which city is the capital of {country}?")


@pytest.fixture
def tool() -> FunctionTool:
    return FunctionTool.from_defaults(add)


@pytest.fixture
def calling(server: ScriptedServer) -> ScriptedServer:
    server.script("cheap", Reply(tool_calls=[ADD_CALL]))
    return server


def body(server: ScriptedServer, index: int = -1) -> dict[str, Any]:
    return dict(server.requests[index].body)


# -- what is asked ---------------------------------------------------------------------------------------------------


async def test_chat_with_tools(calling: ScriptedServer, llm: MixLLM, tool: FunctionTool) -> None:
    history = [ChatMessage(role=MessageRole.SYSTEM, content="Calculate.")]
    for response in (
        llm.chat_with_tools([tool], QUESTION, history),
        await llm.achat_with_tools([tool], QUESTION, history),
    ):
        block = ToolCallBlock(tool_call_id="call_1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
        assert response.message.blocks == [block]
        assert response.message.content is None
        in_openai_form = {
            "id": "call_1",
            "type": "function",
            "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'},
        }
        assert response.message.additional_kwargs == {"tool_calls": [in_openai_form]}
        (selection,) = llm.get_tool_calls_from_response(response)
        assert (selection.tool_id, selection.tool_name, selection.tool_kwargs) == ("call_1", "add", {"a": 1, "b": 2})
    assert len(history) == 1
    sent = body(calling)
    assert [message["content"] for message in sent["messages"]] == ["Calculate.", QUESTION]
    assert [described["function"]["name"] for described in sent["tools"]] == ["add"]
    assert sent["parallel_tool_calls"] is False
    assert "tool_choice" not in sent


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
def test_tool_choice(
    calling: ScriptedServer, llm: MixLLM, tool: FunctionTool, arguments: dict[str, Any], sent: Any
) -> None:
    llm.chat_with_tools([tool], QUESTION, **arguments)
    assert body(calling).get("tool_choice") == sent


def test_nothing_is_said_of_tools_without_any(server: ScriptedServer, llm: MixLLM) -> None:
    assert llm.chat_with_tools([], QUESTION, tool_required=True, tool_choice="add").message.content == "Good day to you"
    assert set(body(server)) == {"model", "messages"}


def test_several_calls_only_where_they_are_allowed(server: ScriptedServer, llm: MixLLM, tool: FunctionTool) -> None:
    server.script("cheap", Reply(text="Both.", tool_calls=TWO_CALLS))
    one = llm.chat_with_tools([tool], QUESTION)
    assert [call.tool_id for call in llm.get_tool_calls_from_response(one)] == ["call_1"]
    assert [call["id"] for call in one.message.additional_kwargs["tool_calls"]] == ["call_1"]
    assert one.message.content == "Both."
    both = llm.chat_with_tools([tool], QUESTION, allow_parallel_tool_calls=True)
    assert [call.tool_id for call in llm.get_tool_calls_from_response(both)] == ["call_1", "call_2"]
    assert "parallel_tool_calls" not in body(server)


async def test_streamed_calls(server: ScriptedServer, llm: MixLLM, tool: FunctionTool) -> None:
    server.script("cheap", Reply(tool_calls=TWO_CALLS))
    chunks = list(llm.stream_chat_with_tools([tool], QUESTION, allow_parallel_tool_calls=True))
    stream = await llm.astream_chat_with_tools([tool], QUESTION, allow_parallel_tool_calls=True)
    achunks = [chunk async for chunk in stream]
    for said in (chunks, achunks):
        # As FunctionAgent does: every chunk is asked for its calls, although the arguments are not complete.
        seen = [llm.get_tool_calls_from_response(chunk, error_on_no_tool_call=False) for chunk in said]
        assert [call.tool_kwargs for call in seen[-1]] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
        assert any(calls and calls[0].tool_kwargs not in ({}, {"a": 1, "b": 2}) for calls in seen)
        lists = [chunk.message.additional_kwargs.get("tool_calls") for chunk in said]
        assert len({id(calls) for calls in lists if calls}) == len([calls for calls in lists if calls])
        parsed = [json.loads(call["function"]["arguments"]) for call in lists[-1] or []]
        assert parsed == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


@pytest.mark.parametrize(
    ("arguments", "read"), [('{"a": 1, "b', {"a": 1}), ('{"a": [1, ', {"a": [1]}), ("]{", {}), ("[1]", {}), ("", {})]
)
def test_incomplete_or_bad_arguments_are_read_as_far_as_they_go(
    llm: MixLLM, arguments: str, read: dict[str, Any]
) -> None:
    block = ToolCallBlock(tool_name="add", tool_kwargs=arguments)
    (call,) = llm.get_tool_calls_from_response(ChatResponse(message=ChatMessage(role="assistant", blocks=[block])))
    assert call.tool_kwargs == read


def test_no_call_is_an_error_or_none(llm: MixLLM) -> None:
    response = ChatResponse(message=ChatMessage(role="assistant", blocks=[TextBlock(text="Three.")]))
    with pytest.raises(ValueError, match="answered with text: 'Three.'"):
        llm.get_tool_calls_from_response(response)
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []


# -- who is asked ----------------------------------------------------------------------------------------------------


def able(server: ScriptedServer, **tools: bool) -> Router:
    prices: dict[str, Any] = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}
    pool = [
        Candidate(name=name, model=f"openai/{name}", api_base=server.base_url, supports_tools=has, **prices)
        for name, has in tools.items()
    ]
    return Router(pool, encoder=HashingEncoder(), seed=0)


def test_tools_never_go_to_a_candidate_without(server: ScriptedServer, tool: FunctionTool) -> None:
    server.script("dear", Reply(tool_calls=[ADD_CALL]))
    llm = MixLLM(router=able(server, cheap=False, dear=True))
    for _ in range(10):
        llm.chat_with_tools([tool], QUESTION)
    said = llm.chat_with_tools([tool], QUESTION).message
    result = ChatMessage(role=MessageRole.TOOL, content="3", additional_kwargs={"tool_call_id": "call_1"})
    llm.chat([ChatMessage(content=QUESTION), said, result])  # no tools any more, but their traces
    assert server.count("cheap") == 0


def test_tools_for_nobody_are_an_error_of_the_call(server: ScriptedServer, tool: FunctionTool) -> None:
    llm = MixLLM(router=able(server, cheap=False))
    with pytest.raises(NoEligibleCandidateError, match="does not support tools"):
        llm.stream_chat_with_tools([tool], QUESTION)
    assert server.requests == ()


# -- predict_and_call, structured output -----------------------------------------------------------------------------


async def test_predict_and_call(calling: ScriptedServer, llm: MixLLM, tool: FunctionTool) -> None:
    assert llm.predict_and_call([tool], QUESTION).response == "3"
    assert (await llm.apredict_and_call([tool], QUESTION)).response == "3"


async def test_structured_predict(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", Reply(tool_calls=[PARIS]))
    city = City(name="Paris", country="France")
    assert llm.structured_predict(City, CITY_PROMPT, country="France") == city
    assert await llm.astructured_predict(City, CITY_PROMPT, country="France") == city
    assert [request.body["tool_choice"] for request in server.requests] == ["required", "required"]
    assert llm.as_structured_llm(City).complete("Which city?").raw == city


async def test_stream_structured_predict(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", Reply(tool_calls=[PARIS]))
    city = City(name="Paris", country="France")
    parts: list[Any] = list(llm.stream_structured_predict(City, CITY_PROMPT, country="France"))
    aparts: list[Any] = [
        part async for part in await llm.astream_structured_predict(City, CITY_PROMPT, country="France")
    ]
    for said in (parts, aparts):
        assert said[-1] == city
        assert len(said) > 2  # it grew


def test_a_model_that_ignores_the_tool_is_a_clear_error(llm: MixLLM) -> None:
    with pytest.raises(ValueError, match="expected at least one tool call.*Good day to you"):
        llm.structured_predict(City, CITY_PROMPT, country="France")


# -- agents ----------------------------------------------------------------------------------------------------------

TWO_STEPS = [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")]


@pytest.mark.parametrize("streaming", [True, False])
async def test_function_agent(server: ScriptedServer, llm: MixLLM, tool: FunctionTool, streaming: bool) -> None:
    server.script("cheap", TWO_STEPS)
    agent = FunctionAgent(tools=[tool], llm=llm, streaming=streaming, system_prompt="Calculate.")
    with track_decisions() as tracked:
        handler = agent.run(QUESTION)
        deltas = [event.delta async for event in handler.stream_events() if isinstance(event, AgentStream)]
        output: Any = await handler
    assert output.response.content == "It is 3."
    assert ("".join(deltas) == "It is 3.") is streaming
    last: Any = body(server)["messages"]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "tool"]
    assert last[3] == {"role": "tool", "content": "3", "tool_call_id": "call_1"}
    assert len(tracked.decisions) == len(server.requests) == 2
    assert output.raw["mixllm"]["decision_id"] == tracked.decision_ids[-1]
    assert llm.feedback(output, 1.0).decision_id == tracked.decision_ids[-1]


async def test_function_agent_without_tools(server: ScriptedServer, llm: MixLLM) -> None:
    output: Any = await FunctionAgent(tools=[], llm=llm).run("Hello?")
    assert output.response.content == "Good day to you"
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body(server))


async def test_function_agent_with_a_first_choice(server: ScriptedServer, llm: MixLLM, tool: FunctionTool) -> None:
    server.script("cheap", TWO_STEPS)
    await FunctionAgent(tools=[tool], llm=llm, initial_tool_choice="add").run(QUESTION)
    assert body(server, 0)["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert "tool_choice" not in body(server, 1)


async def test_agent_workflow_takes_function_calling_for_granted(
    server: ScriptedServer, llm: MixLLM, tool: FunctionTool
) -> None:
    server.script("cheap", TWO_STEPS)
    workflow = AgentWorkflow.from_tools_or_functions([tool], llm=llm)
    assert str(await workflow.run(QUESTION)) == "It is 3."
    assert "tools" in body(server, 0)


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # LlamaIndex's own
async def test_react_agent_needs_no_tools_of_the_candidate(server: ScriptedServer, tool: FunctionTool) -> None:
    thought = 'Thought: I need a tool.\nAction: add\nAction Input: {"a": 1, "b": 2}\n'
    answer = "Thought: I can answer without using any more tools.\nAnswer: It is 3."
    server.script("cheap", [Reply(text=thought), Reply(text=answer)])
    output: Any = await ReActAgent(tools=[tool], llm=MixLLM(router=able(server, cheap=False))).run(QUESTION)
    assert output.response.content == "It is 3."
    assert all("tools" not in request.body for request in server.requests)
