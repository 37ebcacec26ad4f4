"""`MixLLMMiddleware` and feedback: every reference leads to its decision, and it changes who is chosen."""

from __future__ import annotations

from uuid import uuid4

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage

from langchain_mixllm import MixLLMFeedbackHandler
from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine.testing import ScriptedServer, tiny_router
from tests.langchain.agents import Run, agent_of, asked, look, looping, said


class TestFeedback:
    async def test_every_reference_leads_to_the_decision(
        self, run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        root = uuid4()
        (_, answer) = await run(agent_of(middleware), asked(), {"run_id": root})
        llm_run = answer.id.removeprefix("lc_run--").removesuffix("-0")

        assert middleware.feedback(answer, 1.0).status == "applied"
        for same in (answer.id, said(answer)["decision_id"], llm_run, root, str(root), AIMessage("", id=answer.id)):
            assert (await middleware.afeedback(same, 1.0)).status == "duplicate"

    async def test_a_run_of_several_decisions_can_share_the_credit(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", looping(2))
        root = uuid4()
        await either_run(agent_of(middleware, tools=[look]), asked(), {"run_id": root})
        middleware.feedback(root, 1.0, credit="all")

        assert middleware.router.stats()["feedback_applied"] == 3

    async def test_signals_of_the_agent_reach_its_decisions(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        def fail(city: str) -> str:
            """Never tell the weather."""
            raise RuntimeError("no weather")

        fail.__name__ = "look"
        server.script("cheap", looping(1))
        handler = MixLLMFeedbackHandler(middleware)
        with pytest.raises(RuntimeError, match="no weather"):
            await either_run(agent_of(middleware, tools=[fail]), asked(), {"callbacks": [handler]})

        stats = middleware.router.stats()
        assert (stats["decisions"], stats["feedback_applied"]) == (1, 1)
        assert stats["candidates"]["cheap"]["mean_reward"] == 0.0

    @pytest.mark.parametrize("good", ["cheap", "dear"])
    async def test_feedback_moves_the_choices(self, either_run: Run, good: str) -> None:
        models = {name: FakeListChatModel(responses=[name]) for name in ("cheap", "dear")}
        with tiny_router() as router:
            middleware = MixLLMMiddleware(router, models=models)
            agent = agent_of(middleware)
            for number in range(60):
                (_, answer) = await either_run(agent, asked(f"Question {number} of the first part"))
                middleware.feedback(answer, 1.0 if said(answer)["candidate"] == good else 0.0)
            later = [
                (await either_run(agent, asked(f"Question {number} of the rest")))[-1].text for number in range(20)
            ]
            stats = router.stats()

        assert stats["feedback_applied"] == 60
        assert {name: of["mean_reward"] for name, of in stats["candidates"].items()} == {
            "cheap": float(good == "cheap"),
            "dear": float(good == "dear"),
        }
        assert later.count(good) / len(later) > 0.7
