"""Traps 9, 12, 13, 18 and 20 of a LangChain chat model that routes: what reaches the provider, and how often."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.messages import HumanMessage

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Router, UnknownCandidateError
from mixllm_engine.testing import Failure, Hang, Reply, ScriptedServer, ToolCall
from mixllm_engine.testing.behaviours import Behaviour
from tests.langchain.agents import Joke, look
from tests.langchain.conftest import Ask
from tests.langchain.noting import noted, outcomes


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(status=429), "rate_limit"),
        (Failure(status=500), "unavailable"),
        (Failure(status=401), "auth"),
        (Hang(seconds=5), "timeout"),
    ],
    ids=["429", "500", "401", "timeout"],
)
async def test_gotcha_09_nothing_is_retried_behind_our_back(
    ask: Ask, llm: ChatMixLLM, server: ScriptedServer, failure: Behaviour, kind: str
) -> None:
    """Hidden retries cost three requests and spoil what is learned of latency and of errors."""
    server.script("cheap", failure)
    message = await ask(llm, "Hello?", timeout=0.3 if kind == "timeout" else 5)

    assert message.text == "Hello from dear to you"
    assert (server.count("cheap"), server.count("dear")) == (1, 1)
    assert (noted(message)["candidate"], message.response_metadata["model_name"]) == ("dear", "openai/dear")
    assert outcomes(llm, noted(message)["decision_id"]) == [("cheap", kind), ("dear", None)]
    assert llm.feedback(message, 1.0).candidate == "dear"


def test_gotcha_12_strict_belongs_into_the_tools(llm: ChatMixLLM, server: ScriptedServer) -> None:
    """At the top level of a request providers refuse it."""
    llm.bind_tools([look], strict=True).invoke("Weather?")
    sent: Any = server.requests[-1].body

    assert "strict" not in sent
    assert sent["tools"][0]["function"]["strict"] is True


async def test_gotcha_13_timeout_and_stop_of_the_model_hold(ask: Ask, router: Router, server: ScriptedServer) -> None:
    """ChatLiteLLM takes both and ignores them."""
    server.script("cheap", Hang(seconds=5))
    message = await ask(ChatMixLLM(router=router, budget="very_low", timeout=0.3, stop=["END"]), "Hello?")

    assert outcomes(ChatMixLLM(router=router), noted(message)["decision_id"])[0] == ("cheap", "timeout")
    assert server.requests[-1].body["stop"] == ["END"]


async def test_gotcha_18_an_agents_response_format_arrives(llm: ChatMixLLM, server: ScriptedServer) -> None:
    """Agents bind it together with the tools, where all candidates keep to schemas."""
    call = ToolCall(name="look", arguments={"city": "Rome"}, id="t1")
    server.script("cheap", [Reply(tool_calls=[call]), Reply(text='{"setup": "Sunny?"}')])
    agent = create_agent(llm, [look], response_format=Joke)  # no strategy is named: the profile decides
    result = await agent.ainvoke({"messages": [HumanMessage("A joke on the weather in Rome")]})

    assert result["structured_response"] == Joke(setup="Sunny?")
    for request in server.requests:
        sent: Any = request.body
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["look"]
        assert sent["response_format"]["json_schema"]["name"] == "Joke"
    server.script("cheap", Reply(text='{"setup": "Why?"}'))
    without_tools = create_agent(llm, response_format=ProviderStrategy(Joke))
    assert without_tools.invoke({"messages": [HumanMessage("A joke")]})["structured_response"] == Joke(setup="Why?")


async def test_gotcha_20_a_model_per_call_is_a_candidate_of_the_pool(ask: Ask, llm: ChatMixLLM) -> None:
    """LangChain's way to override the model names the candidate; there is none outside the pool."""
    message = await ask(llm, "Hello?", model="dear")
    assert noted(message)["candidate"] == "dear"
    decision = llm.router.explain(noted(message)["decision_id"]).record.decision
    assert (decision.reason, decision.propensity) == ("forced", 1.0)
    with pytest.raises(UnknownCandidateError, match="'openai/gpt-4o'.*'cheap', 'dear'"):
        await ask(llm, "Hello?", model="openai/gpt-4o")
