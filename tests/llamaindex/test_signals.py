"""What goes wrong behind an answer becomes feedback, seen by LlamaIndex's instrumentation."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel

from llamaindex_mixllm import MixLLM, MixLLMEventHandler
from mixllm_engine import Router
from mixllm_engine.signals import RULES
from mixllm_engine.testing import Reply, ScriptedServer, ToolCall


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def labels(router: Router) -> list[tuple[float, float]]:
    return [(row.after.value, row.after.weight) for row in router._store.feedback_after(0, 1000)]


def ask(llm: MixLLM) -> None:
    llm.structured_predict(Person, PromptTemplate("Who is {name}?"), name="Ada")


def test_an_answer_that_is_no_call(server: ScriptedServer, llm: MixLLM, router: Router) -> None:
    server.script("cheap", Reply(text="I would rather not say."))
    for _ in range(2):
        with MixLLMEventHandler(llm).watching(), pytest.raises(ValueError, match="tool call"):
            llm.structured_predict(Person, PromptTemplate("Who is {name}?"), {"force": "cheap"}, name="Ada")
    assert labels(router) == [(0.0, RULES["parser_error"].weight)] * 2
    with pytest.raises(ValueError, match="tool call"):
        llm.structured_predict(Person, PromptTemplate("Who is {name}?"), {"force": "cheap"}, name="Ada")
    assert len(labels(router)) == 2  # nobody watched


@pytest.mark.skipif(version("llama-index-core") < "0.14.20", reason="LlamaIndex returns what it could not parse")
def test_an_answer_that_does_not_fit(server: ScriptedServer, llm: MixLLM, router: Router) -> None:
    server.script("cheap", Reply(tool_calls=[ToolCall(name="Person", arguments={"name": "Ada", "age": "old"})]))
    with MixLLMEventHandler(llm).watching(), pytest.raises(ValueError, match="could not be parsed into Person"):
        ask(llm)
    assert labels(router) == [(0.0, RULES["validation_error"].weight)]


def test_good_answers_and_failures_of_providers_say_nothing(
    server: ScriptedServer, llm: MixLLM, router: Router
) -> None:
    server.script("cheap", Reply(tool_calls=[ToolCall(name="Person", arguments={"name": "Ada", "age": 36})]))
    handler = MixLLMEventHandler(router)
    with handler.watching():
        ask(llm)
        with pytest.raises(ValueError, match="no candidate"):
            llm.chat([ChatMessage(content="Hello?")], allow=["nobody"])
    assert labels(router) == []
    assert (handler._log._made, handler._spans.open_spans) == ({}, {})


def halve(number: int) -> float:
    """Halve a number."""
    if number % 2:
        raise ArithmeticError("odd")
    return number / 2


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_tool_that_fails_in_an_agent(
    server: ScriptedServer, llm: MixLLM, router: Router, streaming: bool
) -> None:
    server.script(
        "cheap",
        [
            Reply(tool_calls=[ToolCall(name="halve", arguments={"number": 3})]),
            Reply(tool_calls=[ToolCall(name="halve", arguments={"number": 4})]),
            Reply(text="Two."),
        ],
    )
    agent = FunctionAgent(tools=[halve], llm=llm, streaming=streaming)
    with MixLLMEventHandler(router, rules={"tool_error": 0.125}).watching():
        await agent.run("Halve three.")
    assert router.stats()["decisions"] == 3
    rows = router._store.feedback_after(0, 10)
    assert [tuple(row.after) for row in rows] == [(0.0, 0.125)]
    assert rows[0].decision_id == next(iter(router._store._decisions))  # type: ignore[attr-defined]


def test_it_is_installed_once_and_removed(router: Router) -> None:
    root, handler = get_dispatcher(), MixLLMEventHandler(router, rules={"tool_error": "off"})
    before = (list(root.event_handlers), list(root.span_handlers))
    handler.install()
    handler.install()
    assert len(root.event_handlers) == len(before[0]) + 1
    handler.remove()
    assert (root.event_handlers, root.span_handlers) == before
