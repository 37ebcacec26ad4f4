"""Providers that answer wrongly, on all four ways, and what is terminated or outlives its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Router, RouterConfig
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, tiny_pool
from tests import litellm_clients
from tests.engine.raw_server import WRONG, Answer, body, completion, raw_server
from tests.langchain.conftest import Ask

# What providers say of usage that nobody can count with.
USAGES: dict[str, Any] = {
    "missing": {},
    "zero": {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
    "negative": {"usage": {"prompt_tokens": -1, "completion_tokens": -3, "total_tokens": -4}},
    "absurd": {"usage": {"prompt_tokens": 10**30, "completion_tokens": 10**25, "total_tokens": 3}},
}


def over(cheap_at: str, server: ScriptedServer) -> ChatMixLLM:
    """Return a model that asks the cheap candidate first, at an address of its own."""
    cheap, dear = tiny_pool(server.base_url)
    config = RouterConfig(exploration=ExplorationConfig(rate=0.0, pulls=0))
    router = Router([replace(cheap, api_base=cheap_at), dear], config=config, encoder=HashingEncoder(), seed=0)
    return ChatMixLLM(router=router, budget="very_low")


def attempts(llm: ChatMixLLM, message: Any) -> list[tuple[str, str | None]]:
    decision_id = message.response_metadata["mixllm"]["decision_id"]
    return [(outcome.candidate, outcome.error) for outcome in llm.router.explain(decision_id).outcomes]


def in_flight(llm: ChatMixLLM) -> int:
    return sum(said["in_flight"] for said in llm.router.stats()["candidates"].values())


@pytest.fixture(params=list(WRONG.values()), ids=list(WRONG))
def wrong(request: pytest.FixtureRequest) -> Iterator[str]:
    answer: Answer = request.param
    with raw_server(answer) as address:
        yield address


async def test_what_is_no_answer_falls_back(ask: Ask, wrong: str, server: ScriptedServer) -> None:
    llm = over(wrong, server)
    message = await ask(llm, "Hello?")
    assert message.text == "Hello from dear to you"
    assert attempts(llm, message) == [("cheap", "unavailable"), ("dear", None)]
    assert llm.feedback(message, 1.0).candidate == "dear"
    assert in_flight(llm) == 0


@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES)
@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
async def test_an_answer_without_a_usable_usage_is_an_answer_of_unknown_cost(
    is_async: bool, usage: Any, server: ScriptedServer
) -> None:
    with raw_server(body(completion(**usage))) as address:
        llm = over(address, server)
        message = await llm.ainvoke("Hello?") if is_async else llm.invoke("Hello?")
    assert (message.text, attempts(llm, message), in_flight(llm)) == ("Hi there", [("cheap", None)], 0)
    (outcome,) = llm.router.explain(message.response_metadata["mixllm"]["decision_id"]).outcomes
    assert (outcome.prompt_tokens, outcome.response_tokens, outcome.cost_usd) == (None, None, None)
    assert "response_cost" not in message.response_metadata


def test_one_model_serves_one_event_loop_after_the_other(llm: ChatMixLLM) -> None:
    async def stream() -> str:
        return "".join([chunk.text async for chunk in llm.astream("Hello?")])

    async def invoke() -> str:
        return (await llm.ainvoke("Hello?")).text

    for _ in range(2):
        assert litellm_clients.run(invoke()) == litellm_clients.run(stream()) == "Hello from cheap to you"
    assert (llm.router.stats()["outcomes"], in_flight(llm)) == (4, 0)


def test_a_loop_that_ends_in_mid_stream_leaves_nothing_open(llm: ChatMixLLM, server: ScriptedServer) -> None:
    server.script("cheap", Reply(text="word " * 200, token_delay_s=0.05))
    begun: list[Any] = []

    async def leave() -> None:
        chunks = llm.astream("Hello?")
        begun.append(chunks)  # nobody closes it, and it outlives the loop
        begun.append(await anext(chunks))

    litellm_clients.run(leave())
    server.wait_for(lambda request: request.disconnected)
    assert attempts(llm, begun[1]) == [("cheap", "cancelled")]
    assert in_flight(llm) == 0


def test_tasks_that_are_cancelled_together_leave_nothing_open(llm: ChatMixLLM, server: ScriptedServer) -> None:
    server.script("cheap", Reply(text="late", delay_s=30.0))

    async def give_up() -> list[Any]:
        tasks = [asyncio.ensure_future(llm.ainvoke("Hello?")) for _ in range(8)]
        await asyncio.to_thread(server.wait_for, lambda _: server.count("cheap") == 8, 10.0)
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(result) for result in litellm_clients.run(give_up())} == {asyncio.CancelledError}
    stats = llm.router.stats()
    assert (stats["outcomes"], in_flight(llm), server.count("dear")) == (8, 0, 0)
    assert llm.router.decide("x", budget="very_low").candidate == "cheap"  # and no pause
