"""Failures: one request per attempt, fallback before the first token only, and streams that nobody reads."""

import asyncio
import gc
from contextlib import suppress
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llamaindex_mixllm import MixLLM
from mixllm_engine import AllCandidatesFailedError, Router
from mixllm_engine.testing import Cut, Failure, Hang, Reply, ScriptedServer, ToolCall

from .conftest import RecordedEvents
from .contract import HELLO, WAYS, asked, text_of
from .test_llm import told

SLOW = Reply(text="one two three four five", token_delay_s=0.2)


def in_flight(router: Router) -> int:
    return sum(candidate["in_flight"] for candidate in router.stats()["candidates"].values())


def labels(router: Router) -> int:
    return sum(candidate["labels"] for candidate in router.stats()["candidates"].values())


def errors(router: Router, decision_id: str) -> list[tuple[str, str | None]]:
    return [(outcome.candidate, outcome.error) for outcome in router.explain(decision_id).outcomes]


# -- fallback --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("failure", "kind"),
    [(Failure(status=429), "rate_limit"), (Failure(status=500), "unavailable"), (Hang(seconds=30), "timeout")],
    ids=["429", "500", "timeout"],
)
async def test_a_failure_costs_one_request_and_the_next_candidate_answers(
    server: ScriptedServer, llm: MixLLM, way: str, failure: Any, kind: str
) -> None:
    server.script("cheap", failure)
    last = (await asked(llm, way, timeout=0.5))[-1]
    assert text_of(last) == "A very good day"
    assert (told(last)["candidate"], told(last)["model"]) == ("dear", "openai/dear")
    assert (server.count("cheap"), server.count("dear")) == (1, 1)
    assert errors(llm.router, told(last)["decision_id"]) == [("cheap", kind), ("dear", None)]
    assert (in_flight(llm.router), labels(llm.router)) == (0, 0)
    assert llm.feedback(last, 1.0).candidate == "dear"  # credited to who answered


def test_a_forced_candidate_is_not_replaced(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", Failure(status=500))
    with pytest.raises(AllCandidatesFailedError, match="all 1 candidates failed"):
        llm.chat(HELLO, force="cheap")
    assert server.count("dear") == 0


# -- broken streams --------------------------------------------------------------------------------------------------


def test_a_stream_that_breaks_before_its_first_token_is_taken_up(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", Cut(text="one two", after_tokens=0))
    assert "".join(chunk.delta or "" for chunk in llm.stream_chat(HELLO)) == "A very good day"
    assert (server.count("cheap"), server.count("dear")) == (1, 1)


# -- abandoned streams -----------------------------------------------------------------------------------------------


def assert_cancelled(server: ScriptedServer, router: Router, decision_id: str) -> None:
    assert server.wait_for(lambda request: request.disconnected).model == "cheap"
    assert errors(router, decision_id) == [("cheap", "cancelled")]
    assert (in_flight(router), labels(router)) == (0, 0)
    assert router.decide("Hello?").candidate == "cheap"  # it was not the candidate's fault


@pytest.mark.parametrize("way", ["stream_chat", "stream_complete"])
def test_closing_a_stream_hangs_up(server: ScriptedServer, llm: MixLLM, recorded: RecordedEvents, way: str) -> None:
    server.script("cheap", SLOW)
    stream = getattr(llm, way)("Hello?" if "complete" in way else HELLO)
    first = next(stream)
    assert in_flight(llm.router) == 1
    stream.close()
    assert_cancelled(server, llm.router, told(first)["decision_id"])
    assert recorded.names("Exception") == ["ExceptionEvent"]  # the recorder holds the frames: nothing is left to chance


@pytest.mark.parametrize("way", ["astream_chat", "astream_complete"])
async def test_closing_an_asynchronous_stream_hangs_up(
    server: ScriptedServer, llm: MixLLM, recorded: RecordedEvents, way: str
) -> None:
    server.script("cheap", SLOW)
    stream = await getattr(llm, way)("Hello?" if "complete" in way else HELLO)
    first = await anext(stream)
    assert in_flight(llm.router) == 1
    await stream.aclose()
    assert in_flight(llm.router) == 0
    await asyncio.to_thread(assert_cancelled, server, llm.router, told(first)["decision_id"])
    assert recorded.names("Exception") == ["ExceptionEvent"]


def test_leaving_a_loop_hangs_up(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", SLOW)
    decision_id = ""
    for chunk in llm.stream_chat(HELLO):
        decision_id = told(chunk)["decision_id"]
        break
    assert_cancelled(server, llm.router, decision_id)


@pytest.mark.parametrize("way", ["achat", "astream_chat"])
async def test_a_cancelled_task_hangs_up(server: ScriptedServer, llm: MixLLM, way: str) -> None:
    server.script("cheap", Hang(seconds=30))
    task = asyncio.ensure_future(asked(llm, way))
    await asyncio.to_thread(server.wait_for, lambda request: request.model == "cheap")
    assert in_flight(llm.router) == 1
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    await asyncio.to_thread(server.wait_for, lambda request: request.disconnected)
    assert (in_flight(llm.router), labels(llm.router), server.count("dear")) == (0, 0, 0)


async def test_a_stream_that_is_never_read_calls_nobody(server: ScriptedServer, llm: MixLLM) -> None:
    stream, astream = llm.stream_chat(HELLO), await llm.astream_chat(HELLO)
    assert llm.router.stats()["decisions"] == 2  # decided at once
    assert in_flight(llm.router) == 0
    stream.close()
    await astream.aclose()
    del stream, astream
    gc.collect()
    stats = llm.router.stats()
    assert (server.requests, stats["outcomes"], in_flight(llm.router)) == ((), 0, 0)


def test_a_stream_in_the_middle_of_a_tool_call_hangs_up(server: ScriptedServer, llm: MixLLM) -> None:
    call = ToolCall(name="f", arguments={"a": "b c d e f"})
    server.script("cheap", Reply(tool_calls=[call], token_delay_s=0.2))
    stream = llm.stream_chat(
        [ChatMessage(content="Hello?")],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    )
    decision_id = told(next(stream))["decision_id"]
    stream.close()
    assert_cancelled(server, llm.router, decision_id)
