"""`MixLLMMiddleware` when a call fails, is interrupted or cancelled: who answers instead, and who is blamed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRetryMiddleware
from langchain_core.exceptions import ContextOverflowError, ModelConnectionError, ModelRateLimitError
from langchain_core.language_models import FakeListChatModel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine import AllCandidatesFailedError, track_decisions
from mixllm_engine.testing import Cut, Failure, Hang, Reply, ScriptedServer, tiny_router
from tests.langchain.agents import CALM, Run, agent_of, ainvoke, asked, said


class TestFailures:
    @pytest.mark.parametrize(
        ("failure", "kind"),
        [(Failure(status=429), "rate_limit"), (Failure(status=500), "unavailable"), (Hang(seconds=5), "timeout")],
        ids=["429", "500", "timeout"],
    )
    async def test_a_failure_costs_one_request_and_the_next_answers(
        self, run: Run, server: ScriptedServer, failure: Any, kind: str
    ) -> None:
        server.script("cheap", failure)
        quick = CALM.model_copy(update={"calling": CALM.calling.model_copy(update={"timeout_s": 0.3})})
        with tiny_router(api_base=server.base_url, config=quick if kind == "timeout" else CALM) as router:
            middleware = MixLLMMiddleware(router, budget="very_low")
            (_, answer) = await run(agent_of(middleware), asked())

            assert answer.text == "Hello from dear to you"
            assert (server.count("cheap"), server.count("dear")) == (1, 1)
            assert said(answer)["candidate"] == "dear"
            outcomes = router.explain(said(answer)["decision_id"]).outcomes
            assert [(outcome.candidate, outcome.error) for outcome in outcomes] == [("cheap", kind), ("dear", None)]
            assert router.stats()["candidates"]["cheap"]["labels"] == 0
            assert middleware.feedback(answer, 1.0).candidate == "dear"

    async def test_what_was_seen_is_not_begun_again(self, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Cut(text="One two three four", after_tokens=2))
        seen: list[Any] = []
        with pytest.raises(ModelConnectionError, match="broke off"):
            async for chunk, _ in agent_of(middleware).astream(asked(), stream_mode="messages"):
                seen.append(chunk)

        assert "".join(chunk.text for chunk in seen) == "One two"
        assert (server.count("cheap"), server.count("dear")) == (1, 0)
        (outcome,) = middleware.router.explain(said(seen[0])["decision_id"]).outcomes
        assert outcome.error == "broken_stream"

    async def test_what_nobody_saw_is_begun_again(self, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Cut(text="One two three four", after_tokens=2))
        (_, answer) = await ainvoke(agent_of(middleware), asked())

        assert answer.text == "Hello from dear to you"

    async def test_all_fail(self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Failure(status=500))
        server.script("dear", Failure(status=429))
        with pytest.raises(AllCandidatesFailedError, match="all 2 candidates failed") as caught:
            await either_run(agent_of(middleware), asked())

        assert isinstance(caught.value, ModelRateLimitError)
        assert middleware.feedback(caught.value.decision_id, 0.0).status == "applied"

    async def test_a_prompt_that_fits_nobody(self, either_run: Run, middleware: MixLLMMiddleware) -> None:
        with pytest.raises(ContextOverflowError, match="more than the context window of every candidate"):
            await either_run(agent_of(middleware), asked("word " * 40_000))

    def test_langchains_own_retries_understand_the_failure(
        self, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", [Failure(status=429), Reply(text="Hello again")])
        server.script("dear", Failure(status=429))
        retry = ModelRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False)
        agent: Any = create_agent(FakeListChatModel(responses=["never called"]), middleware=[retry, middleware])

        assert agent.invoke(asked())["messages"][-1].text == "Hello again"

    async def test_an_interrupt_blames_nobody(self, either_run: Run, middleware: MixLLMMiddleware) -> None:
        class AskFirst(AgentMiddleware[Any, Any, Any]):
            def wrap_model_call(self, request: Any, handler: Any) -> Any:
                interrupt("May I?")
                return handler(request)

            async def awrap_model_call(self, request: Any, handler: Any) -> Any:
                interrupt("May I?")
                return await handler(request)

        model = FakeListChatModel(responses=["never called"])
        agent = create_agent(model, middleware=[middleware, AskFirst()], checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t"}}
        with track_decisions() as tracked:
            asked_first = await either_run(agent, asked(), config)
            assert len(asked_first) == 1
            (_, answer) = await either_run(agent, Command(resume="Yes"), config)

        assert answer.text == "Hello from cheap to you"
        kinds = [middleware.router.explain(made).outcomes[0].error for made in tracked.decision_ids]
        assert kinds == ["cancelled", None]

    async def test_a_cancelled_run_blames_nobody(self, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Reply(text="word " * 200, token_delay_s=0.05))
        task = asyncio.create_task(agent_of(middleware).ainvoke(asked()))
        while not server.count("cheap"):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 1.0)
        stats = middleware.router.stats()
        assert (stats["outcomes"], stats["candidates"]["cheap"]["in_flight"], server.count("dear")) == (1, 0, 0)
        assert middleware.router.decide("Next?", budget="very_low").candidate == "cheap"
