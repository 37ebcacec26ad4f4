"""The provider when a call fails, takes too long or is given up: who answers then, and what the error is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from litellm_mixllm import Registered, decision_id_of, routed_to
from mixllm_engine import Router
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.testing import Cut, Failure, Hang, Reply, ScriptedServer
from tests.litellm.conftest import HELLO
from tests.litellm.ways import WAYS, Way


@pytest.mark.parametrize("failure", [Failure(status=500), Failure(status=429), Cut(text="a b", after_tokens=0)])
async def test_the_next_candidate_answers(
    ask: Way, registered: Registered, router: Router, server: ScriptedServer, failure: Any
) -> None:
    server.script("cheap", failure)
    answer = await ask(model=registered.model, messages=HELLO)
    assert (answer.model, routed_to(answer) or "dear") == ("openai/dear", "dear")
    assert [request.model for request in server.requests] == ["cheap", "dear"]
    assert router.feedback(decision_id_of(answer), 1.0).candidate == "dear"


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (429, "RateLimitError"),
        (401, "AuthenticationError"),
        (500, "InternalServerError"),
        (503, "ServiceUnavailableError"),
        (400, "BadRequestError"),
        (404, "NotFoundError"),
    ],
)
async def test_failures_keep_the_classes_of_litellm(
    ask: Way, registered: Registered, server: ScriptedServer, status: int, name: str
) -> None:
    for model in ("cheap", "dear"):
        server.script(model, Failure(status=status))
    litellm = load_litellm()
    with pytest.raises(Exception, match="scripted failure") as raised:
        await ask(model=registered.model, messages=HELLO)
    error = raised.value
    if ask is WAYS["streamed async"] and status in (429, 500, 503):  # LiteLLM's own, of any stream that fails
        assert isinstance(error, litellm.exceptions.MidStreamFallbackError)
        assert error.original_exception is not None
        assert decision_id_of(error) == decision_id_of(error.original_exception)
        error = error.original_exception
    assert type(error) is getattr(litellm, name)
    assert len(server.requests) == 2
    assert f"all 2 candidates failed for decision {decision_id_of(error)}" in error.__notes__[0]


async def test_a_prompt_that_fits_nobody(ask: Way, registered: Registered, server: ScriptedServer) -> None:
    with pytest.raises(load_litellm().ContextWindowExceededError, match="window"):
        await ask(model=registered.model, messages=[{"role": "user", "content": "word " * 100_000}])
    assert not server.requests


async def test_a_stream_that_breaks_off_is_not_begun_again(registered: Registered, server: ScriptedServer) -> None:
    server.script("cheap", Cut(text="one two three", after_tokens=2))
    litellm, seen = load_litellm(), []
    with pytest.raises(litellm.exceptions.MidStreamFallbackError, match="onnection|incomplete"):
        for chunk in litellm.completion(model=registered.model, messages=HELLO, stream=True):
            seen.append(chunk.choices[0].delta.content or "")
    assert "".join(seen).strip() == "one two"
    assert server.count("dear") == 0


async def test_a_timeout_is_the_caller_s(ask: Way, registered: Registered, server: ScriptedServer) -> None:
    for model in ("cheap", "dear"):
        server.script(model, Hang(seconds=5))
    with pytest.raises(load_litellm().Timeout):
        await ask(model=registered.model, messages=HELLO, timeout=0.2)


async def test_a_cancelled_call_ends_its_request(
    registered: Registered, router: Router, server: ScriptedServer
) -> None:
    server.script("cheap", Reply(text="late", delay_s=5.0))
    call = asyncio.create_task(load_litellm().acompletion(model=registered.model, messages=HELLO))
    await asyncio.to_thread(server.wait_for, lambda request: True, 5.0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 5.0)
    assert router.stats()["candidates"]["cheap"]["in_flight"] == 0
    assert server.count("dear") == 0


async def test_an_abandoned_stream_ends_its_request(
    registered: Registered, router: Router, server: ScriptedServer
) -> None:
    server.script("cheap", Reply(text="one two three four five", token_delay_s=0.2))
    stream = await load_litellm().acompletion(model=registered.model, messages=HELLO, stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.aclose()
    await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 5.0)
    assert router.stats()["candidates"]["cheap"]["in_flight"] == 0
