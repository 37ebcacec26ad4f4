"""`MixLLMMiddleware` over chat models that were given: which may answer for a candidate, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel, FakeMessagesListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage

from langchain_mixllm import ChatMixLLM
from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine import ConfigError, Router, UnknownCandidateError
from mixllm_engine.testing import Failure, ScriptedServer
from tests.langchain.agents import Run, agent_of, asked, said


class TestModels:
    """Any chat model may answer for a candidate."""

    async def test_given_models_answer(self, either_run: Run, router: Router) -> None:
        reply = AIMessage("Hello from a fake", response_metadata={"model_name": "fake-1"})
        models = {"cheap": GenericFakeChatModel(messages=iter([reply])), "dear": FakeListChatModel(responses=["?"])}
        middleware = MixLLMMiddleware(router, models=models, budget="very_low")
        (_, answer) = await either_run(agent_of(middleware), asked())

        assert answer.text == "Hello from a fake"
        assert said(answer)["candidate"] == "cheap"
        assert middleware.feedback(answer, 1.0).status == "applied"

    async def test_a_given_model_and_a_made_one_stand_in_for_each_other(
        self, either_run: Run, server: ScriptedServer, router: Router
    ) -> None:
        server.script("cheap", Failure(status=429))
        models = {"dear": FakeListChatModel(responses=["Hello from a fake"])}
        middleware = MixLLMMiddleware(router, models=models, budget="very_low")
        (_, answer) = await either_run(agent_of(middleware), asked())

        assert (answer.text, said(answer)["candidate"], server.count("dear")) == ("Hello from a fake", "dear", 0)

    def test_a_given_model_keeps_its_own_name_and_settings(self, router: Router) -> None:
        seen: list[dict[str, Any]] = []

        class Noting(FakeMessagesListChatModel):
            def _generate(self, *args: Any, **kwargs: Any) -> Any:
                seen.append(kwargs)
                return super()._generate(*args, **kwargs)

        model = Noting(responses=[AIMessage("Hi", response_metadata={"model_name": "fake-1"})])
        middleware = MixLLMMiddleware(router, models={"cheap": model}, budget="very_low")
        answer = agent_of(middleware).invoke(asked())["messages"][-1]

        assert answer.response_metadata["model_name"] == "fake-1"
        assert said(answer)["model"] == "openai/cheap"
        assert "timeout" not in seen[0]

    async def test_models_by_name(
        self, either_run: Run, server: ScriptedServer, router: Router, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        middleware = MixLLMMiddleware(router, models={"cheap": "litellm:openai/dear"}, budget="very_low")
        (_, answer) = await either_run(agent_of(middleware), asked())

        assert (answer.text, said(answer)["candidate"]) == ("Hello from dear to you", "cheap")

    async def test_a_model_that_routes_by_itself_is_refused(
        self, either_run: Run, llm: ChatMixLLM, middleware: MixLLMMiddleware
    ) -> None:
        with pytest.raises(ConfigError, match="decided twice"):
            await either_run(create_agent(llm, middleware=[middleware]), asked())
        with pytest.raises(ConfigError, match="decisions would nest"):
            MixLLMMiddleware(llm.router, models={"cheap": llm})
        assert llm.router.stats()["decisions"] == 0

    def test_what_is_no_model_is_refused(self, router: Router) -> None:
        model = FakeListChatModel(responses=["?"])
        with pytest.raises(ConfigError, match="is a RunnableRetry: give a chat model"):
            MixLLMMiddleware(router, models={"cheap": model.with_retry()})  # type: ignore[dict-item]
        with pytest.raises(UnknownCandidateError, match="'chaep', but the pool has 'cheap', 'dear'"):
            MixLLMMiddleware(router, models={"chaep": model})
