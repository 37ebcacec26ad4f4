"""The twenty traps of a LangChain chat model that routes and learns, one test each; then the three great ones."""

from __future__ import annotations

import asyncio
import json
import os
import tomllib
import warnings
from collections.abc import Callable
from contextlib import aclosing, closing
from functools import reduce
from operator import add as plus
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import add_usage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import ConfigurableField
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_mixllm import ChatMixLLM, track_decisions
from mixllm_engine import CallError, Router, UnknownCandidateError, UnknownDecisionError
from mixllm_engine.calling import litellm_client
from mixllm_engine.testing import Cut, Failure, Hang, HashingEncoder, Reply, ScriptedServer, ToolCall, tiny_pool
from mixllm_engine.testing.behaviours import Behaviour, RecordedRequest
from tests.langchain.conftest import Ask

LONG = Reply(text="word " * 200, token_delay_s=0.05)


class Joke(BaseModel):
    """A joke."""

    setup: str


def look(city: str) -> str:
    """Tell the weather."""
    return f"Sunny in {city}"


class Watcher(BaseCallbackHandler):
    """Keeps the runs, tokens and ends of chat models."""

    def __init__(self) -> None:
        self.runs: list[UUID] = []
        self.tokens: list[Any] = []
        self.ends: list[Any] = []
        self.errors: list[BaseException] = []

    def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self.runs.append(run_id)

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.tokens.append(token)

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.ends.append(response)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.errors.append(error)


def noted(message: BaseMessage) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["mixllm"]
    return found


def outcomes(llm: ChatMixLLM, decision_id: str) -> list[tuple[str, str | None]]:
    return [(outcome.candidate, outcome.error) for outcome in llm.router.explain(decision_id).outcomes]


async def no_blame(llm: ChatMixLLM, server: ScriptedServer, decision_id: str) -> None:
    """Check that the server saw the consumer go within a second, and that nobody was graded or paused for it."""
    seen = await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 1.0)
    assert not seen.finished
    assert outcomes(llm, decision_id) == [("cheap", "cancelled")]
    stats = llm.router.stats()
    assert (stats["candidates"]["cheap"]["labels"], stats["candidates"]["cheap"]["in_flight"]) == (0, 0)
    assert stats["feedback_applied"] == 0
    assert server.count("dear") == 0
    assert llm.router.decide("Next?", willingness_to_pay=0.0).candidate == "cheap"


@pytest.mark.parametrize("is_async", [False, True], ids=["stream", "astream"])
async def test_gotcha_01_stream_gets_no_run_manager(llm: ChatMixLLM, is_async: bool) -> None:
    """The hook never learns its run; tokens are told once all the same, and the run leads to the decision."""
    watcher = Watcher()
    config: Any = {"callbacks": [watcher]}
    chunks = [c async for c in llm.astream("Hello?", config)] if is_async else list(llm.stream("Hello?", config))

    assert [token for token in watcher.tokens if token] == [chunk.text for chunk in chunks if chunk.text]
    assert len(watcher.ends) == 1
    assert llm.feedback(watcher.runs[0], 1.0).decision_id == noted(chunks[0])["decision_id"]


def test_gotcha_02_metadata_stands_on_one_chunk(llm: ChatMixLLM) -> None:
    """Merging chunks joins strings, adds integers and refuses floats."""
    chunks = list(llm.stream("Hello?"))

    for key in ("mixllm", "model_name", "response_cost", "finish_reason"):
        assert [key in chunk.response_metadata for chunk in chunks].count(True) == 1, key
    assert "mixllm" in chunks[0].response_metadata  # so that a stream that is left early carries it
    assert [chunk.usage_metadata is not None for chunk in chunks].count(True) == 1
    whole = reduce(plus, chunks)
    assert whole.response_metadata["model_name"] == "openai/cheap"
    assert noted(whole).keys() == {"decision_id", "candidate", "model", "propensity", "explored"}


async def test_gotcha_03_langgraph_shows_one_message_id(llm: ChatMixLLM) -> None:
    """Without a last chunk of ours LangChain adds one, under another id."""

    async def node(state: MessagesState) -> Any:
        return {"messages": [await llm.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", node)
    builder.add_edge(START, "model")
    builder.add_edge("model", END)
    graph = builder.compile()
    shown = [part async for part in graph.astream({"messages": [HumanMessage("Hello?")]}, stream_mode="messages")]
    chunks: list[Any] = [message for message, _ in shown]

    assert "".join(chunk.text for chunk in chunks) == "Hello from cheap to you"
    assert {chunk.id for chunk in chunks} == {f"mixllm-{noted(chunks[0])['decision_id']}"}
    assert [chunk.chunk_position for chunk in chunks].count("last") == 1


def test_gotcha_04_events_of_version_three_name_the_run(llm: ChatMixLLM) -> None:
    """Their message has the run's id, not ours: its metadata leads to the decision, and so does that id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are beta
        stream: Any = llm.stream_events("Hello?", version="v3")
        message: AIMessage = stream.output

    assert str(message.id).startswith("lc_run--")
    assert message.text == "Hello from cheap to you"
    receipt = llm.feedback(message, 1.0)
    assert (receipt.decision_id, receipt.status) == (noted(message)["decision_id"], "applied")
    assert llm.feedback(str(message.id), 1.0).status == "duplicate"


class TestGotcha05CancellingIsNoGrade:
    """A consumer that goes is told to callbacks as an error, or, of a call, not at all."""

    @pytest.fixture(autouse=True)
    def _long(self, server: ScriptedServer) -> None:
        server.script("cheap", LONG)

    async def test_gotcha_05_a_stream_that_is_closed(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        watcher = Watcher()
        with closing(llm.stream("Hello?", {"callbacks": [watcher]})) as chunks:  # type: ignore[type-var]
            first = next(chunks)
        assert [type(error) for error in watcher.errors] == [GeneratorExit]
        await no_blame(llm, server, noted(first)["decision_id"])

    async def test_gotcha_05_a_stream_that_is_cancelled(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        watcher, seen = Watcher(), []

        async def consume() -> None:
            async for chunk in llm.astream("Hello?", {"callbacks": [watcher]}):
                seen.append(chunk)

        task = asyncio.create_task(consume())
        while not seen:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [type(error) for error in watcher.errors] == [asyncio.CancelledError]
        await no_blame(llm, server, noted(seen[0])["decision_id"])

    async def test_gotcha_05_a_call_that_is_cancelled(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        watcher = Watcher()
        with track_decisions() as tracked:
            task = asyncio.create_task(llm.ainvoke("Hello?", {"callbacks": [watcher]}))
        while not server.count("cheap"):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (watcher.ends, watcher.errors) == ([], [])
        await no_blame(llm, server, tracked.decision_ids[0])


def test_gotcha_06_a_cache_hit_is_the_same_decision(llm: ChatMixLLM, server: ScriptedServer) -> None:
    """It repeats the message and ends a run again; calls, costs and feedback are counted once."""
    cached, watcher = llm.model_copy(update={"cache": InMemoryCache()}), Watcher()
    first, again = (cached.invoke("Hello?", {"callbacks": [watcher]}) for _ in range(2))

    assert (first.id, noted(first)) == (again.id, noted(again))
    assert (len(watcher.ends), server.count("cheap")) == (2, 1)
    assert cached.feedback(first, 1.0).status == "applied"
    assert cached.feedback(again, 1.0).status == "duplicate"
    stats = llm.router.stats()
    assert (stats["decisions"], stats["outcomes"], stats["feedback_applied"]) == (1, 1, 1)


def test_gotcha_07_histories_as_openais_dicts_lose_the_metadata(llm: ChatMixLLM) -> None:
    """They can be continued, and feedback on their messages says why it is impossible."""
    call: Any = {"name": "look", "args": {"city": "Rome"}, "id": "t1"}
    history = [HumanMessage("Weather?"), llm.invoke("Weather?"), HumanMessage("In Rome?")]
    history += [AIMessage("", tool_calls=[call]), ToolMessage("Sunny", tool_call_id="t1")]
    plain = convert_to_openai_messages(history)
    assert isinstance(plain, list)

    assert llm.bind_tools([look]).invoke(plain).text == "Hello from cheap to you"
    with pytest.raises(UnknownDecisionError, match="names no decision"):
        llm.feedback(convert_to_messages(plain)[1], 1.0)
    assert llm.feedback(history[1], 1.0).status == "applied"


async def test_gotcha_08_structured_output_returns_no_message(llm: ChatMixLLM, server: ScriptedServer) -> None:
    """The decision behind a parsed object is found by tracking."""
    server.script("cheap", Reply(text='{"setup": "Why?"}'))
    structured = llm.with_structured_output(Joke)
    with track_decisions() as tracked:
        assert structured.invoke("A joke") == Joke(setup="Why?")
        assert await structured.ainvoke("Another") == Joke(setup="Why?")

    assert len(tracked.decisions) == 2
    assert [llm.feedback(decision, 1.0).candidate for decision in tracked.decisions] == ["cheap", "cheap"]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(status=429), "rate_limit"),
        (Failure(status=500), "unavailable"),
        (Failure(status=401), "auth"),
        (Hang(seconds=5), "timeout"),
    ],
    ids=["429", "500", "401", "timeout"],
)
async def test_gotcha_09_nothing_is_retried_behind_our_back(
    ask: Ask, llm: ChatMixLLM, server: ScriptedServer, failure: Behaviour, kind: str
) -> None:
    """Hidden retries cost three requests and spoil what is learned of latency and of errors."""
    server.script("cheap", failure)
    message = await ask(llm, "Hello?", timeout=0.3 if kind == "timeout" else 5)

    assert message.text == "Hello from dear to you"
    assert (server.count("cheap"), server.count("dear")) == (1, 1)
    assert (noted(message)["candidate"], message.response_metadata["model_name"]) == ("dear", "openai/dear")
    assert outcomes(llm, noted(message)["decision_id"]) == [("cheap", kind), ("dear", None)]
    assert llm.feedback(message, 1.0).candidate == "dear"


class TestGotcha10StreamsThatAreLeftAreClosed:
    """The consumer leaves after one chunk; the server sees it within a second."""

    @pytest.fixture(autouse=True)
    def _long(self, server: ScriptedServer) -> None:
        server.script("cheap", LONG)

    async def test_gotcha_10_by_break(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        seen = []
        for chunk in llm.stream("Hello?"):
            seen.append(chunk)
            break
        await no_blame(llm, server, noted(seen[0])["decision_id"])

    async def test_gotcha_10_by_break_of_an_async_loop(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        seen = []
        async for chunk in llm.astream("Hello?"):
            seen.append(chunk)
            break
        await no_blame(llm, server, noted(seen[0])["decision_id"])

    async def test_gotcha_10_by_closing(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        async with aclosing(llm.astream("Hello?")) as chunks:  # type: ignore[type-var]
            first = await anext(chunks)
        await no_blame(llm, server, noted(first)["decision_id"])

    async def test_gotcha_10_by_break_of_a_chain(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        async for _ in (llm | StrOutputParser()).astream("Hello?"):
            break
        await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 1.0)


@pytest.mark.parametrize("is_async", [False, True], ids=["stream", "astream"])
async def test_gotcha_11_no_finish_reason_is_invented(llm: ChatMixLLM, server: ScriptedServer, is_async: bool) -> None:
    """LiteLLM says "stop" of a stream that was cut off quietly; here it is a broken answer, and no bad one."""
    seen: list[Any] = []

    async def read() -> None:
        seen.clear()
        if is_async:
            async for chunk in llm.astream("Hello?"):
                seen.append(chunk)
        else:
            for chunk in llm.stream("Hello?"):
                seen.append(chunk)

    server.script("cheap", [Reply(text="One two"), Cut(text="One two three", after_tokens=2, clean=True)])
    await read()
    assert reduce(plus, seen).response_metadata["finish_reason"] == "stop"
    with pytest.raises(CallError, match=r"broke off.*ended before a finish"):
        await read()
    assert "".join(chunk.text for chunk in seen) == "One two"
    assert not any("finish_reason" in chunk.response_metadata for chunk in seen)
    assert outcomes(llm, noted(seen[0])["decision_id"]) == [("cheap", "broken_stream")]
    assert llm.router.stats()["candidates"]["cheap"]["labels"] == 0


def test_gotcha_12_strict_belongs_into_the_tools(llm: ChatMixLLM, server: ScriptedServer) -> None:
    """At the top level of a request providers refuse it."""
    llm.bind_tools([look], strict=True).invoke("Weather?")
    sent: Any = server.requests[-1].body

    assert "strict" not in sent
    assert sent["tools"][0]["function"]["strict"] is True


async def test_gotcha_13_timeout_and_stop_of_the_model_hold(ask: Ask, router: Router, server: ScriptedServer) -> None:
    """ChatLiteLLM takes both and ignores them."""
    server.script("cheap", Hang(seconds=5))
    message = await ask(ChatMixLLM(router=router, budget="very_low", timeout=0.3, stop=["END"]), "Hello?")

    assert outcomes(ChatMixLLM(router=router), noted(message)["decision_id"])[0] == ("cheap", "timeout")
    assert server.requests[-1].body["stop"] == ["END"]


def test_gotcha_14_it_is_not_serialisable_as_langchains_own(llm: ChatMixLLM) -> None:
    """LangChain loads its own classes only: a form that could not be loaded again is not offered."""
    assert not llm.is_lc_serializable()
    assert dumpd(llm)["type"] == "not_implemented"


async def test_gotcha_15_usage_holds_integers_only(ask: Ask, llm: ChatMixLLM) -> None:
    """LangChain can't add usages that hold a cost; it stands in the metadata of the response."""
    one, other = await ask(llm, "Hello?"), await ask(llm, "Hello again?")

    assert add_usage(one.usage_metadata, other.usage_metadata)["total_tokens"] == 32
    assert "total_cost" not in (one.usage_metadata or {})
    assert one.response_metadata["response_cost"] == pytest.approx((11 * 0.1 + 5 * 0.4) / 1e6)


async def test_gotcha_16_the_provider_stays_litellm(ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
    """It selects what turns an answer into content blocks: citations of the provider come through."""
    message = await ask(llm, "Hello?")
    assert message.response_metadata["model_provider"] == "litellm"
    cited = message.model_copy(
        update={
            "additional_kwargs": {
                "annotations": [
                    {
                        "type": "url_citation",
                        "url_citation": {"url": "https://host/", "title": "T", "start_index": 0, "end_index": 5},
                    }
                ]
            }
        }
    )
    (block,) = cited.content_blocks
    assert block["type"] == "text"
    assert [annotation["type"] for annotation in block["annotations"]] == ["citation"]


def test_gotcha_17_litellm_is_pinned_and_asks_the_network_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One release was compromised, and importing any asks for a newer map of prices."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (pin,) = [requirement for requirement in project["dependencies"] if requirement.startswith("litellm")]
    assert {"!=1.82.7", "!=1.82.8", "!=1.107.0"} <= set(pin.split(","))

    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP")
    litellm_client.load_litellm.cache_clear()
    litellm_client.load_litellm()
    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"


async def test_gotcha_18_an_agents_response_format_arrives(llm: ChatMixLLM, server: ScriptedServer) -> None:
    """Agents bind it together with the tools, where all candidates keep to schemas."""
    call = ToolCall(name="look", arguments={"city": "Rome"}, id="t1")
    server.script("cheap", [Reply(tool_calls=[call]), Reply(text='{"setup": "Sunny?"}')])
    agent = create_agent(llm, [look], response_format=Joke)  # no strategy is named: the profile decides
    result = await agent.ainvoke({"messages": [HumanMessage("A joke on the weather in Rome")]})

    assert result["structured_response"] == Joke(setup="Sunny?")
    for request in server.requests:
        sent: Any = request.body
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["look"]
        assert sent["response_format"]["json_schema"]["name"] == "Joke"
    server.script("cheap", Reply(text='{"setup": "Why?"}'))
    without_tools = create_agent(llm, response_format=ProviderStrategy(Joke))
    assert without_tools.invoke({"messages": [HumanMessage("A joke")]})["structured_response"] == Joke(setup="Why?")


@pytest.mark.parametrize("given", ["router", "candidates"])
def test_gotcha_19_a_model_that_is_rebuilt_shares_what_is_learned(
    server: ScriptedServer, router: Router, given: str
) -> None:
    """Configurable fields make a new model of the fields."""
    llm = ChatMixLLM(router=router) if given == "router" else ChatMixLLM(candidates=tiny_pool(server.base_url))
    configurable = llm.configurable_fields(
        force=ConfigurableField(id="who"), budget=ConfigurableField(id="budget"), session=ConfigurableField(id="talk")
    )
    config: Any = {"configurable": {"who": "dear", "budget": "low", "talk": "t"}}
    message = configurable.invoke("Hello?", config)
    chunks = list(configurable.stream("Hello?", config))

    assert (noted(message)["candidate"], noted(chunks[0])["candidate"]) == ("dear", "dear")
    assert len([chunk for chunk in chunks if chunk.text]) == 5
    assert llm.feedback(message, 1.0).status == "applied"
    assert llm.router.stats()["decisions"] == 2


async def test_gotcha_20_a_model_per_call_is_a_candidate_of_the_pool(ask: Ask, llm: ChatMixLLM) -> None:
    """LangChain's way to override the model names the candidate; there is none outside the pool."""
    message = await ask(llm, "Hello?", model="dear")
    assert noted(message)["candidate"] == "dear"
    decision = llm.router.explain(noted(message)["decision_id"]).record.decision
    assert (decision.reason, decision.propensity) == ("forced", 1.0)
    with pytest.raises(UnknownCandidateError, match="'openai/gpt-4o'.*'cheap', 'dear'"):
        await ask(llm, "Hello?", model="openai/gpt-4o")


async def test_two_decisions_one_inside_the_other_count_usage_once(
    ask: Ask, router: Router, server: ScriptedServer
) -> None:
    outer_router = Router(tiny_pool(names=["team"]), encoder=HashingEncoder())
    outer = ChatMixLLM(router=outer_router, models={"team": ChatMixLLM(router=router, force="dear")})
    watcher = Watcher()
    with get_usage_metadata_callback() as counted, track_decisions() as tracked:
        message = await ask(outer, "Hello?", config={"callbacks": [watcher]})

    assert message.text == "Hello from dear to you"
    assert counted.usage_metadata == {"openai/team": message.usage_metadata}
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 16
    assert (len(watcher.runs), len(watcher.ends), server.count("dear")) == (1, 1, 1)
    assert [decision.candidate for decision in tracked.decisions] == ["team", "dear"]
    assert (router.stats()["outcomes"], outer_router.stats()["outcomes"]) == (1, 1)


async def test_sixteen_streams_with_fallbacks_each_matched_to_its_feedback(
    llm: ChatMixLLM, server: ScriptedServer
) -> None:
    def busy_with_odd_ones(request: RecordedRequest) -> Behaviour:
        number = int(json.dumps(request.body["messages"]).split("number ")[1][:2])
        return Failure(status=422) if number % 2 else Reply(text=f"cheap on {number:02}", token_delay_s=0.01)

    def answer(request: RecordedRequest) -> Behaviour:
        number = json.dumps(request.body["messages"]).split("number ")[1][:2]
        return Reply(text=f"dear on {number}", token_delay_s=0.01)

    server.script("cheap", busy_with_odd_ones)
    server.script("dear", answer)

    async def one(number: int) -> tuple[int, AIMessageChunk, set[str | None]]:
        chunks = [chunk async for chunk in llm.astream(f"number {number:02}")]
        return number, reduce(plus, chunks), {chunk.id for chunk in chunks}

    answers = await asyncio.gather(*map(one, range(16)))
    receipts = await asyncio.gather(*(llm.afeedback(message, number / 16) for number, message, _ in answers))

    assert len({receipt.decision_id for receipt in receipts}) == 16
    for (number, message, ids), receipt in zip(answers, receipts, strict=True):
        who = "dear" if number % 2 else "cheap"
        assert message.text == f"{who} on {number:02}"
        assert ids == {f"mixllm-{receipt.decision_id}"}
        assert (receipt.candidate, receipt.reward) == (who, number / 16)
        errors = [("cheap", "bad_request")] if number % 2 else []
        assert outcomes(llm, receipt.decision_id) == [*errors, (who, None)]
    means = {name: of["mean_reward"] for name, of in llm.router.stats()["candidates"].items()}
    assert means == {"cheap": pytest.approx(7 / 16), "dear": pytest.approx(8 / 16)}


def steps(number: int) -> Callable[[RecordedRequest], Behaviour]:
    """Return a model that calls its tool so many times, then answers."""

    def behave(request: RecordedRequest) -> Behaviour:
        messages: Any = request.body["messages"]
        done = sum(message["role"] == "tool" for message in messages)
        call = ToolCall(name="change_mind", arguments={}, id=f"call_{done}")
        return Reply(tool_calls=[call]) if done < number else Reply(text="It is sunny")

    return behave


@pytest.mark.parametrize("thread", [None, "t1"], ids=["alone", "thread"])
@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
async def test_an_agent_of_five_steps_keeps_its_candidate_and_learns_from_one_thumbs_up(
    router: Router, server: ScriptedServer, thread: str | None, is_async: bool
) -> None:
    def teach(rewards: dict[str, float]) -> None:
        for number in range(20):
            for name, reward in rewards.items():
                router.feedback(router.decide(f"Q {number}", force=name), reward)

    def change_mind() -> str:
        """Make the other candidate the better one."""
        teach({"cheap": 0.0, "dear": 1.0})
        return "Sunny"

    teach({"cheap": 1.0, "dear": 0.0})
    for name in ("cheap", "dear"):
        server.script(name, steps(4))
    llm = ChatMixLLM(router=router, willingness_to_pay=1000.0)
    agent = create_agent(llm, [change_mind])
    config: Any = {"configurable": {"thread_id": thread}} if thread else None
    state: Any = {"messages": [HumanMessage("Q 7")]}
    result = await agent.ainvoke(state, config) if is_async else agent.invoke(state, config)

    answers = [message for message in result["messages"] if isinstance(message, AIMessage)]
    assert [noted(answer)["candidate"] for answer in answers] == ["cheap"] * 5
    assert (server.count("cheap"), server.count("dear")) == (5, 0)
    assert router.decide("Q 7", willingness_to_pay=1000.0).candidate == "dear"  # it would have changed
    before = router.stats()
    receipt = llm.feedback(answers[-1], 1.0)
    after = router.stats()
    assert (receipt.status, receipt.candidate) == ("applied", "cheap")
    assert after["feedback_applied"] == before["feedback_applied"] + 1
    assert after["candidates"]["cheap"]["mean_reward"] > before["candidates"]["cheap"]["mean_reward"]
