"""Candidates of several kinds: histories and fallbacks cross from one to the other, also where one is ours."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Candidate, Router
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer, tiny_pool
from tests.langchain.conftest import Ask
from tests.langchain.foreign.abroad import PRICES, Abroad, add


class TestTogether:
    """Histories and fallbacks cross from one kind of model to the other."""

    async def test_its_failures_lead_to_the_next(self, ask: Ask, router: Router) -> None:
        busy = type("RateLimitError", (Exception,), {"status_code": 429})("busy")
        llm = ChatMixLLM(router=router, models={"cheap": Abroad(failure=busy)}, budget="very_low")
        message = await ask(llm, "Hello?")

        assert message.text == "Hello from dear to you"
        outcomes = llm.router.explain(message.response_metadata["mixllm"]["decision_id"]).outcomes
        assert [(outcome.candidate, outcome.error) for outcome in outcomes] == [("cheap", "rate_limit"), ("dear", None)]

    async def test_it_answers_after_others_failed(
        self, ask: Ask, router: Router, abroad: Abroad, server: ScriptedServer
    ) -> None:
        server.script("cheap", Failure(status=500))
        llm = ChatMixLLM(router=router, models={"dear": abroad}, budget="very_low")
        assert (await ask(llm, "Hello?")).text.strip() == "From abroad"

    def test_its_bugs_are_raised(self, router: Router) -> None:
        llm = ChatMixLLM(router=router, models={"cheap": Abroad(failure=KeyError("oops"))}, budget="very_low")
        with pytest.raises(KeyError, match="oops"):
            llm.invoke("Hello?")

    def test_its_answers_can_be_continued_by_others(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        foreign = llm.invoke("Hello?", force="cheap")
        foreign.response_metadata["model_provider"] = "anthropic"
        asked = AIMessage(
            [{"type": "thinking", "thinking": "Hm", "signature": "x"}, {"type": "text", "text": "I shall add"}],
            tool_calls=[{"name": "add", "args": {"a": 1}, "id": "t1"}],
            response_metadata={"model_provider": "anthropic"},
        )
        history = [HumanMessage("Hello?"), foreign, HumanMessage("1 + 2?"), asked, ToolMessage("3", tool_call_id="t1")]
        assert llm.bind_tools([add]).invoke(history, force="dear").text == "Hello from dear to you"

        sent: Any = server.requests[-1].body["messages"]
        assert (sent[1]["content"], sent[3]["content"]) == ("From abroad", "I shall add")
        assert sent[3]["tool_calls"][0]["function"]["name"] == "add"

    async def test_leaving_its_stream_closes_it(self, llm: ChatMixLLM, abroad: Abroad) -> None:
        for chunk in llm.stream("Hello?"):
            if chunk.text:
                break
        assert abroad._closed.wait(1.0)
        abroad._closed.clear()
        async for chunk in llm.astream("Hello?"):
            if chunk.text:
                break
        assert await asyncio.to_thread(abroad._closed.wait, 1.0)


async def test_chat_models_of_our_own_can_be_nested(ask: Ask, router: Router, server: ScriptedServer) -> None:
    inner = ChatMixLLM(router=router, force="dear")
    outer_router = Router([Candidate(name="team", model="mixllm/team", **PRICES)], encoder=HashingEncoder())
    outer = ChatMixLLM(router=outer_router, models={"team": inner})
    with get_usage_metadata_callback() as counted:
        config: RunnableConfig = {"configurable": {"thread_id": "t"}}
        message = await ask(outer, "Hello?", config=config)

    assert message.text == "Hello from dear to you"
    assert message.response_metadata["mixllm"]["candidate"] == "team"
    assert counted.usage_metadata == {"mixllm/team": message.usage_metadata}
    assert server.count("dear") == 1
    assert (router.stats()["outcomes"], outer_router.stats()["outcomes"]) == (1, 1)


def test_one_key_is_not_for_chat_models(router: Router, abroad: Abroad, server: ScriptedServer) -> None:
    server.script("dear", Reply(text="Hello"))
    elsewhere = replace(tiny_pool()[0], api_base="http://127.0.0.1:9/v1")
    mixed = Router([elsewhere, router.candidates[1]], encoder=HashingEncoder())
    llm = ChatMixLLM(router=mixed, models={"cheap": abroad}, api_key="sk-common")  # type: ignore[arg-type]
    llm.invoke("Hello?", force="dear")
    assert server.requests[-1].api_key == "sk-common"
