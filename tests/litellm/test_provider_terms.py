"""Who answers for the provider: by terms, budgets and names, and the same one throughout a tool loop."""

from __future__ import annotations

from typing import Any

import pytest

import litellm_mixllm
from litellm_mixllm import Registered
from mixllm_engine import Router
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
from tests.litellm.conftest import HELLO
from tests.litellm.ways import Way


@pytest.mark.parametrize(
    "terms",
    [
        {"force": "dear"},
        {"allow": ["de*"]},
        {"metadata": {"mixllm": {"deny": ["cheap"]}}},
        {"metadata": {"mixllm": {"force": "cheap"}, "trace": "x"}, "force": "dear"},
    ],
)
async def test_terms_are_keywords_or_metadata(
    ask: Way, registered: Registered, server: ScriptedServer, terms: dict[str, Any]
) -> None:
    answer = await ask(model=registered.model, messages=HELLO, **terms)
    assert (answer.choices[0].message.content, answer.model) == ("A very good day", "openai/dear")
    assert not {"force", "allow", "deny", "metadata", "mixllm"} & set(server.requests[-1].body)


async def test_a_budget_changes_the_choice(ask: Way, registered: Registered) -> None:
    poor = await ask(model=registered.model, messages=HELLO, willingness_to_pay=0.0)
    rich = await ask(model=registered.model, messages=HELLO, budget="very_high", max_wait_s=60.0)
    assert (poor.model, rich.model) == ("openai/cheap", "openai/dear")


@pytest.mark.parametrize("noted", [{"buget": "low"}, "low"])
async def test_terms_that_are_none_are_refused(ask: Way, registered: Registered, noted: object) -> None:
    with pytest.raises(load_litellm().BadRequestError, match="it is a mapping with some of budget, willingness_to_pay"):
        await ask(model=registered.model, messages=HELLO, metadata={"mixllm": noted})


async def test_in_a_tool_loop_the_candidate_stays(registered: Registered, router: Router) -> None:
    litellm = load_litellm()
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    begun = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    loop = [*HELLO, *begun, {"role": "tool", "tool_call_id": "call_1", "content": "3"}]
    first = litellm.completion(model=registered.model, messages=HELLO, tools=[tool], budget="very_high")
    # An agent that shows a tool's output as the person's words is in a loop as well.
    told = [*HELLO, {"role": "assistant", "content": "Calling add"}, {"role": "user", "content": "Observation: 3"}]
    for later in (loop, told):
        assert litellm.completion(model=registered.model, messages=later, tools=[tool]).model == first.model
    assert first.model == "openai/dear"


async def test_several_routers_go_by_several_names(ask: Way, registered: Registered, server: ScriptedServer) -> None:
    server.script("other", Reply(text="I am another."))
    with (
        tiny_router(api_base=server.base_url, names=["other"]) as second,
        litellm_mixllm.register(second, model="other") as other,
    ):
        assert (await ask(model=other.model, messages=HELLO)).model == "openai/other"
        assert (await ask(model=registered.model, messages=HELLO)).model == "openai/cheap"


async def test_an_unknown_name_is_told_with_those_that_are_known(ask: Way, registered: Registered) -> None:
    with pytest.raises(load_litellm().NotFoundError, match="registered as mixllm/atuo; registered: mixllm/auto"):
        await ask(model="mixllm/atuo", messages=HELLO)
