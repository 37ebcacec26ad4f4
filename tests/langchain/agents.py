"""Agents whose model calls are routed: how to make and run them, what they are given, and what their messages say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import BaseModel

from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine import RouterConfig
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import Reply, ToolCall
from mixllm_engine.testing.behaviours import RecordedRequest

Run = Callable[..., Awaitable[list[Any]]]
CALM = RouterConfig(exploration=ExplorationConfig(rate=0.0, pulls=0))


async def invoke(agent: Any, given: Any, config: Any = None) -> list[Any]:
    messages: list[Any] = agent.invoke(given, config)["messages"]
    return messages


async def ainvoke(agent: Any, given: Any, config: Any = None) -> list[Any]:
    messages: list[Any] = (await agent.ainvoke(given, config))["messages"]
    return messages


async def stream(agent: Any, given: Any, config: Any = None) -> list[Any]:
    *_, (_, last) = agent.stream(given, config, stream_mode=["messages", "values"])
    messages: list[Any] = last["messages"]
    return messages


async def astream(agent: Any, given: Any, config: Any = None) -> list[Any]:
    parts = [part async for part in agent.astream(given, config, stream_mode=["messages", "values"])]
    messages: list[Any] = parts[-1][1]["messages"]
    return messages


def agent_of(middleware: MixLLMMiddleware, **settings: Any) -> Any:
    return create_agent(FakeListChatModel(responses=["never called"]), middleware=[middleware], **settings)


def asked(text: Any = "Hello?") -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def said(message: AIMessage) -> dict[str, Any]:
    noted: dict[str, Any] = message.response_metadata["mixllm"]
    return noted


def answers(messages: list[BaseMessage]) -> list[AIMessage]:
    return [message for message in messages if isinstance(message, AIMessage)]


def candidates_of(messages: list[BaseMessage]) -> list[str]:
    return [said(message)["candidate"] for message in answers(messages)]


class Joke(BaseModel):
    """A joke."""

    setup: str


def look(city: str) -> str:
    """Tell the weather."""
    return f"Sunny in {city}"


def looping(steps: int, then: str = "It is sunny") -> Callable[[RecordedRequest], Reply]:
    """Return what calls a tool until it has been called so often since the person's last message."""

    def answer(request: RecordedRequest) -> Reply:
        messages: Any = request.body["messages"]
        person = max(place for place, message in enumerate(messages) if message["role"] == "user")
        done = sum(message["role"] == "tool" for message in messages[person:])
        call = ToolCall(name="look", arguments={"city": f"city {done}"}, id=f"call_{len(messages)}")
        return Reply(text=then) if done >= steps else Reply(tool_calls=[call])

    return answer
