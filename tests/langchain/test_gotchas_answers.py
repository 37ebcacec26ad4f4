"""Traps 6 to 8 and 15 of a LangChain chat model that routes: answers that are cached, rewritten, parsed or counted."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import add_usage

from langchain_mixllm import ChatMixLLM, track_decisions
from mixllm_engine import UnknownDecisionError
from mixllm_engine.testing import Reply, ScriptedServer
from tests.langchain.agents import Joke, look
from tests.langchain.conftest import Ask
from tests.langchain.noting import Watcher, noted


def test_gotcha_06_a_cache_hit_is_the_same_decision(llm: ChatMixLLM, server: ScriptedServer) -> None:
    """It repeats the message and ends a run again; calls, costs and feedback are counted once."""
    cached, watcher = llm.model_copy(update={"cache": InMemoryCache()}), Watcher()
    first, again = (cached.invoke("Hello?", {"callbacks": [watcher]}) for _ in range(2))

    assert (first.id, noted(first)) == (again.id, noted(again))
    assert (len(watcher.ends), server.count("cheap")) == (2, 1)
    assert cached.feedback(first, 1.0).status == "applied"
    assert cached.feedback(again, 1.0).status == "duplicate"
    stats = llm.router.stats()
    assert (stats["decisions"], stats["outcomes"], stats["feedback_applied"]) == (1, 1, 1)


def test_gotcha_07_histories_as_openais_dicts_lose_the_metadata(llm: ChatMixLLM) -> None:
    """They can be continued, and feedback on their messages says why it is impossible."""
    call: Any = {"name": "look", "args": {"city": "Rome"}, "id": "t1"}
    history = [HumanMessage("Weather?"), llm.invoke("Weather?"), HumanMessage("In Rome?")]
    history += [AIMessage("", tool_calls=[call]), ToolMessage("Sunny", tool_call_id="t1")]
    plain = convert_to_openai_messages(history)
    assert isinstance(plain, list)

    assert llm.bind_tools([look]).invoke(plain).text == "Hello from cheap to you"
    with pytest.raises(UnknownDecisionError, match="names no decision"):
        llm.feedback(convert_to_messages(plain)[1], 1.0)
    assert llm.feedback(history[1], 1.0).status == "applied"


async def test_gotcha_08_structured_output_returns_no_message(llm: ChatMixLLM, server: ScriptedServer) -> None:
    """The decision behind a parsed object is found by tracking."""
    server.script("cheap", Reply(text='{"setup": "Why?"}'))
    structured = llm.with_structured_output(Joke)
    with track_decisions() as tracked:
        assert structured.invoke("A joke") == Joke(setup="Why?")
        assert await structured.ainvoke("Another") == Joke(setup="Why?")

    assert len(tracked.decisions) == 2
    assert [llm.feedback(decision, 1.0).candidate for decision in tracked.decisions] == ["cheap", "cheap"]


async def test_gotcha_15_usage_holds_integers_only(ask: Ask, llm: ChatMixLLM) -> None:
    """LangChain can't add usages that hold a cost; it stands in the metadata of the response."""
    one, other = await ask(llm, "Hello?"), await ask(llm, "Hello again?")

    assert add_usage(one.usage_metadata, other.usage_metadata)["total_tokens"] == 32
    assert "total_cost" not in (one.usage_metadata or {})
    assert one.response_metadata["response_cost"] == pytest.approx((11 * 0.1 + 5 * 0.4) / 1e6)
