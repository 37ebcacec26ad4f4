"""The 31 behaviours that make MixLLM a good LlamaIndex citizen, one test each; details have tests elsewhere."""

import asyncio
import copy
import gc
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.base_selector import BaseSelector
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.evaluation import BatchEvalRunner, CorrectnessEvaluator, RelevancyEvaluator
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.retrievers import RouterRetriever
from llama_index.core.schema import TextNode
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata
from llama_index.core.workflow import Context

from llamaindex_mixllm import EvaluatorFeedback, MixLLM, MixLLMSelector, track_decisions
from mixllm_engine import (
    AllCandidatesFailedError,
    Candidate,
    ConfigError,
    ContextWindowError,
    NoEligibleCandidateError,
    Router,
    RouterConfig,
    UnknownDecisionError,
)
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import Cut, Failure, Hang, HashingEncoder, Reply, ScriptedServer, ToolCall, tiny_router

from .conftest import RecordedEvents
from .contract import (
    ADD_CALL,
    CITY_PROMPT,
    HELLO,
    PARIS,
    PARIS_CALL,
    QUESTION,
    REACT_ANSWER,
    STREAMS,
    SUBTRACT_CALL,
    THOUGHT,
    WAYS,
    City,
    asked,
    body,
    collected,
    text_of,
    tools,
)
from .test_llm import told

TWO_STEPS = [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")]
KEY = "sk-a-key-that-must-not-be-seen"


def in_flight(router: Router) -> int:
    return sum(candidate["in_flight"] for candidate in router.stats()["candidates"].values())


def labels(router: Router) -> float:
    return float(sum(candidate["labels"] for candidate in router.stats()["candidates"].values()))


def errors(router: Router, response: Any) -> list[tuple[str, str | None]]:
    outcomes = router.explain(told(response)["decision_id"]).outcomes
    return [(outcome.candidate, outcome.error) for outcome in outcomes]


def pool(server: ScriptedServer, **settings: dict[str, Any]) -> Router:
    """Return a router over candidates that are all alike but for some settings."""
    alike = {"api_base": server.base_url, "input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}
    return Router(
        [Candidate(name=name, model=f"openai/{name}", **{**alike, **more}) for name, more in settings.items()],
        encoder=HashingEncoder(),
        seed=0,
    )


def index(*texts: str) -> VectorStoreIndex:
    return VectorStoreIndex([TextNode(text=text) for text in texts], embed_model=MockEmbedding(embed_dim=8))


# -- the LLM ---------------------------------------------------------------------------------------------------------


def test_behaviour_01_what_it_is_is_stable_and_needs_no_network(server: ScriptedServer, llm: MixLLM) -> None:
    """It is a function-calling LLM whose name and metadata stay the same and ask nobody."""
    assert isinstance(llm, FunctionCallingLLM) and BaseLLM in type(llm).__mro__
    assert MixLLM.class_name() == llm.to_dict()["class_name"] == "MixLLM"
    before = llm.metadata
    llm.complete("Hello?")
    server.clear()
    assert llm.metadata == before
    assert server.requests == ()


async def test_behaviour_02_chat_and_achat_give_the_same(llm: MixLLM) -> None:
    """Blocking or not, the answer is the same."""
    said, later = llm.chat(HELLO), await llm.achat(HELLO)
    assert said.message == later.message
    assert said.additional_kwargs == later.additional_kwargs


@pytest.mark.parametrize("way", STREAMS)
async def test_behaviour_03_streams_join_to_the_whole_and_share_nothing(llm: MixLLM, way: str) -> None:
    """Streams are cumulative, their deltas join to the whole answer, and no chunk is part of another."""
    responses = await asked(llm, way)
    so_far = ""
    for response in responses:
        so_far += response.delta
        assert text_of(response) == so_far
    (whole,) = await asked(llm, "chat")
    assert so_far == text_of(whole)
    assert sum(bool(response.delta) for response in responses) == 4  # word by word, not at once
    first, second = responses[:2]
    assert first.raw is not second.raw
    assert first.raw["mixllm"] is not second.raw["mixllm"]
    if isinstance(first, ChatResponse):
        assert first.message is not second.message
        assert first.message.blocks is not second.message.blocks


async def test_behaviour_04_completions_wrap_prompts_unless_formatted(server: ScriptedServer, router: Router) -> None:
    """All four ways to complete wrap the prompt, unless it is formatted already."""
    llm = MixLLM(router=router, completion_to_prompt=lambda prompt: f"<{prompt}>")
    for way in WAYS[4:]:
        assert text_of((await asked(llm, way))[-1]) == "Good day to you"
        assert text_of((await asked(llm, way, formatted=True))[-1]) == "Good day to you"
    sent: list[Any] = [request.body["messages"] for request in server.requests]
    assert [messages[0]["content"] for messages in sent] == ["<Hello, how are you?>", "Hello, how are you?"] * 4


async def test_behaviour_05_predict_and_stream_send_the_system_prompt(server: ScriptedServer, router: Router) -> None:
    """Templates become messages below the system prompt, in all four ways."""
    llm = MixLLM(router=router, system_prompt="Be brief.")
    prompt = PromptTemplate("Greet {name}.")
    said = [llm.predict(prompt, name="Ada"), await llm.apredict(prompt, name="Ada")]
    said.append("".join(llm.stream(prompt, name="Ada")))
    said.append("".join(await collected(await llm.astream(prompt, name="Ada"))))
    assert said == ["Good day to you"] * 4
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Greet Ada."}
    assert [request.body["messages"] for request in server.requests] == [[system, user]] * 4


@pytest.mark.parametrize("way", WAYS)
async def test_behaviour_06_usage_is_the_servers_and_counted_once(router: Router, way: str) -> None:
    """Usage stands in `raw` and `additional_kwargs`, of streams too, and LlamaIndex counts it once."""
    counter = TokenCountingHandler(tokenizer=str.split)
    responses = await asked(MixLLM(router=router, callback_manager=CallbackManager([counter])), way)
    with_usage = [response for response in responses if response.raw.get("usage")]
    assert with_usage == responses[-1:]
    usage = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
    assert usage.items() <= with_usage[0].raw["usage"].items()
    assert with_usage[0].additional_kwargs == usage
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (11, 4)
    assert len(counter.llm_token_counts) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_behaviour_07_a_call_is_one_pair_of_events_and_one_routing_event(
    router: Router, recorded: RecordedEvents, way: str
) -> None:
    """Dispatcher and legacy callbacks see one call, in its span; the routing event has nothing of the prompt."""
    legacy = LlamaDebugHandler(print_trace_on_end=False)
    last = (await asked(MixLLM(router=router, callback_manager=CallbackManager([legacy])), way))[-1]
    kind = "Completion" if "complete" in way else "Chat"
    assert recorded.names("Start") == [f"LLM{kind}StartEvent"]
    assert recorded.names("End") == [f"LLM{kind}EndEvent"]
    assert recorded.names("Exception") == []
    assert len(legacy.get_event_pairs(CBEventType.LLM)) == 1
    (routing,) = [event for event in recorded.events if type(event).__name__ == "MixLLMRoutingEvent"]
    spans = {event.span_id for event in recorded.events if "LLM" in type(event).__name__}
    assert spans == {routing.span_id}
    assert routing.span_id.startswith(f"MixLLM.{way}-")
    seen = routing.model_dump(exclude={"timestamp", "id_", "span_id", "tags"})
    decision = router.explain(told(last)["decision_id"]).decision
    assert seen == {
        "class_name": "MixLLMRoutingEvent",
        "decision_id": decision.decision_id,
        "candidate": "cheap",
        "propensity": decision.propensity,
        "explored": False,
        "reason": "score",
    }


@pytest.mark.parametrize("way", WAYS)
async def test_behaviour_08_errors_come_through_and_leave_nothing_open(
    server: ScriptedServer, router: Router, recorded: RecordedEvents, way: str
) -> None:
    """An error reaches the caller, closes the call's events, and leaves no call in flight."""
    legacy = LlamaDebugHandler(print_trace_on_end=False)
    for name in ("cheap", "dear"):
        server.script(name, Failure(status=503))
    with pytest.raises(AllCandidatesFailedError, match="all 2 candidates failed"):
        await asked(MixLLM(router=router, callback_manager=CallbackManager([legacy])), way)
    ((_, end),) = legacy.get_event_pairs(CBEventType.LLM)
    assert end.payload is not None
    assert isinstance(end.payload[EventPayload.EXCEPTION], AllCandidatesFailedError)
    assert recorded.names("End") == []
    assert (in_flight(router), labels(router)) == (0, 0)


async def test_behaviour_09_streams_that_nobody_reads_to_the_end_cost_no_quality(
    server: ScriptedServer, llm: MixLLM
) -> None:
    """A stream that is closed early, never read or broken leaves nothing in flight, and is no bad answer."""
    server.script("cheap", Reply(text="one two three four five", token_delay_s=0.2))
    stream, astream = llm.stream_chat(HELLO), await llm.astream_chat(HELLO)
    first, afirst = next(stream), await anext(astream)
    assert in_flight(llm.router) == 2
    stream.close()
    await astream.aclose()
    unread = [llm.stream_chat(HELLO), await llm.astream_complete("Hello?")]
    before = len(server.requests)
    del unread
    gc.collect()
    assert len(server.requests) == before == 2
    server.script("cheap", Cut(text="one two three", after_tokens=1))
    with pytest.raises(Exception, match="(?i)peer|connection"):
        list(llm.stream_complete("Hello?"))
    stats = llm.router.stats()
    assert (stats["decisions"], stats["outcomes"], in_flight(llm.router), labels(llm.router)) == (5, 3, 0, 0)
    assert [errors(llm.router, response) for response in (first, afirst)] == [[("cheap", "cancelled")]] * 2


@pytest.mark.parametrize("way", STREAMS)
async def test_behaviour_10_what_was_said_is_not_said_again_by_another(
    server: ScriptedServer, llm: MixLLM, recorded: RecordedEvents, way: str
) -> None:
    """After its first token a stream that breaks is an error; no other candidate takes it up."""
    server.script("cheap", Cut(text="one two three four", after_tokens=2))
    seen: list[Any] = []
    result = getattr(llm, way)("Hello?" if "complete" in way else HELLO)
    with pytest.raises(Exception, match="(?i)peer|connection"):
        if way.startswith("a"):
            async with aclosing(await result) as chunks:
                async for chunk in chunks:
                    seen.append(chunk)
        else:
            for chunk in result:
                seen.append(chunk)
    assert text_of(seen[-1]) == "one two"
    assert (server.count("cheap"), server.count("dear")) == (1, 0)
    assert errors(llm.router, seen[-1]) == [("cheap", "broken_stream")]
    assert recorded.names("Exception") == ["ExceptionEvent"]
    assert recorded.names("End") == []


# -- tools -----------------------------------------------------------------------------------------------------------


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


# -- routing ---------------------------------------------------------------------------------------------------------


def test_behaviour_19_tools_never_go_to_a_candidate_without(server: ScriptedServer) -> None:
    """Tools offered now count, and so do their traces in the history."""
    server.script("able", Reply(tool_calls=[ADD_CALL]))
    llm = MixLLM(router=pool(server, able={"supports_tools": True}, plain={"supports_tools": False}))
    said = [llm.chat_with_tools(tools(), QUESTION) for _ in range(10)][-1].message
    result = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1"})
    llm.chat([ChatMessage(content=QUESTION), said, result])
    assert (server.count("able"), server.count("plain")) == (11, 0)
    with pytest.raises(NoEligibleCandidateError, match="does not support tools"):
        MixLLM(router=pool(server, plain={"supports_tools": False})).stream_chat_with_tools(tools(), QUESTION)


@pytest.mark.parametrize("way", WAYS)
async def test_behaviour_20_long_prompts_go_to_large_windows_or_nowhere(
    server: ScriptedServer, llm: MixLLM, way: str
) -> None:
    """A prompt that is too long leaves small windows out; too long for all is an error of the call itself."""
    long: Any = "word " * 6000 if "complete" in way else [ChatMessage(content="word " * 6000)]
    result = getattr(llm, way)(long)
    result = await result if way.startswith("a") else result
    last = (await collected(result) if "astream" in way else list(result) if "stream" in way else [result])[-1]
    assert told(last)["candidate"] == "dear"
    asking = getattr(llm, way)
    with pytest.raises(ContextWindowError, match="more than the context window of every candidate"):
        result = asking("word " * 60_000 if "complete" in way else [ChatMessage(content="word " * 60_000)])
        if way.startswith("a"):
            await result
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({}, 4096),
        ({"context_window": "smallest"}, 4096),
        ({"context_window": "largest"}, 16384),
        ({"context_window": 1000}, 1000),
        ({"allow": ["d*"]}, 16384),
        ({"deny": ["cheap"]}, 16384),
        ({"force": "dear"}, 16384),
    ],
)
def test_behaviour_21_the_window_follows_an_explicit_policy(fields: dict[str, Any], window: int) -> None:
    """The smallest or the largest window of those that may answer, or a number; memories are sized by it."""
    llm = MixLLM(router=tiny_router(), **fields)
    assert llm.metadata.context_window == window
    assert ChatMemoryBuffer.from_defaults(llm=llm).token_limit == int(window * 0.75)


async def test_behaviour_22_failures_go_to_another_candidate_at_one_request_each(
    server: ScriptedServer, llm: MixLLM
) -> None:
    """429, 500, silence and small windows go on elsewhere, and are recorded; a refused key pauses its candidate."""
    too_long = Failure(status=400, code="context_length_exceeded", message="maximum context length is 9")
    failures: list[tuple[Any, str]] = [
        (Failure(status=429), "rate_limit"),
        (Failure(status=500), "unavailable"),
        (Hang(seconds=30), "timeout"),
        (too_long, "context_window"),
    ]
    for failure, kind in failures:
        server.clear()
        server.script("cheap", failure)
        with tiny_router(api_base=server.base_url, config=llm.router.config) as router:
            other = MixLLM(router=router)
            said = await other.achat(HELLO, timeout=0.5) if kind == "timeout" else other.chat(HELLO, timeout=5)
            assert errors(router, said) == [("cheap", kind), ("dear", None)]
            assert other.feedback(said, 1.0).candidate == "dear"  # credited to who answered
        assert (server.count("cheap"), server.count("dear")) == (1, 1)
    server.clear()
    server.script("cheap", Failure(status=401))
    assert [told(llm.complete("Hello?"))["candidate"] for _ in range(3)] == ["dear"] * 3
    assert server.count("cheap") == 1


def test_behaviour_23_arguments_of_a_call_reach_the_model_and_terms_do_not(
    server: ScriptedServer, router: Router
) -> None:
    """Temperatures above 1 and any parameter pass; what is meant for the router does not."""
    llm = MixLLM(router=router, session="s", temperature=0.4, max_tokens=9)
    llm.chat(HELLO, budget="low", max_wait_s=30.0, question="How?", seed=7)
    llm.chat(HELLO, temperature=1.7, stop=None)
    common = {"model": "cheap", "messages": [{"role": "user", "content": "Hello, how are you?"}], "max_tokens": 9}
    assert body(server, 0) == {**common, "temperature": 0.4, "seed": 7}
    assert body(server, 1) == {**common, "temperature": 1.7}
    refused: dict[str, Any] = {"api_key": KEY, "base_url": "http://x", "model": "gpt-4o", "stream": True}
    for name, value in refused.items():
        with pytest.raises(ConfigError, match=f"{name} can't be given"):
            llm.chat(HELLO, **{name: value})


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # LlamaIndex's own
async def test_behaviour_24_a_candidate_can_be_forced_and_stays_for_a_run(server: ScriptedServer) -> None:
    """Who is forced answers; in an agent's run whoever began goes on, although runs like it go on beside it."""
    config = RouterConfig(exploration=ExplorationConfig(rate=0.5, pulls=1000))
    thought, answer = Reply(text=THOUGHT), Reply(text=REACT_ANSWER)

    def step(request: Any) -> Reply:
        """Call the tool twice, with the same id for everybody, then answer."""
        results = [message for message in request.body["messages"] if message["role"] == "tool"]
        return Reply(tool_calls=[ADD_CALL], token_delay_s=0.002) if len(results) < 2 else Reply(text="It is 3.")

    def react(request: Any) -> Reply:
        return answer if "Observation: " in request.body["messages"][-1]["content"] else thought

    async def run(agent: Any) -> set[str]:
        with track_decisions() as tracked:
            assert str(await agent.run(QUESTION)) == "It is 3."
        assert len(tracked.decisions) > 1
        assert [decision.reason for decision in tracked.decisions[1:]] == ["tool loop"] * (len(tracked.decisions) - 1)
        return {decision.candidate for decision in tracked.decisions}

    with tiny_router(api_base=server.base_url, config=config) as router:
        llm = MixLLM(router=router)
        assert told(llm.chat(HELLO, force="dear"))["candidate"] == "dear"
        for script, kind in ((step, FunctionAgent), (react, ReActAgent)):
            for name in ("cheap", "dear"):
                server.script(name, script)
            runs = await asyncio.gather(*(run(kind(tools=tools(), llm=llm)) for _ in range(8)))
            assert {len(candidates) for candidates in runs} == {1}
            assert set().union(*runs) == {"cheap", "dear"}


# -- agents and engines ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # LlamaIndex's own
@pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key. memory")  # kept apart, as here
async def test_behaviour_25_every_kind_of_agent_runs(server: ScriptedServer, llm: MixLLM) -> None:
    """FunctionAgent in all its forms, ReActAgent, a workflow with a handoff, and a context that goes round."""
    for streaming in (True, False):
        server.script("cheap", TWO_STEPS)
        handler = FunctionAgent(tools=tools(), llm=llm, streaming=streaming, system_prompt="Calculate.").run(QUESTION)
        deltas = [event.delta async for event in handler.stream_events() if isinstance(event, AgentStream)]
        output: Any = await handler
        assert str(output) == "It is 3."
        assert ("".join(deltas) == "It is 3.") is streaming
        assert [message["role"] for message in body(server)["messages"]] == ["system", "user", "assistant", "tool"]
        assert llm.feedback(output, 1.0).decision_id == output.raw["mixllm"]["decision_id"]
    server.script("cheap", Reply(text="Good day to you"))
    assert str(await FunctionAgent(tools=[], llm=llm).run("Hello?")) == "Good day to you"
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body(server))
    server.script("cheap", TWO_STEPS)
    await FunctionAgent(tools=tools(), llm=llm, initial_tool_choice="add").run(QUESTION)
    assert body(server, -2)["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert "tool_choice" not in body(server, -1)
    server.script("cheap", [*TWO_STEPS, Reply(tool_calls=[PARIS_CALL])])
    output = await FunctionAgent(tools=tools(), llm=llm, output_cls=City).run(QUESTION)
    assert output.get_pydantic_model(City) == PARIS
    server.script("cheap", [Reply(text=THOUGHT), Reply(text=REACT_ANSWER)])
    assert str(await ReActAgent(tools=tools(), llm=llm).run(QUESTION)) == "It is 3."
    over = ToolCall(name="handoff", arguments={"to_agent": "adder", "reason": "It adds."}, id="call_0")
    server.script("cheap", [Reply(tool_calls=[over]), *TWO_STEPS])
    front = FunctionAgent(name="front", description="Asks others.", llm=llm, can_handoff_to=["adder"])
    adder = FunctionAgent(name="adder", description="Adds.", llm=llm, tools=tools())
    output = await AgentWorkflow(agents=[front, adder], root_agent="front").run(QUESTION)
    assert (str(output), output.current_agent_name) == ("It is 3.", "adder")
    server.script("cheap", [*TWO_STEPS, Reply(text="Still 3.")])
    agent = FunctionAgent(tools=tools(), llm=llm)
    context, memory = Context(agent), ChatMemoryBuffer.from_defaults(llm=llm)
    await agent.run(QUESTION, ctx=context, memory=memory)
    data = json.loads(json.dumps(context.to_dict()))
    kept = [ChatMessage.model_validate_json(message.model_dump_json()) for message in memory.get_all()]
    remembered = ChatMemoryBuffer.from_defaults(kept, llm=llm)
    assert str(await agent.run("And now?", ctx=Context.from_dict(agent, data), memory=remembered)) == "Still 3."
    roles = [message["role"] for message in body(server)["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


async def test_behaviour_26_the_collector_gathers_every_decision(server: ScriptedServer, router: Router) -> None:
    """Queries, streams read inside and outside the block, tasks; runs side by side are kept apart."""
    library, llm = index("The library opens at nine."), MixLLM(router=router)
    engine = library.as_query_engine(llm=llm)
    with track_decisions() as tracked:
        engine.query("When?")
        await engine.aquery("When?")
        await asyncio.to_thread(llm.complete, "When?")
        with ThreadPoolExecutor(1) as threads:  # has no context of its own: a known limit
            threads.submit(llm.complete, "When?").result()
    assert (len(tracked.decisions), len(server.requests)) == (3, 4)
    streaming = library.as_query_engine(llm=llm, streaming=True)
    with track_decisions() as inside:
        response, later = streaming.query("When?"), llm.stream_complete("When?")
        assert isinstance(response, StreamingResponse)
        assert "".join(response.response_gen) == "Good day to you"
    assert list(later)[-1].text == "Good day to you"  # read outside, decided inside
    assert len(inside.decisions) == 2
    narrow = MixLLM(router=router, context_window=300, max_tokens=100)  # so narrow that one node fills a prompt
    many = index(*(f"{name} opens at nine. " * 20 for name in ("The library", "The museum", "The pool")))
    tree = many.as_query_engine(
        llm=narrow, response_mode=ResponseMode.TREE_SUMMARIZE, use_async=True, similarity_top_k=3
    )
    server.clear()
    with track_decisions() as summarised:
        await tree.aquery("When?")
    assert len(summarised.decisions) == len(server.requests) > 2

    async def one(question: str) -> list[str]:
        with track_decisions() as mine:
            await engine.aquery(question)
        return mine.decision_ids

    first, second = await asyncio.gather(one("When does it open?"), one("When does it close?"))
    assert (len(first), len(second)) == (1, 1)
    assert first != second


# -- selector --------------------------------------------------------------------------------------------------------

ARMS = {"quick": "cheap", "careful": "dear"}
QUICK, CAREFUL = (ToolMetadata(f"{name} answers.", name=name) for name in ARMS)


def routing(selector: MixLLMSelector, streaming: bool = False) -> RouterQueryEngine:
    library = index("Clause four: the landlord repairs the roof.")
    choices = [
        QueryEngineTool.from_defaults(
            library.as_query_engine(llm=selector.llm(name), streaming=streaming), name=name, description=name
        )
        for name in ARMS
    ]
    return RouterQueryEngine(selector=selector, query_engine_tools=choices, llm=MixLLM(router=selector.router))


def test_behaviour_27_a_selector_goes_by_the_names_of_tools(router: Router) -> None:
    """Order does not matter; tools without names, with one name or with an unknown one are errors that tell so."""
    selector = MixLLMSelector(router=router, arms=ARMS)
    assert isinstance(selector, BaseSelector)
    assert selector.get_prompts() == {}
    assert selector.select([QUICK, CAREFUL], QUESTION).ind == 0
    assert selector.select([CAREFUL, QUICK], QUESTION).ind == 1
    strange: list[list[Any]] = [["a plain text"], [QUICK, QUICK], [QUICK, ToolMetadata("b", name="strange")]]
    for choices in strange:
        with pytest.raises(ConfigError, match="give each tool a name of its own"):
            selector.select(choices, QUESTION)


async def test_behaviour_28_the_decision_reaches_the_response(router: Router) -> None:
    """In the metadata of responses, blocking or not, streamed or not; a retriever's reaches the collector."""
    selector = MixLLMSelector(router=router, arms=ARMS)
    with track_decisions() as tracked:
        found: list[Any] = []
        for streaming in (False, True):
            engine = routing(selector, streaming)
            found += [engine.query(QUESTION), await engine.aquery(QUESTION)]
            for response in found[-2:]:
                if isinstance(response, StreamingResponse):
                    assert "".join(response.response_gen) == "Good day to you"
                elif isinstance(response, AsyncStreamingResponse):
                    assert "".join(await collected(response.response_gen)) == "Good day to you"
                else:
                    assert isinstance(response, Response)
        assert [selector.feedback(response, 1.0).decision_id for response in found] == tracked.decision_ids
        retrievers = [
            RetrieverTool.from_defaults(index("Clause four.").as_retriever(), name=name, description=name)
            for name in ARMS
        ]
        RouterRetriever(selector=selector, retriever_tools=retrievers, llm=MixLLM(router=router)).retrieve(QUESTION)
    assert len(tracked.decisions) == 5
    assert selector.feedback(tracked.decision_ids[-1], 1.0).status == "applied"


def test_behaviour_29_feedback_changes_later_choices(server: ScriptedServer, tmp_path: Path) -> None:
    """It is learned, once however often it is given, and after a restart too; an unknown decision is an error."""
    path = tmp_path / "mixllm.db"
    with tiny_router(api_base=server.base_url, store=path) as router:
        selector = MixLLMSelector(router=router, arms=ARMS)
        engine = routing(selector)
        chosen = []
        for turn in range(50):
            response: Any = engine.query(f"What does clause {turn} of the lease say about repairs?")
            chosen.append(response.metadata["selector_result"].candidate)
            selector.feedback(response, 1.0 if chosen[-1] == "dear" else 0.1)
        assert chosen[-15:].count("dear") >= 13
        late: Any = engine.query(QUESTION)
        before = labels(router)
    with tiny_router(api_base=server.base_url, store=path) as again:
        selector = MixLLMSelector(router=again, arms=ARMS)
        assert [selector.feedback(late, score).status for score in (1.0, 1.0)] == ["applied", "duplicate"]
        assert labels(again) == before + 1
        with pytest.raises(UnknownDecisionError, match="no decision"):
            selector.feedback("nothing", 1.0)


# -- feedback, keeping -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:asyncio_module:DeprecationWarning")  # in LlamaIndex's BatchEvalRunner
async def test_behaviour_30_evaluations_are_feedback(server: ScriptedServer, router: Router) -> None:
    """Scores come to [0, 1], what is no judgement is skipped, batches go by position, and judges are not tracked."""

    def verdict(request: Any) -> Reply:
        """Judge by what is in the prompt: whose question it is."""
        prompt = str(request.body["messages"])
        return Reply(text="NO" if "clause 1" in prompt else "YES")

    server.script("judge", verdict)
    server.script("marker", [Reply(text="4.0\nfine"), Reply(text="abc\nno number"), Reply(text="one line")])
    judge, marker = (MixLLM(router=pool(server, **{name: {}})) for name in ("judge", "marker"))
    evaluators = {"relevant": RelevancyEvaluator(llm=judge), "correct": CorrectnessEvaluator(llm=marker)}
    feedback = EvaluatorFeedback(router, evaluators)
    selector = MixLLMSelector(router=router, arms=ARMS)
    engine = routing(selector)
    questions = [f"What does clause {turn} say?" for turn in range(3)]
    responses: list[Any] = [engine.query(question) for question in questions]
    with track_decisions() as tracked:
        runner = BatchEvalRunner({"relevant": evaluators["relevant"]}, workers=2)
        results = await runner.aevaluate_responses(questions, responses)
        batch = feedback.apply_batch(responses, results)
        assert len(tracked.decisions) == 3  # the runner's judge is nobody's but its caller's
        single = [
            await feedback.aapply(question, response, reference="The roof.")
            for question, response in zip(questions, responses, strict=True)
        ]
        assert len(tracked.decisions) == 3
    assert [judged.receipts["relevant"].reward for judged in batch] == [1.0, 0.0, 1.0]
    assert [judged.receipts["relevant"].status for judged in single] == ["duplicate"] * 3
    assert [judged.receipts["relevant"].decision_id for judged in single] == [
        response.metadata["selector_result"].decision_id for response in responses
    ]
    assert single[0].receipts["correct"].reward == 0.75
    assert [set(judged.skipped) for judged in single] == [set(), {"correct"}, {"correct"}]
    assert router.stats()["decisions"] == 3


def test_behaviour_31_copies_work_and_no_key_is_told(
    server: ScriptedServer, tmp_path: Path, recorded: RecordedEvents
) -> None:
    """Serialised, pickled and copied it answers as before; a key is sent to its candidate and shown to nobody."""
    own = Candidate(
        name="own",
        model="openai/cheap",
        api_base=server.base_url,
        api_key=KEY,
        input_usd_per_mtok=1,
        output_usd_per_mtok=2,
        params={"extra_headers": {"X-Key": KEY}},
    )
    llm = MixLLM(candidates=[own], store=tmp_path / "mixllm.db", budget="low", temperature=0.3)
    said = llm.complete("Hello?")
    assert server.requests[0].api_key == KEY
    data, pickled = json.loads(llm.to_json()), pickle.dumps(llm)
    copies = [MixLLM.from_dict(data), MixLLM.from_json(json.dumps(data)), pickle.loads(pickled), copy.deepcopy(llm)]
    for made in copies:
        assert made.to_dict() == llm.to_dict()
        assert made.complete("Hello?").text == "Good day to you"
        assert made.router.explain(told(said)["decision_id"]).decision.candidate == "own"  # the same store
    assert copies[-1].router is llm.router
    shown = [repr(llm), str(data), repr(said), *map(repr, recorded.events)]  # events have what to_payload returns
    shown += [str(event.model_dump()) for event in recorded.events]
    assert [text for text in shown if KEY in text] == []
    assert KEY.encode() not in pickled
    for made in copies[:3]:
        made.router.close()
    llm.router.close()
