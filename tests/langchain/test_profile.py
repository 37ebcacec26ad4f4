"""What the chat model says of its abilities, and what agents make of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Router
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, ToolCall, tiny_pool

ABILITIES = {
    "supports_tools": "tool_calling",
    "supports_json_schema": "structured_output",
    "supports_images": "image_inputs",
    "supports_pdf": "pdf_inputs",
    "supports_audio": "audio_inputs",
}


class Weather(BaseModel):
    """The weather."""

    sunny: bool


def look(city: str) -> str:
    """Tell the weather."""
    return f"Sunny in {city}"


def profile_of(*candidates: Any, **settings: Any) -> Any:
    return ChatMixLLM(router=Router(candidates, encoder=HashingEncoder()), **settings).profile


@pytest.mark.parametrize(("ability", "key"), ABILITIES.items())
def test_what_all_can_do(ability: str, key: str) -> None:
    cheap, dear = tiny_pool()
    able = [replace(one, **{ability: True}) for one in (cheap, dear)]  # type: ignore[arg-type]
    assert profile_of(*able)[key] is True
    assert profile_of(able[0], replace(dear, **{ability: False}))[key] is False  # type: ignore[arg-type]


def test_the_smallest_limits() -> None:
    cheap, dear = tiny_pool()
    profile = profile_of(cheap, replace(dear, max_output_tokens=50), replace(cheap, name="x", context_window=None))
    assert (profile["max_input_tokens"], profile["max_output_tokens"]) == (4096, 50)
    assert "max_input_tokens" not in profile_of(replace(cheap, context_window=None))


def test_a_profile_that_is_given_wins() -> None:
    given = {"max_input_tokens": 7, "structured_output": False}
    assert profile_of(*tiny_pool(), profile=given) == given


@pytest.mark.parametrize("by_schema", [True, False])
def test_agents_ask_for_a_form_as_all_candidates_understand_it(server: ScriptedServer, by_schema: bool) -> None:
    pool = [replace(one, supports_json_schema=by_schema) for one in tiny_pool(server.base_url)]
    llm = ChatMixLLM(router=Router(pool, encoder=HashingEncoder(), seed=0))
    form = ToolCall(name="Weather", arguments={"sunny": True}, id="t1")
    for one in pool:
        server.script(one.name, Reply(text='{"sunny": true}') if by_schema else Reply(tool_calls=[form]))
    agent = create_agent(llm, [look], response_format=Weather)
    result = agent.invoke({"messages": [HumanMessage("Weather?")]})

    assert result["structured_response"] == Weather(sunny=True)
    sent: Any = server.requests[-1].body
    assert ("response_format" in sent) is by_schema
    assert [tool["function"]["name"] for tool in sent["tools"]] == (["look"] if by_schema else ["look", "Weather"])
