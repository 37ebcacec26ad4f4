"""The same through LiteLLM, which all real calls take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mixllm_engine.testing.behaviours import Behaviour, Failure, Hang, Reply, ToolCall
from mixllm_engine.testing.server import ScriptedServer
from tests.engine.scripted_server.asking import ADD, ASK, Json

LITELLM_WARNINGS = pytest.mark.filterwarnings("ignore::Warning:pydantic|litellm")  # its own, about its own types


def through_litellm(server: ScriptedServer, model: str, **more: Any) -> Json:
    tools = {"tools": [ADD], "_skip_mcp_handler": True}
    return {
        "model": f"openai/{model}",
        "messages": ASK,
        "api_base": server.base_url,
        "api_key": "x",
        "max_retries": 0,
        "timeout": 5,
        **(tools if model == "caller" else {}),
        **more,
    }


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import asks the network for prices
    return pytest.importorskip("litellm")


def check_answer(answer: Any, model: str) -> None:
    choice = answer.choices[0]
    if model == "talker":
        assert (choice.message.content, choice.message.reasoning_content) == ("one two", "hm")
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 3)
        assert answer.usage.prompt_tokens_details.cached_tokens == 5
    else:
        (call,) = choice.message.tool_calls
        assert (call.id, call.function.name) == ("call_1", "add")
        assert json.loads(call.function.arguments) == {"a": 1, "b": 2}
        assert choice.finish_reason == "tool_calls"


@LITELLM_WARNINGS
@pytest.mark.parametrize("model", ["talker", "caller"])
async def test_litellm_takes_every_kind_of_answer(server: ScriptedServer, litellm: Any, model: str) -> None:
    server.script("talker", Reply(text="one two", reasoning="hm", cached_tokens=5))
    server.script("caller", Reply(tool_calls=[ToolCall(name="add", arguments={"a": 1, "b": 2})]))
    whole = through_litellm(server, model)
    streamed = through_litellm(server, model, stream=True, stream_options={"include_usage": True})
    check_answer(litellm.completion(**whole), model)
    check_answer(litellm.stream_chunk_builder(list(litellm.completion(**streamed))), model)
    check_answer(await litellm.acompletion(**whole), model)
    check_answer(litellm.stream_chunk_builder([chunk async for chunk in await litellm.acompletion(**streamed)]), model)
    assert [record.stream for record in server.requests] == [False, True, False, True]


@LITELLM_WARNINGS
@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Failure(status=401), "AuthenticationError"),
        (Failure(status=429), "RateLimitError"),
        (Failure(status=500), "InternalServerError"),
        (Failure(status=503), "ServiceUnavailableError"),
        (Failure(status=400, message="This model's maximum context length is 9"), "ContextWindowExceededError"),
        (Hang(seconds=5), "Timeout"),
    ],
)
def test_litellm_names_every_failure(server: ScriptedServer, litellm: Any, behaviour: Behaviour, error: str) -> None:
    server.script("cheap", behaviour)
    with pytest.raises(getattr(litellm, error)):
        litellm.completion(**through_litellm(server, "cheap", timeout=0.3))
    assert server.count("cheap") == 1
