"""A scripted server, a router over it, the four ways to ask it or an agent, and a server like a capable model."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from inspect import isawaitable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import Runnable

from langchain_mixllm import ChatMixLLM
from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine import Router, RouterConfig
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, ToolCall, tiny_pool, tiny_router
from mixllm_engine.testing.behaviours import Behaviour, RecordedRequest
from tests.langchain import agents

Ask = Callable[..., Awaitable[AIMessage]]


@pytest.fixture(autouse=True)
async def _clients_are_closed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Close what LiteLLM keeps open: every test has its own server, and its own event loop.

    Threads that race make several blocking clients, of which LiteLLM forgets all but one; hence a common one.
    """
    litellm = load_litellm()
    with httpx.Client(verify=False) as common:  # loading the certificates takes longer than a test
        monkeypatch.setattr(litellm, "client_session", common)
        yield
        clients: dict[str, Any] = litellm.in_memory_llm_clients_cache.cache_dict
        for client in list(clients.values()):
            closed = client.close()
            if isawaitable(closed):
                await closed
        clients.clear()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Two models that answer with their names."""
    with ScriptedServer() as running:
        for name in ("cheap", "dear"):
            running.script(name, Reply(text=f"Hello from {name} to you"))
        yield running


@pytest.fixture
def router(server: ScriptedServer) -> Iterator[Router]:
    """Prefers ``cheap``, never explores."""
    config = RouterConfig(exploration=ExplorationConfig(rate=0.0, pulls=0))
    with tiny_router(api_base=server.base_url, config=config) as made:
        yield made


@pytest.fixture
def llm(router: Router) -> ChatMixLLM:
    return ChatMixLLM(router=router, budget="very_low")


def joined(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    return add_ai_message_chunks(chunks[0], *chunks[1:])


async def _invoke(llm: Runnable[Any, Any], question: Any, **kwargs: Any) -> AIMessage:
    answer: AIMessage = llm.invoke(question, **kwargs)
    return answer


async def _ainvoke(llm: Runnable[Any, Any], question: Any, **kwargs: Any) -> AIMessage:
    answer: AIMessage = await llm.ainvoke(question, **kwargs)
    return answer


async def _stream(llm: Runnable[Any, Any], question: Any, **kwargs: Any) -> AIMessage:
    return joined(list(llm.stream(question, **kwargs)))


async def _astream(llm: Runnable[Any, Any], question: Any, **kwargs: Any) -> AIMessage:
    return joined([chunk async for chunk in llm.astream(question, **kwargs)])


@pytest.fixture(params=[_invoke, _ainvoke, _stream, _astream], ids=["invoke", "ainvoke", "stream", "astream"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """One of the four ways to get an answer."""
    way: Ask = request.param
    return way


@pytest.fixture(
    params=[agents.invoke, agents.ainvoke, agents.stream, agents.astream],
    ids=["invoke", "ainvoke", "stream", "astream"],
)
def run(request: pytest.FixtureRequest) -> agents.Run:
    """One of the four ways to run an agent; returns all messages."""
    way: agents.Run = request.param
    return way


@pytest.fixture(params=[agents.invoke, agents.astream], ids=["invoke", "astream"])
def either_run(request: pytest.FixtureRequest) -> agents.Run:
    """Blocking and whole, or neither: where the path does not matter, but both methods of the middleware do."""
    way: agents.Run = request.param
    return way


@pytest.fixture
def middleware(router: Router) -> MixLLMMiddleware:
    return MixLLMMiddleware(router, budget="very_low")


@pytest.fixture
def capable_router() -> Iterator[Router]:
    """Two models that call tools, keep to schemas, and look at attachments."""
    with ScriptedServer() as running:
        pool = tiny_pool(api_base=running.base_url)
        for candidate in pool:
            running.script(candidate.name, imitate)
        candidates = [
            replace(candidate, context_window=None, supports_images=True, supports_pdf=True, supports_audio=True)
            for candidate in pool
        ]
        with Router(candidates, encoder=HashingEncoder(), seed=0) as made:
            yield made


@pytest.fixture
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangChain's standard tests fetch their attachments from the network; only the form of these matters here."""
    monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "nobody")  # or the tests warn
    monkeypatch.setattr(httpx, "get", lambda url, **_: SimpleNamespace(content=f"bytes of {url}".encode()))


def imitate(request: RecordedRequest) -> Behaviour:
    """Answer as a capable model would: calls tools, keeps to schemas, says something else otherwise."""
    body: Mapping[str, Any] = request.body
    messages, tools, choice = body["messages"], body.get("tools"), body.get("tool_choice", "auto")
    if tools and (choice not in ("auto", "none") or (choice == "auto" and messages[-1]["role"] == "user")):
        named = choice["function"]["name"] if isinstance(choice, dict) else tools[0]["function"]["name"]
        function = next(tool["function"] for tool in tools if tool["function"]["name"] == named)
        arguments = _example(function.get("parameters", {}), _quoted(messages))
        return Reply(tool_calls=[ToolCall(name=named, arguments=arguments, id="call_a")])
    form = body.get("response_format", {"type": "text"})
    if form["type"] == "json_schema":
        return Reply(text=json.dumps(_example(form["json_schema"]["schema"], "cats")))
    if form["type"] == "json_object":
        return Reply(text='{"setup": "Why did the cat sit?", "punchline": "It could."}')
    reasoning = "Let me see" if "Think" in str(messages[-1]["content"]) else None
    return Reply(text=f"A word from {request.model} to you", reasoning=reasoning, cached_tokens=4)


def _quoted(messages: list[dict[str, Any]]) -> str:
    asked = str([message["content"] for message in messages if message["role"] == "user"][-1])
    found = re.search(r"'([^']+)'", asked)
    return found[1] if found else "pirate"


def _example(schema: Mapping[str, Any], text: str, definitions: Mapping[str, Any] | None = None) -> Any:
    """Return a value that fits a JSON schema."""
    known = definitions or schema.get("$defs", {})
    if "$ref" in schema:
        return _example(known[schema["$ref"].rsplit("/", 1)[-1]], text, known)
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], text, known)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "object"):
        case "object":
            return {name: _example(part, text, known) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema.get("items", {"type": "string"}), text, known)]
        case "integer":
            return 3
        case "number":
            return 0.5
        case "boolean":
            return True
        case _:
            return text
