"""Learning happens end to end on every surface: feedback changes what `stats` says, and who is chosen later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_mixllm import ChatMixLLM, MixLLMMiddleware, MixLLMRunnable, track_decisions
from mixllm_engine import Decision, Router, TrackedDecisions
from mixllm_engine.testing import Reply, ScriptedServer, ToolCall, tiny_router
from mixllm_engine.testing.behaviours import Behaviour, RecordedRequest
from tests import litellm_clients

Surface = Callable[[Router], Callable[[str], object]]


class Answer(BaseModel):
    """What is said."""

    text: str


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word"


def answers(request: RecordedRequest) -> Behaviour:
    """Call the tool once where there is one, keep to a schema where there is one."""
    body: dict[str, Any] = dict(request.body)
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        return Reply(tool_calls=[ToolCall(name="look_up", arguments={"word": "cat"})])
    return Reply(text='{"text": "fine"}' if "response_format" in body else "Fine.")


def chain(router: Router) -> Callable[[str], object]:
    return (ChatMixLLM(router=router) | StrOutputParser()).invoke


def streaming(router: Router) -> Callable[[str], object]:
    llm = ChatMixLLM(router=router)
    return lambda question: [chunk.text for chunk in llm.stream(question)]


def async_streaming(router: Router) -> Callable[[str], object]:
    llm = ChatMixLLM(router=router)

    async def ask(question: str) -> list[str]:
        return [chunk.text async for chunk in llm.astream(question)]

    return lambda question: litellm_clients.run(ask(question))


def structured(router: Router) -> Callable[[str], object]:
    return ChatMixLLM(router=router).with_structured_output(Answer).invoke


def agent(router: Router) -> Callable[[str], object]:
    made = create_agent(ChatMixLLM(router=router), tools=[look_up])
    return lambda question: made.invoke({"messages": [HumanMessage(question)]})


def middleware(router: Router) -> Callable[[str], object]:
    never_called = FakeListChatModel(responses=["the agent's own model"])
    made = create_agent(never_called, tools=[look_up], middleware=[MixLLMMiddleware(router)])
    return lambda question: made.invoke({"messages": [HumanMessage(question)]})


def runnable(router: Router) -> Callable[[str], object]:
    return MixLLMRunnable(router=router).invoke


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        for name in ("cheap", "dear"):
            running.script(name, answers)
        yield running


def asked(ask: Callable[[str], object], question: str) -> TrackedDecisions:
    with track_decisions() as tracked:
        ask(question)
    return tracked


def _names(made: list[Decision]) -> set[str]:
    return {decision.candidate for decision in made}


@pytest.mark.parametrize("good", ["cheap", "dear"])
@pytest.mark.parametrize("surface", [chain, streaming, async_streaming, structured, agent, middleware, runnable])
def test_feedback_changes_the_numbers_and_the_choices(server: ScriptedServer, surface: Surface, good: str) -> None:
    with tiny_router(api_base=server.base_url) as router:
        ask = surface(router)
        for number in range(45):
            tracked = asked(ask, f"Question {number} of the first part")
            names = _names(tracked.decisions)
            assert len(names) == 1  # all steps of an answer are one LLM's
            tracked.feedback(float(names == {good}), credit="all")
        later = [asked(ask, f"Question {number} of the second part").decisions for number in range(15)]
        stats = router.stats()

    assert stats["feedback_applied"] == stats["decisions"] - sum(map(len, later)) >= 45
    for name, of in stats["candidates"].items():
        assert of["labels"] > 0
        assert of["mean_reward"] == float(name == good)
    assert [_names(made) for made in later].count({good}) >= 11
