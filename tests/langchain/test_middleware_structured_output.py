"""`MixLLMMiddleware` and structured output: by a tool, by the provider, and only from who can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputValidationError, ToolStrategy
from langchain_core.messages import ToolMessage

from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine import Router
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, ToolCall, tiny_pool
from mixllm_engine.testing.behaviours import RecordedRequest
from tests.langchain.agents import CALM, Joke, Run, agent_of, asked, candidates_of, look, said


def joking(request: RecordedRequest) -> Reply:
    """Answer in the form of a `Joke`, by the tool of that name if there is one."""
    tools: Any = request.body.get("tools", [])
    if any(tool["function"]["name"] == "Joke" for tool in tools):
        return Reply(tool_calls=[ToolCall(name="Joke", arguments={"setup": "Why?"})])
    return Reply(text='{"setup": "Why?"}')


class TestStructuredOutput:
    @pytest.mark.parametrize("form", [ToolStrategy(Joke), Joke], ids=["ToolStrategy", "schema"])
    async def test_by_a_tool(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware, form: Any
    ) -> None:
        server.script("cheap", Reply(tool_calls=[ToolCall(name="Joke", arguments={"setup": "Why?"})]))
        agent = agent_of(middleware, response_format=form)
        (_, answer, result) = await either_run(agent, asked("A joke"))

        assert isinstance(result, ToolMessage)
        assert agent.invoke(asked("A joke"))["structured_response"] == Joke(setup="Why?")
        assert said(answer)["candidate"] == "cheap"

    async def test_by_the_provider(self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Reply(text='{"setup": "Why?"}'))
        agent = agent_of(middleware, tools=[look], response_format=ProviderStrategy(Joke))
        (_, answer) = await either_run(agent, asked("A joke"))

        assert agent.invoke(asked("A joke"))["structured_response"] == Joke(setup="Why?")
        assert said(answer)["candidate"] == "cheap"
        form: Any = server.requests[-1].body["response_format"]
        assert form["json_schema"]["name"] == "Joke"

    @pytest.mark.parametrize(
        ("settings", "lacks"),
        [
            ({"tools": [look]}, "tools"),
            ({"response_format": ToolStrategy(Joke)}, "tools"),
            ({"response_format": Joke}, "tools"),
            ({"response_format": ProviderStrategy(Joke), "tools": [look]}, "json_schema"),
        ],
        ids=["tools", "ToolStrategy", "schema", "ProviderStrategy"],
    )
    def test_only_who_can_do_it_is_asked(self, server: ScriptedServer, settings: Any, lacks: str) -> None:
        cheap, dear = tiny_pool(api_base=server.base_url)
        server.script("dear", joking)
        unable: Any = {f"supports_{lacks}": False}
        router = Router([replace(cheap, **unable), dear], config=CALM, encoder=HashingEncoder())
        middleware = MixLLMMiddleware(router, willingness_to_pay=0.0)

        assert candidates_of(agent_of(middleware, **settings).invoke(asked())["messages"]) == ["dear"]
        assert candidates_of(agent_of(middleware).invoke(asked())["messages"]) == ["cheap"]

    def test_images_count(self, server: ScriptedServer) -> None:
        cheap, dear = tiny_pool(api_base=server.base_url)
        router = Router([cheap, replace(dear, supports_images=True)], config=CALM, encoder=HashingEncoder())
        agent = agent_of(MixLLMMiddleware(router, willingness_to_pay=0.0))
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

        assert candidates_of(agent.invoke(asked([{"type": "text", "text": "What?"}, image]))["messages"]) == ["dear"]

    async def test_an_answer_that_does_not_fit_is_an_answer(
        self, run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", Reply(text="no JSON"))
        agent = agent_of(middleware, tools=[look], response_format=ProviderStrategy(Joke))
        with pytest.raises(StructuredOutputValidationError, match="Joke") as caught:
            await run(agent, asked("A joke"))

        assert server.count("dear") == 0
        (outcome,) = middleware.router.explain(said(caught.value.ai_message)["decision_id"]).outcomes
        assert (outcome.error, outcome.response_tokens) == (None, 2)
        assert middleware.feedback(caught.value.ai_message, 0.0).candidate == "cheap"
