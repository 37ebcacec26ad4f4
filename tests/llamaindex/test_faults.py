"""Providers that answer wrongly, on all ways to ask, and objects that outlive an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llamaindex_mixllm import MixLLM
from mixllm_engine import Router, RouterConfig
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import Cut, HashingEncoder, Reply, ScriptedServer, tiny_pool
from tests import litellm_clients
from tests.engine.raw_server import WRONG, Answer, body, completion, raw_server

from .contract import HELLO, WAYS, asked, text_of
from .test_failures import errors, in_flight
from .test_llm import told


def over(cheap_at: str, server: ScriptedServer) -> MixLLM:
    """Return an LLM that asks the cheap candidate first, at an address of its own."""
    cheap, dear = tiny_pool(server.base_url)
    config = RouterConfig(exploration=ExplorationConfig(rate=0.0, pulls=0))
    pool = [replace(cheap, api_base=cheap_at), dear]
    return MixLLM(router=Router(pool, config=config, encoder=HashingEncoder(), seed=0), budget="very_low")


@pytest.fixture(params=list(WRONG.values()), ids=list(WRONG))
def wrong(request: pytest.FixtureRequest) -> Iterator[str]:
    answer: Answer = request.param
    with raw_server(answer) as address:
        yield address


@pytest.mark.parametrize("way", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_what_is_no_answer_falls_back(way: str, wrong: str, server: ScriptedServer) -> None:
    llm = over(wrong, server)
    last = (await asked(llm, way))[-1]
    assert text_of(last) == "A very good day"
    assert errors(llm.router, told(last)["decision_id"]) == [("cheap", "unavailable"), ("dear", None)]
    assert llm.feedback(last, 1.0).candidate == "dear"
    assert in_flight(llm.router) == 0


@pytest.mark.parametrize("way", [way for way in WAYS if "stream" in way])
async def test_an_orderly_end_in_the_middle_is_no_answer(way: str, server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", [Cut(text="One two three", after_tokens=2, clean=True), Cut(text="", after_tokens=0)])
    with pytest.raises(Exception, match="ended before a finish.reason"):
        await asked(llm, way)
    assert (in_flight(llm.router), server.count("dear")) == (0, 0)


@pytest.mark.parametrize("way", ["chat", "achat"])
@pytest.mark.parametrize("usage", [{}, {"usage": {"prompt_tokens": -1, "completion_tokens": -3, "total_tokens": -4}}])
async def test_an_answer_without_a_usable_usage_is_an_answer(way: str, usage: Any, server: ScriptedServer) -> None:
    with raw_server(body(completion(**usage))) as address:
        llm = over(address, server)
        last = (await asked(llm, way))[-1]
    assert text_of(last) == "Hi there"
    (outcome,) = llm.router.explain(told(last)["decision_id"]).outcomes
    assert (outcome.error, outcome.response_tokens, outcome.cost_usd) == (None, None, None)


def test_one_llm_serves_one_event_loop_after_the_other(llm: MixLLM) -> None:
    for way in ("achat", "astream_chat", "acomplete", "astream_complete"):
        assert text_of(litellm_clients.run(asked(llm, way))[-1]) == "Good day to you"
    assert (llm.router.stats()["outcomes"], in_flight(llm.router)) == (4, 0)


def test_a_loop_that_ends_in_mid_stream_leaves_nothing_open(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", Reply(text="word " * 200, token_delay_s=0.05))
    begun: list[Any] = []

    async def leave() -> None:
        chunks = await llm.astream_chat(HELLO)
        begun.append(chunks)  # nobody closes it, and it outlives the loop
        begun.append(await anext(chunks))

    litellm_clients.run(leave())
    server.wait_for(lambda request: request.disconnected)
    assert errors(llm.router, told(begun[1])["decision_id"]) == [("cheap", "cancelled")]
    assert in_flight(llm.router) == 0
