"""What LlamaIndex asks of a function-calling LLM, as a suite for any of them.

Subclass `LLMContract`, and `make` an LLM that sends everything to the model ``"cheap"`` of the scripted server. What an
LLM is known not to do stands in `unmet`: those tests must fail.
"""

import copy
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import pytest
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import (
    ChatMessage,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.callbacks.schema import CBEventType
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from mixllm_engine.testing import Cut, Failure, Reply, ScriptedServer, ToolCall

from .conftest import RecordedEvents

QUESTION = "What is 1 + 2?"
HELLO = [ChatMessage(role="user", content="Hello, how are you?")]
WAYS = ["chat", "achat", "stream_chat", "astream_chat", "complete", "acomplete", "stream_complete", "astream_complete"]
STREAMS = [way for way in WAYS if "stream" in way]
ADD_CALL = ToolCall(name="add", arguments={"a": 1, "b": 2})
SUBTRACT_CALL = ToolCall(name="add", arguments={"a": 3, "b": -4}, id="call_2")
CITY_PROMPT = PromptTemplate("Which city is the capital of {country}?")
THOUGHT = 'Thought: I need a tool.\nAction: add\nAction Input: {"a": 1, "b": 2}\n'
REACT_ANSWER = "Thought: I can answer without using any more tools.\nAnswer: It is 3."


class City(BaseModel):
    """A city and its country."""

    name: str
    country: str


PARIS = City(name="Paris", country="France")
PARIS_CALL = ToolCall(name="City", arguments=PARIS.model_dump())


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def tools() -> list[Any]:
    return [FunctionTool.from_defaults(add)]


async def collected(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


async def asked(llm: Any, way: str, **kwargs: Any) -> list[Any]:
    """Ask in one of the eight ways; returns all responses, of which there is one if it is no stream."""
    result = getattr(llm, way)("Hello, how are you?" if "complete" in way else HELLO, **kwargs)
    if way.startswith("a"):
        result = await result
    if "astream" in way:
        return await collected(result)
    return list(result) if "stream" in way else [result]


def text_of(response: Any) -> str:
    return response.text if hasattr(response, "text") else response.message.content or ""


def body(server: ScriptedServer, index: int = -1) -> dict[str, Any]:
    return dict(server.requests[index].body)


class LLMContract:
    """The tests; `make` is to be overridden."""

    unmet: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _known(self, request: pytest.FixtureRequest) -> None:
        reason = self.unmet.get(request.node.name) or self.unmet.get(request.node.originalname)
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    def make(self, server: ScriptedServer, **fields: Any) -> FunctionCallingLLM:
        """Return an LLM with some fields of every LlamaIndex LLM."""
        raise NotImplementedError

    @pytest.fixture
    def llm(self, server: ScriptedServer) -> Iterator[FunctionCallingLLM]:
        yield self.make(server)

    # -- what it is --------------------------------------------------------------------------------------------------

    def test_it_is_an_llm_whose_metadata_need_no_network(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        assert BaseLLM.__name__ in [base.__name__ for base in type(llm).__mro__]
        assert llm.class_name() == type(llm).class_name() != "base_component"
        assert llm.metadata == llm.metadata
        assert llm.metadata.is_chat_model and llm.metadata.is_function_calling_model
        assert server.requests == ()

    # -- the eight ways ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("way", WAYS)
    async def test_each_way_answers(self, llm: FunctionCallingLLM, way: str) -> None:
        assert text_of((await asked(llm, way))[-1]) == "Good day to you"

    @pytest.mark.parametrize("way", STREAMS)
    async def test_streams_are_cumulative_with_deltas(self, llm: FunctionCallingLLM, way: str) -> None:
        so_far = ""
        for response in await asked(llm, way):
            so_far += response.delta or ""
            assert text_of(response) == so_far
        assert so_far == "Good day to you"

    @pytest.mark.parametrize("way", ["stream_chat", "astream_chat"])
    async def test_chunks_share_nothing(self, server: ScriptedServer, llm: FunctionCallingLLM, way: str) -> None:
        server.script("cheap", Reply(tool_calls=[ADD_CALL]))
        chunks = await asked(llm, way, tools=[tool.metadata.to_openai_tool() for tool in tools()])
        texts = [repr(chunk.message) for chunk in chunks]
        lists = [chunk.message.additional_kwargs["tool_calls"] for chunk in chunks if calls_in(chunk)]
        assert len({id(calls) for calls in lists}) == len(lists) > 1
        assert len(set(texts)) > 2  # each remembers how far it was

    def test_formatted_prompts_are_sent_as_they_are(self, server: ScriptedServer) -> None:
        llm = self.make(server, completion_to_prompt=lambda prompt: f"<{prompt}>")
        llm.complete("two", formatted=True)
        assert body(server)["messages"] == [{"role": "user", "content": "two"}]

    async def test_templates_with_a_system_prompt(self, server: ScriptedServer) -> None:
        llm = self.make(server, system_prompt="Be brief.")
        prompt = PromptTemplate("Greet {name}.")
        said = [llm.predict(prompt, name="Ada"), await llm.apredict(prompt, name="Ada")]
        said += ["".join(llm.stream(prompt, name="Ada"))]
        said += ["".join([token async for token in await llm.astream(prompt, name="Ada")])]
        assert said == ["Good day to you"] * 4
        for index in range(4):
            sent = [(message["role"], message["content"]) for message in body(server, index)["messages"]]
            assert sent == [("system", "Be brief."), ("user", "Greet Ada.")]

    # -- usage, events -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("way", WAYS)
    async def test_usage_is_the_servers_and_counted_once(self, server: ScriptedServer, way: str) -> None:
        counter = TokenCountingHandler(tokenizer=str.split)
        last = (await asked(self.make(server, callback_manager=CallbackManager([counter])), way))[-1]
        assert (last.additional_kwargs["prompt_tokens"], last.additional_kwargs["completion_tokens"]) == (11, 4)
        assert (counter.total_llm_token_count, len(counter.llm_token_counts)) == (15, 1)

    @pytest.mark.parametrize("way", WAYS)
    async def test_one_call_is_one_pair_of_events(
        self, server: ScriptedServer, recorded: RecordedEvents, way: str
    ) -> None:
        legacy = LlamaDebugHandler(print_trace_on_end=False)
        await asked(self.make(server, callback_manager=CallbackManager([legacy])), way)
        assert len(recorded.names("LLMChatStart") + recorded.names("LLMCompletionStart")) == 1
        assert len(recorded.names("LLMChatEnd") + recorded.names("LLMCompletionEnd")) == 1
        assert recorded.names("Exception") == []
        assert len(legacy.get_event_pairs(CBEventType.LLM)) == 1

    @pytest.mark.parametrize("way", WAYS)
    async def test_errors_come_through_and_end_nothing_well(
        self, server: ScriptedServer, llm: FunctionCallingLLM, recorded: RecordedEvents, way: str
    ) -> None:
        server.script("cheap", Failure(status=400, message="no such thing"))
        with pytest.raises(Exception, match="no such thing"):
            await asked(llm, way)
        assert recorded.names("End") == []
        assert server.count("cheap") == 1

    def test_a_stream_that_breaks_is_an_error(
        self, server: ScriptedServer, llm: FunctionCallingLLM, recorded: RecordedEvents
    ) -> None:
        server.script("cheap", Cut(text="one two three", after_tokens=2))
        with pytest.raises(Exception, match="(?i)connection|peer|incomplete|chunked"):
            list(llm.stream_chat(HELLO))
        assert recorded.names("Exception") == ["ExceptionEvent"]
        assert recorded.names("End") == []

    # -- tools -------------------------------------------------------------------------------------------------------

    async def test_calls_stand_in_blocks_and_in_additional_kwargs(
        self, server: ScriptedServer, llm: FunctionCallingLLM
    ) -> None:
        server.script("cheap", Reply(tool_calls=[ADD_CALL]))
        for response in (llm.chat_with_tools(tools(), QUESTION), await llm.achat_with_tools(tools(), QUESTION)):
            (block,) = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
            assert (block.tool_call_id, block.tool_name) == ("call_1", "add")
            assert len(response.message.additional_kwargs["tool_calls"]) == 1
            (call,) = llm.get_tool_calls_from_response(response)
            assert (call.tool_id, call.tool_name, call.tool_kwargs) == ("call_1", "add", {"a": 1, "b": 2})

    def test_several_calls_where_they_are_allowed(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        server.script("cheap", Reply(tool_calls=[ADD_CALL, SUBTRACT_CALL]))
        one = llm.chat_with_tools(tools(), QUESTION)
        both = llm.chat_with_tools(tools(), QUESTION, allow_parallel_tool_calls=True)
        found = [[call.tool_id for call in llm.get_tool_calls_from_response(said)] for said in (one, both)]
        assert found == [["call_1"], ["call_1", "call_2"]]

    async def test_streamed_calls_can_be_read_at_every_chunk(
        self, server: ScriptedServer, llm: FunctionCallingLLM
    ) -> None:
        server.script("cheap", Reply(tool_calls=[ADD_CALL, SUBTRACT_CALL]))
        chunks = list(llm.stream_chat_with_tools(tools(), QUESTION, allow_parallel_tool_calls=True))
        achunks = await collected(await llm.astream_chat_with_tools(tools(), QUESTION, allow_parallel_tool_calls=True))
        for said in (chunks, achunks):
            read = [llm.get_tool_calls_from_response(chunk, error_on_no_tool_call=False) for chunk in said]
            assert [call.tool_kwargs for call in read[-1]] == [ADD_CALL.arguments, SUBTRACT_CALL.arguments]

    def test_an_answer_without_a_call(self, llm: FunctionCallingLLM) -> None:
        said = llm.chat_with_tools(tools(), QUESTION)
        assert llm.get_tool_calls_from_response(said, error_on_no_tool_call=False) == []
        with pytest.raises(ValueError, match="(?i)tool call"):
            llm.get_tool_calls_from_response(said)

    @pytest.mark.parametrize(
        ("arguments", "sent"),
        [
            ({"tool_required": True}, "required"),
            ({"tool_choice": None, "tool_required": True}, "required"),
            ({"tool_choice": "add"}, {"type": "function", "function": {"name": "add"}}),
        ],
        ids=["required", "none-given", "by-name"],
    )
    def test_tool_choice(
        self, server: ScriptedServer, llm: FunctionCallingLLM, arguments: dict[str, Any], sent: Any
    ) -> None:
        server.script("cheap", Reply(tool_calls=[ADD_CALL]))
        llm.chat_with_tools(tools(), QUESTION, **arguments)
        assert body(server)["tool_choice"] == sent

    def test_without_tools_nothing_is_said_of_them(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        assert llm.chat_with_tools([], QUESTION).message.content == "Good day to you"
        assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body(server))

    def test_the_history_stays_as_it_is(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        history = [ChatMessage(role=MessageRole.SYSTEM, content="Calculate.")]
        llm.chat_with_tools(tools(), QUESTION, history)
        assert len(history) == 1
        assert [message["role"] for message in body(server)["messages"]] == ["system", "user"]

    def test_the_history_of_a_modern_agent_is_accepted(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        call = ToolCallBlock(tool_call_id="call_1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
        history = [
            ChatMessage(blocks=[TextBlock(text=QUESTION), ImageBlock(url="https://example.org/a.png")]),
            ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm"), TextBlock(text="I add."), call]),
            ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1"}),
        ]
        assert llm.chat(history).message.content == "Good day to you"
        sent = body(server)["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
        assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == {"a": 1, "b": 2}

    def test_foreign_additional_kwargs_stay_behind(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        block = ToolCallBlock(tool_call_id="call_1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
        openai = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
        said = ChatMessage(role="assistant", blocks=[block], additional_kwargs={"usage": {}, "tool_calls": [openai]})
        result = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1", "foreign": 1})
        llm.chat([*HELLO, said, result])
        assert set(body(server)["messages"][1]) <= {"role", "content", "tool_calls"}
        assert set(body(server)["messages"][2]) == {"role", "content", "tool_call_id"}

    async def test_predict_and_call(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        server.script("cheap", Reply(tool_calls=[ADD_CALL]))
        assert llm.predict_and_call(tools(), QUESTION).response == "3"
        assert (await llm.apredict_and_call(tools(), QUESTION)).response == "3"

    async def test_structured_output_in_all_forms(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        server.script("cheap", Reply(tool_calls=[PARIS_CALL]))
        assert llm.structured_predict(City, CITY_PROMPT, country="France") == PARIS
        assert await llm.astructured_predict(City, CITY_PROMPT, country="France") == PARIS
        assert [body(server, index)["tool_choice"] for index in range(2)] == ["required"] * 2
        assert list(llm.stream_structured_predict(City, CITY_PROMPT, country="France"))[-1] == PARIS
        parts = await llm.astream_structured_predict(City, CITY_PROMPT, country="France")
        assert (await collected(parts))[-1] == PARIS
        assert llm.as_structured_llm(City).chat(HELLO).raw == PARIS

    def test_structured_streams_demand_the_call(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        server.script("cheap", Reply(tool_calls=[PARIS_CALL]))
        list(llm.stream_structured_predict(City, CITY_PROMPT, country="France"))
        assert body(server)["tool_choice"] == "required"

    def test_a_model_that_ignores_the_tool_is_a_clear_error(self, llm: FunctionCallingLLM) -> None:
        with pytest.raises(ValueError, match="(?i)tool call"):
            llm.structured_predict(City, CITY_PROMPT, country="France")

    # -- thoughts, parameters ----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("way", ["chat", "achat", "stream_chat", "astream_chat"])
    async def test_thoughts_become_blocks_and_deltas(
        self, server: ScriptedServer, llm: FunctionCallingLLM, way: str
    ) -> None:
        server.script("cheap", Reply(text="Four.", reasoning="two and two"))
        responses = await asked(llm, way)
        assert responses[-1].message.blocks[0] == ThinkingBlock(content="two and two")
        deltas = "".join(response.additional_kwargs.get("thinking_delta", "") for response in responses)
        assert deltas == ("two and two" if "stream" in way else "")

    def test_arguments_of_a_call_reach_the_model(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        llm.chat(HELLO, temperature=1.7, seed=7)
        assert (body(server)["temperature"], body(server)["seed"]) == (1.7, 7)

    # -- agents ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("streaming", [True, False])
    async def test_function_agent(self, server: ScriptedServer, llm: FunctionCallingLLM, streaming: bool) -> None:
        server.script("cheap", [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")])
        handler = FunctionAgent(tools=tools(), llm=llm, streaming=streaming).run(QUESTION)
        deltas = [event.delta async for event in handler.stream_events() if isinstance(event, AgentStream)]
        assert str(await handler) == "It is 3."
        assert ("".join(deltas) == "It is 3.") is streaming
        assert [message["role"] for message in body(server)["messages"]] == ["user", "assistant", "tool"]

    async def test_function_agent_without_tools(self, llm: FunctionCallingLLM) -> None:
        assert str(await FunctionAgent(tools=[], llm=llm).run("Hello?")) == "Good day to you"

    @pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # LlamaIndex's own
    async def test_react_agent(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        server.script("cheap", [Reply(text=THOUGHT), Reply(text=REACT_ANSWER)])
        assert str(await ReActAgent(tools=tools(), llm=llm).run(QUESTION)) == "It is 3."

    async def test_agent_workflow(self, server: ScriptedServer, llm: FunctionCallingLLM) -> None:
        server.script("cheap", [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")])
        assert str(await AgentWorkflow.from_tools_or_functions(tools(), llm=llm).run(QUESTION)) == "It is 3."

    # -- copies, secrets ---------------------------------------------------------------------------------------------

    def test_a_copy_answers(self, llm: FunctionCallingLLM) -> None:
        assert copy.deepcopy(llm).complete("Hello?").text == "Good day to you"

    def test_the_key_is_sent_and_never_told(self, server: ScriptedServer, recorded: RecordedEvents) -> None:
        llm = self.make(server)
        llm.chat(HELLO)
        key = server.requests[0].api_key
        assert key
        told = [str(llm.to_dict()), repr(llm), *map(repr, recorded.events)]  # events have what to_payload returns
        assert [text for text in told if key in text] == []


def calls_in(response: Any) -> list[Any]:
    """Return the tool calls among the additional arguments of a message."""
    return list(response.message.additional_kwargs.get("tool_calls") or ())
