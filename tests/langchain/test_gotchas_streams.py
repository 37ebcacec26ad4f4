"""Traps 1 to 5, 10 and 11 of a LangChain chat model that routes and learns: what streams carry, and how they end."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import aclosing, closing
from functools import reduce
from operator import add as plus
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_mixllm import ChatMixLLM, track_decisions
from mixllm_engine import CallError
from mixllm_engine.testing import Cut, Reply, ScriptedServer
from tests.langchain.noting import Watcher, noted, outcomes

LONG = Reply(text="word " * 200, token_delay_s=0.05)


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
