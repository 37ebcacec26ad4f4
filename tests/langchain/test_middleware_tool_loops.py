"""`MixLLMMiddleware` in a tool loop: who began it goes on, until the next question."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine import Router
from mixllm_engine.testing import Failure, FakeClock, ScriptedServer, tiny_router
from tests.langchain.agents import CALM, Run, agent_of, answers, asked, candidates_of, look, looping, said


def prefer(router: Router, good: str, bad: str) -> None:
    """Teach a router, so that the better one is chosen wherever quality counts."""
    for number in range(15):
        router.feedback(router.decide(f"Q {number}", force=good), 1.0)
        router.feedback(router.decide(f"Q {number}", force=bad), 0.0)
    assert router.decide("Hello?", willingness_to_pay=1000.0).candidate == good


class TestToolLoops:
    """Inside a tool loop the candidate never changes."""

    @pytest.mark.parametrize("config", [None, {"configurable": {"thread_id": "t"}}], ids=["alone", "thread"])
    async def test_five_steps_keep_their_candidate(
        self, run: Run, server: ScriptedServer, router: Router, config: Any
    ) -> None:
        prefer(router, "cheap", "dear")

        def change_mind(city: str) -> str:
            """Tell the weather, and make the other one better."""
            for number in range(20):
                router.feedback(router.decide(f"R {number}", force="cheap"), 0.0)
                router.feedback(router.decide(f"R {number}", force="dear"), 1.0)
            return f"Sunny in {city}"

        change_mind.__name__ = "look"
        server.script("cheap", looping(4))
        server.script("dear", looping(4))
        middleware = MixLLMMiddleware(router, willingness_to_pay=1000.0)
        saver = InMemorySaver() if config else None
        messages = await run(agent_of(middleware, tools=[change_mind], checkpointer=saver), asked(), config)

        assert candidates_of(messages) == ["cheap"] * 5
        assert messages[-1].text == "It is sunny"
        assert router.decide("Hello?", willingness_to_pay=1000.0).candidate == "dear"  # it would have changed
        before = router.stats()["feedback_applied"]
        receipt = middleware.feedback(messages[-1], 1.0)
        assert (receipt.status, receipt.candidate) == ("applied", "cheap")
        assert router.stats()["feedback_applied"] == before + 1

    async def test_who_stepped_in_stays(self, either_run: Run, server: ScriptedServer) -> None:
        clock = FakeClock()

        def wait(city: str) -> str:
            """Tell the weather when the pause of the other is over."""
            clock.advance(3600.0)
            return f"Sunny in {city}"

        wait.__name__ = "look"
        server.script("cheap", [Failure(status=429), looping(2)])
        server.script("dear", looping(2))
        with tiny_router(api_base=server.base_url, config=CALM, clock=clock) as router:
            prefer(router, "cheap", "dear")
            middleware = MixLLMMiddleware(router, willingness_to_pay=1000.0)
            agent = agent_of(middleware, tools=[wait], checkpointer=InMemorySaver())
            config = {"configurable": {"thread_id": "t"}}
            messages = await either_run(agent, asked(), config)
            assert router.decide("Hello?", willingness_to_pay=1000.0).candidate == "cheap"  # it is back

        assert candidates_of(messages) == ["dear"] * 3

    async def test_another_answers_where_the_kept_one_fails(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", [looping(3), Failure(status=500)])
        server.script("dear", looping(3))
        messages = await either_run(agent_of(middleware, tools=[look]), asked())

        assert candidates_of(messages) == ["cheap", "dear", "dear", "dear"]
        outcomes = middleware.router.explain(said(answers(messages)[1])["decision_id"]).outcomes
        assert [(outcome.candidate, outcome.error) for outcome in outcomes] == [
            ("cheap", "unavailable"),
            ("dear", None),
        ]

    async def test_a_loop_survives_its_process(self, either_run: Run, server: ScriptedServer, router: Router) -> None:
        server.script("cheap", looping(1))
        server.script("dear", looping(1))
        saver, config = InMemorySaver(), {"configurable": {"thread_id": "t"}}
        settings: dict[str, Any] = {"tools": [look], "checkpointer": saver, "interrupt_before": ["tools"]}
        first = await either_run(agent_of(MixLLMMiddleware(router, budget="very_low"), **settings), asked(), config)
        assert candidates_of(first) == ["cheap"]

        with tiny_router(api_base=server.base_url, config=CALM) as other:  # remembers no session
            prefer(other, "dear", "cheap")
            agent = agent_of(MixLLMMiddleware(other, willingness_to_pay=1000.0), **settings)
            messages = await either_run(agent, None, config)

        assert candidates_of(messages) == ["cheap", "cheap"]

    async def test_the_next_question_is_free_again(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", looping(1))
        server.script("dear", looping(1))
        agent = agent_of(middleware, tools=[look], checkpointer=InMemorySaver())
        await either_run(agent, asked(), {"configurable": {"thread_id": "t"}})
        messages = await either_run(
            agent, asked("And now?"), {"configurable": {"thread_id": "t", "budget": "very_high", "deny": ["cheap"]}}
        )

        assert candidates_of(messages) == ["cheap", "cheap", "dear", "dear"]
