"""`MixLLMMiddleware`: what an agent's answer says of the decision behind it, and what is sent."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage

from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine import Router, track_decisions
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer, tiny_pool
from mixllm_engine.testing.behaviours import RecordedRequest
from tests.langchain.agents import CALM, Run, agent_of, asked, astream, look, said


class TestAnswers:
    async def test_the_answer_says_where_it_came_from(
        self, run: Run, middleware: MixLLMMiddleware, router: Router
    ) -> None:
        with get_usage_metadata_callback() as counted:
            (_, answer) = await run(agent_of(middleware), asked())

        assert answer.text == "Hello from cheap to you"
        assert said(answer).keys() == {"decision_id", "candidate", "model", "propensity", "explored"}
        assert (said(answer)["candidate"], said(answer)["model"]) == ("cheap", "openai/cheap")
        assert answer.response_metadata["model_name"] == "openai/cheap"
        assert answer.id.startswith("lc_run--")  # its own
        json.dumps([answer.response_metadata, answer.additional_kwargs])
        usage = counted.usage_metadata["openai/cheap"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (11, 5)
        (outcome,) = router.explain(said(answer)["decision_id"]).outcomes
        assert (outcome.candidate, outcome.error, outcome.prompt_tokens, outcome.response_tokens) == (
            "cheap",
            None,
            11,
            5,
        )
        assert outcome.cost_usd == answer.response_metadata["response_cost"] == pytest.approx((1.1 + 2.0) / 1e6)
        assert router.stats()["candidates"]["cheap"]["in_flight"] == 0

    async def test_a_stream_is_one_message_whose_first_chunk_names_the_decision(
        self, middleware: MixLLMMiddleware
    ) -> None:
        parts = [part async for part in agent_of(middleware).astream(asked(), stream_mode=["messages", "values"])]
        chunks = [part[0] for mode, part in parts if mode == "messages"]
        answer = parts[-1][1]["messages"][-1]

        assert [chunk.text for chunk in chunks if chunk.text] == ["Hello", " from", " cheap", " to", " you"]
        assert {chunk.id for chunk in chunks} == {answer.id}
        assert ["mixllm" in chunk.response_metadata for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
        assert said(chunks[0]) == said(answer)

    async def test_what_is_sent(self, either_run: Run, server: ScriptedServer) -> None:
        cheap, dear = tiny_pool(api_base=server.base_url)
        router = Router([replace(cheap, params={"temperature": 0.2}), dear], config=CALM, encoder=HashingEncoder())
        agent = agent_of(MixLLMMiddleware(router, budget="very_low"), tools=[look], system_prompt="Be brief.")
        await either_run(agent, {"messages": [HumanMessage("Hello?", name="ann")]})

        sent: Any = server.requests[-1].body
        assert sent["temperature"] == 0.2
        assert [(message["role"], message.get("name")) for message in sent["messages"]] == [
            ("system", None),
            ("user", "ann"),
        ]
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["look"]

    async def test_agents_at_once_do_not_mix(self, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        def echo(request: RecordedRequest) -> Reply | Failure:
            text = str(request.body["messages"])
            return Failure(status=400) if request.model == "cheap" and "odd" in text else Reply(text=text)

        server.script("cheap", echo)
        server.script("dear", echo)
        agent = agent_of(middleware)

        async def one(number: int) -> str:
            word = f"{'odd' if number % 2 else 'even'}{number}."
            with track_decisions() as tracked:
                (_, answer) = await astream(agent, asked(word))
            assert word in answer.text
            assert tracked.decision_ids == [said(answer)["decision_id"]]
            assert said(answer)["candidate"] == ("dear" if number % 2 else "cheap")
            return str(tracked.decision_ids[0])

        assert len(set(await asyncio.gather(*map(one, range(16))))) == 16

    def test_answers_of_a_cache_cost_nothing(self, router: Router) -> None:
        from langchain_core.caches import InMemoryCache

        reply = AIMessage("Hi", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10})
        model = FakeMessagesListChatModel(responses=[reply], cache=InMemoryCache())
        middleware = MixLLMMiddleware(router, models={"cheap": model}, budget="very_low")
        given = {"messages": [HumanMessage("Hello?", id="1")]}
        first, again = (agent_of(middleware).invoke(given)["messages"][-1] for _ in range(2))

        assert said(first)["decision_id"] != said(again)["decision_id"]
        used = [router.explain(said(message)["decision_id"]).outcomes[0].response_tokens for message in (first, again)]
        assert used == [3, None]
