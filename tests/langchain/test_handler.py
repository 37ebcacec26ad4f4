"""What goes wrong behind an answer becomes feedback: each signal once, weighed, and off by a word."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from pydantic import BaseModel

from langchain_mixllm import ChatMixLLM, MixLLMFeedbackHandler
from mixllm_engine import ConfigError, Router
from mixllm_engine.signals import RULES, Rule, Signal
from mixllm_engine.testing import Reply, ScriptedServer, ToolCall


def signals(router: Router) -> list[tuple[str, float, float]]:
    """Return every label of the log: whose it was, its value, and what the whole label weighs."""
    rows = router._store.feedback_after(0, 1000)
    return [(row.decision_id, row.after.value, row.after.weight) for row in rows]


def watched(router: Router, **rules: Any) -> RunnableConfig:
    return {"callbacks": [MixLLMFeedbackHandler(router, rules=cast(dict[Signal, Rule], rules))]}


async def test_an_answer_that_a_parser_cant_read(llm: ChatMixLLM, router: Router) -> None:
    chain = RunnableLambda(str) | llm | JsonOutputParser()
    with pytest.raises(OutputParserException):
        chain.invoke("Hello?", watched(router))
    ((decision, value, weight),) = signals(router)
    assert (value, weight) == (0.0, RULES["parser_error"].weight)
    with pytest.raises(OutputParserException):
        await chain.ainvoke("Hello?", watched(router, parser_error=0.125))
    assert [label[1:] for label in signals(router)[1:]] == [(0.0, 0.125)]
    with pytest.raises(OutputParserException):
        chain.invoke("Hello?", watched(router, parser_error="off"))
    assert len(signals(router)) == 2
    assert router.stats()["feedback_duplicate"] == 0
    assert llm.feedback(decision, 1.0).status == "applied"  # a person's judgement stands beside it
    assert signals(router)[-1][1] == pytest.approx(1.0 / 1.5)


def test_a_good_answer_is_no_signal(server: ScriptedServer, llm: ChatMixLLM, router: Router) -> None:
    server.script("cheap", Reply(text='{"a": 1}'))
    config = watched(router)
    assert (llm | JsonOutputParser()).invoke("Hello?", config) == {"a": 1}
    assert signals(router) == []
    (handler,) = cast(list[MixLLMFeedbackHandler], config["callbacks"])
    assert (handler._asking, handler._log._made, dict(handler._log._told)) == ({}, {}, {})  # nothing of what is over


def test_only_the_last_decision_of_the_innermost_run_is_meant(llm: ChatMixLLM, router: Router) -> None:
    inner = llm | JsonOutputParser()
    seen: list[str] = []

    def both(question: str) -> str:
        seen.append(llm.invoke(question).response_metadata["mixllm"]["decision_id"])
        try:
            inner.invoke(question)
        except OutputParserException:
            seen.append(llm.invoke(question).response_metadata["mixllm"]["decision_id"])
        return "done"

    RunnableLambda(both).invoke("Hello?", watched(router))
    ((decision, *_),) = signals(router)
    assert decision not in seen


class Person(BaseModel):
    name: str
    age: int


def test_an_answer_that_does_not_fit_its_schema(server: ScriptedServer, llm: ChatMixLLM, router: Router) -> None:
    server.script("cheap", Reply(text='{"name": "Ada"}'))
    with pytest.raises(OutputParserException):
        llm.with_structured_output(Person).invoke("Who?", watched(router))
    raw = llm.with_structured_output(Person, include_raw=True).invoke("Who?", watched(router))
    assert raw["parsing_error"] is not None  # type: ignore[index]
    assert [label[1:] for label in signals(router)] == [(0.0, 0.5)] * 2
    server.script("cheap", Reply(tool_calls=[ToolCall(name="Person", arguments={"name": "Ada", "age": "old"})]))
    called = llm.with_structured_output(Person, method="function_calling")
    with pytest.raises(ValueError, match="age"):
        called.invoke("Who?", watched(router))
    assert len(signals(router)) == 3


@tool
def divide(a: int, b: int) -> float:
    """Divide."""
    return a / b


def steps(server: ScriptedServer, *replies: Reply) -> None:
    server.script("cheap", replies)


def division(b: Any) -> Reply:
    return Reply(tool_calls=[ToolCall(name="divide", arguments={"a": 1, "b": b})])


async def test_a_tool_that_fails_and_arguments_that_dont_fit(
    server: ScriptedServer, llm: ChatMixLLM, router: Router
) -> None:
    agent = create_agent(llm, tools=[divide])
    steps(server, division("nothing"), division(2), Reply(text="a half"))
    agent.invoke({"messages": [HumanMessage("What is 1/2?")]}, watched(router))
    ((first, *label),) = signals(router)
    assert label == [0.0, RULES["validation_error"].weight]
    assert first == next(iter(router._store._decisions))  # type: ignore[attr-defined]

    steps(server, division(0))
    with pytest.raises(ZeroDivisionError):
        await agent.ainvoke({"messages": [HumanMessage("What is 1/0?")]}, watched(router))
    assert [label[1:] for label in signals(router)[1:]] == [(0.0, RULES["tool_error"].weight)]


def test_a_structured_answer_of_an_agent_that_has_to_be_repeated(
    server: ScriptedServer, llm: ChatMixLLM, router: Router
) -> None:
    agent = create_agent(llm, tools=[], response_format=ToolStrategy(Person))
    bad, good = ({"name": "Ada", "age": "old"}, {"name": "Ada", "age": 36})
    steps(server, *(Reply(tool_calls=[ToolCall(name="Person", arguments=arguments)]) for arguments in (bad, good)))
    result = agent.invoke({"messages": [HumanMessage("Who?")]}, watched(router))
    assert result["structured_response"] == Person(name="Ada", age=36)
    ((first, *label),) = signals(router)
    assert label == [0.0, RULES["validation_error"].weight]
    assert first == next(iter(router._store._decisions))  # type: ignore[attr-defined]


def test_a_graph_that_waits_for_a_person_is_no_failure(server: ScriptedServer, llm: ChatMixLLM, router: Router) -> None:
    @tool
    def ask_person(question: str) -> str:
        """Ask."""
        return str(interrupt(question))

    agent = create_agent(llm, tools=[ask_person], checkpointer=InMemorySaver())
    steps(server, Reply(tool_calls=[ToolCall(name="ask_person", arguments={"question": "May I?"})]))
    config: RunnableConfig = {**watched(router), "configurable": {"thread_id": "1"}}
    assert "__interrupt__" in agent.invoke({"messages": [HumanMessage("Go")]}, config)
    assert signals(router) == []


def test_a_chain_that_tries_again(server: ScriptedServer, llm: ChatMixLLM, router: Router) -> None:
    steps(server, Reply(text="not this"), Reply(text="that"))

    def pick(text: str) -> str:
        if text != "that":
            raise LookupError(text)
        return text

    chain = (llm | StrOutputParser() | pick).with_retry(
        retry_if_exception_type=(LookupError,), wait_exponential_jitter=False
    )
    assert chain.invoke("Hello?", watched(router)) == "that"
    ((decision, *label),) = signals(router)
    assert label == [0.0, RULES["retry"].weight]
    assert decision == next(iter(router._store._decisions))  # type: ignore[attr-defined]


def test_a_question_that_is_asked_again_in_its_thread(llm: ChatMixLLM, router: Router) -> None:
    handler = MixLLMFeedbackHandler(llm)

    def asked(thread: str, *messages: str) -> str:
        config: RunnableConfig = {"callbacks": [handler], "configurable": {"thread_id": thread}}
        (llm | StrOutputParser()).invoke([HumanMessage(message) for message in messages], config)
        return str(list(router._store._decisions)[-1])  # type: ignore[attr-defined]

    first = asked("1", "Hello?")
    asked("2", "Hello?")
    asked("1", "Hello?", "And then?")
    assert signals(router) == []
    second = asked("1", "Hello?", "And then?")
    assert [label[1:] for label in signals(router)] == [(0.0, 0.5)]
    assert signals(router)[0][0] not in (first, second)
    asked("1", "Hello?", "And then?")
    assert [label[0] for label in signals(router)[1:]] == [second]


async def test_what_is_cancelled_or_dropped_says_nothing(
    server: ScriptedServer, llm: ChatMixLLM, router: Router
) -> None:
    server.script("cheap", Reply(text="one two three four", token_delay_s=0.2))
    chain, config = llm | StrOutputParser(), watched(router)
    task = asyncio.create_task(chain.ainvoke("Hello?", config))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in chain.stream("Hello?", config):
        break
    assert signals(router) == []


def test_signals_move_what_is_chosen_next(server: ScriptedServer, router: Router) -> None:
    server.script("dear", Reply(text='{"fine": true}'))
    llm, config = ChatMixLLM(router=router, willingness_to_pay=20.0), watched(router)
    chain = llm | JsonOutputParser()
    for number in range(40):
        try:
            chain.invoke(f"Question {number}", {**config, "configurable": {}})
        except OutputParserException:
            continue
    stats = router.stats()["candidates"]
    later = [llm.invoke(f"Another {number}").response_metadata["mixllm"]["candidate"] for number in range(10)]
    assert stats["cheap"]["mean_reward"] == 0.0 or stats["cheap"]["labels"] == 0
    assert later == ["dear"] * 10


def test_rules_that_make_no_sense_are_refused(router: Router) -> None:
    with pytest.raises(ConfigError, match="no signal is called 'boredom'"):
        watched(router, boredom=0.5)
    with pytest.raises(ConfigError, match="must be a Rule, a weight, or 'off', not 'on'"):
        watched(router, retry="on")
    with pytest.raises(ConfigError, match=r"a weight in \(0, 1\]"):
        watched(router, retry=0.0)
    with pytest.raises(ConfigError, match=r"a reward in \[0, 1\]"):
        watched(router, retry=Rule(reward=-1.0, weight=0.5))
