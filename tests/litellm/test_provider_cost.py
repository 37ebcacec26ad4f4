"""The provider's calls are counted once: usage, cost, failures, and what a budget manager charges."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import litellm_mixllm
from litellm_mixllm import Registered
from mixllm_engine import Candidate, Router
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer
from tests.litellm.conftest import HELLO, Heard
from tests.litellm.ways import Way

CHEAP_USD = (11 * 0.1 + 4 * 0.4) / 1e6
DEAR_USD = (11 * 2.0 + 4 * 8.0) / 1e6


async def test_usage_and_cost_are_counted_once(ask: Way, registered: Registered, router: Router, heard: Heard) -> None:
    await ask(model=registered.model, messages=HELLO)
    await ask(model=registered.model, messages=HELLO, force="dear")
    await asyncio.to_thread(heard.wait_for, 2)
    assert [told["custom_llm_provider"] for told in heard.successes] == ["mixllm", "mixllm"]
    assert sorted(told["response_cost"] for told in heard.successes) == pytest.approx([CHEAP_USD, DEAR_USD])
    assert {told["response"].model for told in heard.successes} == {"openai/cheap", "openai/dear"}
    assert {told["response"].usage.total_tokens for told in heard.successes} == {15}
    assert router.stats()["outcomes"] == 2


async def test_an_answer_says_what_it_cost(ask: Way, registered: Registered) -> None:
    answer = await ask(model=registered.model, messages=HELLO)
    assert answer.usage.cost == pytest.approx(CHEAP_USD)
    assert answer._hidden_params["response_cost"] == pytest.approx(CHEAP_USD)


async def test_after_a_fallback_only_the_answer_counts(
    ask: Way, registered: Registered, server: ScriptedServer, heard: Heard
) -> None:
    server.script("cheap", Failure(status=500))
    await ask(model=registered.model, messages=HELLO)
    await asyncio.to_thread(heard.wait_for, 1)
    assert heard.successes[0]["response_cost"] == pytest.approx(DEAR_USD)


async def test_a_failure_is_told_once(ask: Way, registered: Registered, server: ScriptedServer, heard: Heard) -> None:
    for model in ("cheap", "dear"):
        server.script(model, Failure(status=500))
    with pytest.raises((load_litellm().InternalServerError, load_litellm().ServiceUnavailableError)):
        await ask(model=registered.model, messages=HELLO)
    await asyncio.to_thread(heard.wait_for, 0, 1)


def test_a_budget_manager_charges_the_answer(registered: Registered, server: ScriptedServer, tmp_path: Path) -> None:
    """LiteLLM's own budget manager knows prices by the model's name, hence that of the model that answered."""
    litellm = load_litellm()
    server.script("gpt-4o-mini", Reply(text="Hi", prompt_tokens=1000, response_tokens=100))
    known = Candidate(name="known", model="openai/gpt-4o-mini", api_base=server.base_url)
    with Router([known], encoder=HashingEncoder()) as router, litellm_mixllm.register(router) as model:
        answer = litellm.completion(model=model.model, messages=HELLO)
    assert litellm.completion_cost(answer) == pytest.approx(answer._hidden_params["response_cost"])
    assert answer.usage.cost == pytest.approx((1000 * 0.15 + 100 * 0.6) / 1e6)
