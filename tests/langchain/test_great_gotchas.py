"""The three great traps: decisions inside decisions, sixteen streams at once, and an agent of five steps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import reduce
from operator import add as plus
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage

from langchain_mixllm import ChatMixLLM, track_decisions
from mixllm_engine import Router
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer, ToolCall, tiny_pool
from mixllm_engine.testing.behaviours import Behaviour, RecordedRequest
from tests.langchain.conftest import Ask
from tests.langchain.noting import Watcher, noted, outcomes


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
