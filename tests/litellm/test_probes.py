"""The loopback probes: what a caller of LiteLLM may expect of any model holds for ``mixllm/auto``, in all four ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from litellm_mixllm import Registered, decision_id_of
from mixllm_engine import Candidate, Router
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, ToolCall
from tests.litellm.conftest import HELLO
from tests.litellm.ways import Way

NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
ADD = {"type": "function", "function": {"name": "add", "parameters": NUMBERS}}
SUBTRACT = {"type": "function", "function": {"name": "subtract", "parameters": NUMBERS}}
ADD_CALL = ToolCall(name="add", arguments={"a": 1, "b": 2})
SUBTRACT_CALL = ToolCall(name="subtract", arguments={"a": 5, "b": 2}, id="call_2")
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


@pytest.fixture
def model(registered: Registered) -> str:
    return registered.model


def calls_in(answer: Any) -> list[tuple[str, str, Any]]:
    made = answer.choices[0].message.tool_calls or []
    return [(call.id, call.function.name, json.loads(call.function.arguments)) for call in made]


def sent(server: ScriptedServer) -> dict[str, Any]:
    return dict(server.requests[-1].body)


async def test_chat(ask: Way, model: str, server: ScriptedServer) -> None:
    answer = await ask(model=model, messages=HELLO)
    choice = answer.choices[0]
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (
        "Good day to you",
        "assistant",
        "stop",
    )
    assert answer.model == "openai/cheap"
    assert answer.id == f"mixllm-{decision_id_of(answer)}"
    assert len(server.requests) == 1
    assert set(sent(server)) <= {"messages", "model", "stream", "stream_options"}


async def test_usage(ask: Way, model: str) -> None:
    usage = (await ask(model=model, messages=HELLO)).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (11, 4, 15)


async def test_cached_tokens(ask: Way, model: str, server: ScriptedServer) -> None:
    server.script("cheap", Reply(text="Hi", prompt_tokens=20, cached_tokens=8))
    assert (await ask(model=model, messages=HELLO)).usage.prompt_tokens_details.cached_tokens == 8


async def test_thoughts(ask: Way, model: str, server: ScriptedServer) -> None:
    server.script("cheap", Reply(text="Four.", reasoning="two and two"))
    message = (await ask(model=model, messages=HELLO)).choices[0].message
    assert (message.content, message.reasoning_content) == ("Four.", "two and two")


async def test_one_tool_call(ask: Way, model: str, server: ScriptedServer) -> None:
    server.script("cheap", Reply(tool_calls=[ADD_CALL]))
    answer = await ask(model=model, messages=HELLO, tools=[ADD])
    assert calls_in(answer) == [("call_1", "add", {"a": 1, "b": 2})]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert sent(server)["tools"] == [ADD]


async def test_parallel_tool_calls(ask: Way, model: str, server: ScriptedServer) -> None:
    server.script("cheap", Reply(text="Both.", tool_calls=[ADD_CALL, SUBTRACT_CALL]))
    answer = await ask(model=model, messages=HELLO, tools=[ADD, SUBTRACT], parallel_tool_calls=True)
    assert calls_in(answer) == [("call_1", "add", {"a": 1, "b": 2}), ("call_2", "subtract", {"a": 5, "b": 2})]
    assert answer.choices[0].message.content == "Both."
    assert sent(server)["parallel_tool_calls"] is True


@pytest.mark.parametrize("choice", ["auto", "none", "required", {"type": "function", "function": {"name": "add"}}])
async def test_the_choice_of_tools(ask: Way, model: str, server: ScriptedServer, choice: object) -> None:
    await ask(model=model, messages=HELLO, tools=[ADD], tool_choice=choice)
    assert sent(server)["tool_choice"] == choice


async def test_a_history_with_tools(ask: Way, model: str, server: ScriptedServer) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    said = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    history = [*HELLO, *said, {"role": "tool", "tool_call_id": "call_1", "content": "3"}]
    assert (await ask(model=model, messages=history, tools=[ADD])).choices[0].message.content == "Good day to you"
    assert [message["role"] for message in sent(server)["messages"]] == ["user", "assistant", "tool"]
    assert sent(server)["messages"][1]["tool_calls"] == [call]


async def test_a_schema(ask: Way, model: str, server: ScriptedServer) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}
    server.script("cheap", Reply(text='{"name": "Paris"}'))
    answer = await ask(model=model, messages=HELLO, response_format=wanted)
    assert json.loads(answer.choices[0].message.content) == {"name": "Paris"}
    assert sent(server)["response_format"] == wanted


async def test_an_image(ask: Way, server: ScriptedServer, router: Router) -> None:
    import litellm_mixllm

    server.script("seer", Reply(text="A cat."))
    seer = Candidate(
        name="seer", model="openai/seer", api_base=server.base_url, input_usd_per_mtok=9, output_usd_per_mtok=9,
        supports_images=True,
    )  # fmt: skip
    router.add_candidate(seer)
    looked = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]
    with litellm_mixllm.register(router) as registered:
        assert (await ask(model=registered.model, messages=looked)).choices[0].message.content == "A cat."
    assert sent(server)["messages"] == looked


async def test_parameters(ask: Way, model: str, server: ScriptedServer) -> None:
    given = {"temperature": 0.5, "max_tokens": 9, "stop": ["."], "top_p": 0.9}
    await ask(model=model, messages=HELLO, **given, extra_body={"seed": 3}, extra_headers={"x-mine": "1"})
    assert {**given, "seed": 3}.items() <= sent(server).items()


async def test_the_end_user_is_told_where_the_model_takes_one(ask: Way, server: ScriptedServer) -> None:
    import litellm_mixllm

    server.script("gpt-4o", Reply(text="Hi"))
    known = Candidate(name="known", model="openai/gpt-4o", api_base=server.base_url)
    with Router([known], encoder=HashingEncoder()) as router, litellm_mixllm.register(router) as registered:
        await ask(model=registered.model, messages=HELLO, user="ada")
    assert sent(server)["user"] == "ada"


async def test_a_parameter_that_litellm_keeps_back_unless_it_is_allowed(
    ask: Way, model: str, server: ScriptedServer
) -> None:
    await ask(model=model, messages=HELLO, reasoning_effort="low", allowed_openai_params=["reasoning_effort"])
    assert server.count("cheap") == 1


async def test_chunks_arrive_one_by_one(model: str) -> None:
    import litellm

    stream = await litellm.acompletion(model=model, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content] == [
        "Good", " day", " to", " you",
    ]  # fmt: skip
    assert {decision_id_of(chunk) for chunk in chunks} == {decision_id_of(chunks[0])}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert all(getattr(chunk, "usage", None) is None for chunk in chunks), "nobody asked for the usage"
