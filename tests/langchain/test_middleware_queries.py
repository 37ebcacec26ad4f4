"""`MixLLMMiddleware`: which text is routed, on whose terms, and in which session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine import Candidate, Decision, Query, Router, track_decisions
from mixllm_engine.testing import HashingEncoder, ScriptedServer, tiny_pool
from tests.langchain.agents import CALM, Run, agent_of, answers, asked, candidates_of, look, looping, said


class TestQueries:
    @pytest.fixture
    def routed_texts(self, router: Router, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | None]]:
        """Return the texts that are routed."""
        texts: list[str | None] = []
        decide = router.decide

        def noting(query: Query, **terms: Any) -> Any:
            texts.append(query.text)
            return decide(query, **terms)

        monkeypatch.setattr(router, "decide", noting)
        yield texts

    async def test_the_persons_request_is_routed(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware, routed_texts: list[str | None]
    ) -> None:
        server.script("cheap", looping(2))
        await either_run(agent_of(middleware, tools=[look], system_prompt="Be brief."), asked("How is the weather?"))

        assert routed_texts == ["How is the weather?"] * 3

    async def test_an_extractor_says_what_is_asked(
        self, either_run: Run, router: Router, routed_texts: list[str | None]
    ) -> None:
        def without_reminder(messages: list[BaseMessage]) -> str:
            return messages[-1].text.partition("<reminder>")[0]

        middleware = MixLLMMiddleware(router, query_extractor=without_reminder)
        await either_run(agent_of(middleware), asked("Hello?<reminder>Use tools.</reminder>"))

        assert routed_texts == ["Hello?"]

    async def test_terms_can_be_given_per_call(
        self, either_run: Run, router: Router, middleware: MixLLMMiddleware
    ) -> None:
        agent = agent_of(middleware)

        assert candidates_of(await either_run(agent, asked(), {"configurable": {"force": "dear"}})) == ["dear"]
        assert candidates_of(await either_run(agent, asked(), {"configurable": {"deny": ["cheap"]}})) == ["dear"]
        assert candidates_of(await either_run(agent, asked(), {"configurable": {"willingness_to_pay": 0.0}})) == [
            "cheap"
        ]
        denying = agent_of(MixLLMMiddleware(router, deny=["cheap"]))
        assert candidates_of(await either_run(denying, asked())) == ["dear"]


class TestSessions:
    async def test_staying_is_cheaper_within_a_thread(self, either_run: Run, server: ScriptedServer) -> None:
        pool = [replace(candidate, cached_input_usd_per_mtok=0.0) for candidate in tiny_pool(api_base=server.base_url)]
        with Router(pool, config=CALM, encoder=HashingEncoder()) as router:
            agent = agent_of(MixLLMMiddleware(router, budget="very_low"), checkpointer=InMemorySaver())
            with track_decisions() as tracked:
                await either_run(agent, asked("Tell me a long story"), {"configurable": {"thread_id": "one"}})
                messages = await either_run(agent, asked("Go on"), {"configurable": {"thread_id": "one"}})
                await either_run(agent, {"messages": messages[:-1]}, {"configurable": {"thread_id": "other"}})

        def prompt_usd(decision: Decision, candidate: Candidate) -> float:
            score = decision.scores[candidate.name]
            assert candidate.output_usd_per_mtok is not None
            return score.cost_usd - score.response_tokens * candidate.output_usd_per_mtok / 1e6

        _, within, without = tracked.decisions
        cheap, dear = pool
        assert prompt_usd(within, cheap) < 0.7 * prompt_usd(without, cheap)
        assert prompt_usd(within, dear) == pytest.approx(prompt_usd(without, dear))

    async def test_a_conversation_without_a_thread_names_itself_for_its_tools(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", looping(1))
        messages = await either_run(agent_of(middleware, tools=[look]), asked())

        first, second = answers(messages)
        assert said(first)["session"].startswith("conversation-")
        assert "session" not in said(second)
