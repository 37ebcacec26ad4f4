"""What a call brings: one answer, marked with where it came from, with its usage counted once."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.prompts import ChatPromptTemplate

from langchain_mixllm import ChatMixLLM, track_decisions
from langchain_mixllm._answers import StreamNotes
from mixllm_engine import ConfigError, Query, Router, UnknownCandidateError
from mixllm_engine.testing import HashingEncoder, Malformed, Reply, ScriptedServer, ToolCall, tiny_pool
from tests.langchain.conftest import Ask


def said(message: AIMessage) -> dict[str, Any]:
    noted: dict[str, Any] = message.response_metadata["mixllm"]
    return noted


async def test_every_way_to_ask_gives_the_same_message(ask: Ask, llm: ChatMixLLM, router: Router) -> None:
    message = await ask(llm, "Hello?")

    assert message.text == "Hello from cheap to you"
    assert said(message).keys() == {"decision_id", "candidate", "model", "propensity", "explored"}
    assert (said(message)["candidate"], said(message)["model"]) == ("cheap", "openai/cheap")
    assert (said(message)["propensity"], said(message)["explored"]) == (1.0, False)
    assert message.response_metadata["model_name"] == "openai/cheap"
    assert message.response_metadata["model_provider"] == "litellm"
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.id == f"mixllm-{said(message)['decision_id']}"
    assert message.usage_metadata is not None
    assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (11, 5)
    json.dumps([message.response_metadata, message.additional_kwargs])


async def test_the_outcome_is_recorded(ask: Ask, llm: ChatMixLLM, router: Router) -> None:
    message = await ask(llm, "Hello?")

    (outcome,) = router.explain(said(message)["decision_id"]).outcomes
    assert (outcome.candidate, outcome.error) == ("cheap", None)
    assert (outcome.prompt_tokens, outcome.response_tokens) == (11, 5)
    assert outcome.cost_usd == message.response_metadata["response_cost"] == pytest.approx((11 * 0.1 + 5 * 0.4) / 1e6)
    assert router.stats()["candidates"]["cheap"]["in_flight"] == 0


async def test_usage_is_counted_once(ask: Ask, llm: ChatMixLLM) -> None:
    with get_usage_metadata_callback() as counted:
        await ask(llm, "Hello?")

    usage = counted.usage_metadata["openai/cheap"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (11, 5, 16)


async def test_invoke_can_stream(llm: ChatMixLLM, server: ScriptedServer) -> None:
    message = ChatMixLLM(router=llm.router, streaming=True).invoke("Hello?")

    assert server.requests[-1].stream
    assert type(message) is AIMessage
    assert message.id == f"mixllm-{said(message)['decision_id']}"


def test_batch_routes_every_input(llm: ChatMixLLM) -> None:
    messages = llm.batch([f"Question {number}" for number in range(5)])

    assert len({said(message)["decision_id"] for message in messages}) == 5


async def test_tool_calls_and_reasoning_are_plain_data(ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
    call = ToolCall(name="add", arguments={"a": 1, "b": "ü"}, id="call_7")
    server.script("cheap", Reply(reasoning="First I think", tool_calls=[call]))

    message = await ask(llm.bind_tools([{"name": "add", "description": "", "parameters": {}}]), "1 + ü?")

    assert [(made["name"], made["args"], made["id"]) for made in message.tool_calls] == [
        ("add", {"a": 1, "b": "ü"}, "call_7")
    ]
    assert message.additional_kwargs["reasoning_content"] == "First I think"
    json.dumps([message.response_metadata, message.additional_kwargs])


def test_log_probabilities_are_plain_data(llm: ChatMixLLM, server: ScriptedServer) -> None:
    word = {"token": "Yes", "logprob": -0.5, "bytes": None, "top_logprobs": []}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes"}, "finish_reason": "stop"}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "cheap", "choices": [choice]}
    server.script(
        "cheap", Malformed(body=json.dumps({**body, "choices": [{**choice, "logprobs": {"content": [word]}}]}))
    )

    message = llm.invoke("Hello?", logprobs=True)

    assert json.loads(json.dumps(message.response_metadata))["logprobs"]["content"][0]["logprob"] == -0.5
    (outcome,) = llm.router.explain(said(message)["decision_id"]).outcomes
    assert outcome.prompt_tokens is None  # the provider did not say


async def test_decisions_in_a_chain_are_tracked(ask: Ask, llm: ChatMixLLM) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
    with track_decisions() as tracked:
        message = await ask(prompt | llm, {"question": "Hello?"})
        text = await (prompt | llm | StrOutputParser()).ainvoke({"question": "And now?"})

    assert text == "Hello from cheap to you"
    assert tracked.decision_ids[0] == said(message)["decision_id"]
    assert len(tracked.decisions) == 2


class TestTerms:
    """What may be said about a decision, at the model and per call."""

    async def test_force_and_model_name_the_candidate(self, ask: Ask, llm: ChatMixLLM) -> None:
        assert said(await ask(llm, "Hello?", force="dear"))["candidate"] == "dear"
        message = await ask(llm, "Hello?", model="dear")
        assert message.response_metadata["model_name"] == "openai/dear"

    async def test_budget_changes_the_choice(self, ask: Ask, llm: ChatMixLLM, router: Router) -> None:
        for number in range(10):  # the dear one is worth its price here
            router.feedback(router.decide(f"Q {number}", force="cheap"), reward=0.2)
            router.feedback(router.decide(f"Q {number}", force="dear"), reward=1.0)

        assert said(await ask(llm, "Q 11"))["candidate"] == "cheap"
        assert said(await ask(llm, "Q 11", budget="very_high"))["candidate"] == "dear"
        assert said(await ask(llm, "Q 11", willingness_to_pay=1000.0))["candidate"] == "dear"
        assert said(await ask(llm.bind(budget="very_high"), "Q 11"))["candidate"] == "dear"

    async def test_allow_and_deny(self, ask: Ask, llm: ChatMixLLM) -> None:
        assert said(await ask(llm, "Hello?", deny=["cheap"]))["candidate"] == "dear"
        assert said(await ask(llm, "Hello?", allow=["d*"]))["candidate"] == "dear"
        standing = ChatMixLLM(router=llm.router, deny=["cheap"])
        assert said(await ask(standing, "Hello?"))["candidate"] == "dear"
        assert said(await ask(standing, "Hello?", deny=["dear"]))["candidate"] == "cheap"
        assert said(await ask(standing, "Hello?", allow=["cheap"], deny=None))["candidate"] == "cheap"

    async def test_the_session_is_known_to_the_router(self, ask: Ask, llm: ChatMixLLM, router: Router) -> None:
        await ask(llm, "Hello?", session="s", force="dear")

        decision = router.decide(Query(text="Go on", in_tool_loop=True), session="s")
        assert (decision.candidate, decision.reason) == ("dear", "tool loop")

    def test_unknown_names_and_contradictions_are_refused(self, llm: ChatMixLLM) -> None:
        with pytest.raises(UnknownCandidateError, match="'nobody'.*'cheap', 'dear'"):
            llm.invoke("Hello?", model="nobody")
        with pytest.raises(ConfigError, match="name two candidates"):
            llm.invoke("Hello?", model="cheap", force="dear")
        with pytest.raises(ConfigError, match="unknown budget 'free'"):
            llm.invoke("Hello?", budget="free")

    @pytest.mark.parametrize("name", ["api_key", "api_base", "base_url"])
    def test_keys_and_addresses_are_no_matter_of_a_call(self, llm: ChatMixLLM, name: str) -> None:
        with pytest.raises(ConfigError, match=f"{name} can't be given per call"):
            llm.bind(**{name: "x"}).invoke("Hello?")


class TestRequest:
    """What reaches the endpoint."""

    async def test_parameters_of_model_and_call(self, ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
        model = ChatMixLLM(router=llm.router, temperature=0.5, max_tokens=50, stop=["END"])
        await ask(model, "Hello?")
        await ask(model, "Hello?", temperature=0.1, stop=["STOP"], top_p=0.9)

        first, second = (request.body for request in server.requests)
        assert (first["temperature"], first["max_tokens"], first["stop"]) == (0.5, 50, ["END"])
        assert (second["temperature"], second["stop"], second["top_p"]) == (0.1, ["STOP"], 0.9)

    def test_a_candidates_parameters_hold_where_nothing_else_is_said(self, server: ScriptedServer) -> None:
        (plain,) = tiny_pool(api_base=server.base_url, names=["cheap"])
        arm = replace(plain, params={"temperature": 0.2, "seed": 7, "stop": ["X"]})
        model = ChatMixLLM(router=Router([arm], encoder=HashingEncoder()))
        model.invoke("Hello?")
        model.invoke("Hello?", temperature=0.9, stop=["Y"])

        first, second = (request.body for request in server.requests)
        assert (first["temperature"], first["seed"], first["stop"]) == (0.2, 7, ["X"])
        assert (second["temperature"], second["seed"], second["stop"]) == (0.9, 7, ["Y"])

    def test_what_is_langchains_own_is_not_sent(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        llm.invoke("Hello?", stream=False, ls_structured_output_format={"kwargs": {}, "schema": {}})
        llm.bind_tools([]).invoke("Hello?")

        for request in server.requests:
            assert request.body.keys() == {"model", "messages"}

    def test_names_and_anthropic_images_arrive(self, capable_router: Router, server: ScriptedServer) -> None:
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
        linked = {"type": "image", "source": {"type": "url", "url": "https://host/cat.png"}}
        question = HumanMessage([{"type": "text", "text": "What is this?"}, image, linked], name="ann")
        seeing = [replace(c, api_base=server.base_url) for c in capable_router.candidates]
        model = ChatMixLLM(router=Router(seeing, encoder=HashingEncoder()))
        model.invoke([SystemMessage("Be brief."), question])
        (sent,) = server.requests

        messages: Any = sent.body["messages"]
        assert messages[1]["name"] == "ann"
        urls = [part["image_url"]["url"] for part in messages[1]["content"] if part["type"] == "image_url"]
        assert urls == ["data:image/png;base64,AAAA", "https://host/cat.png"]
        assert "name" not in question.additional_kwargs

    def test_only_able_candidates_are_eligible(self, llm: ChatMixLLM) -> None:
        image = {"type": "image", "base64": "AAAA", "mime_type": "image/png"}
        with pytest.raises(LookupError, match="does not support images"):
            llm.invoke([HumanMessage([{"type": "text", "text": "What is this?"}, image])])

    def test_a_history_from_elsewhere_is_routed_by_its_last_question(self, llm: ChatMixLLM) -> None:
        history = [
            HumanMessage("What is 1 + 2?"),
            AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "c"}]),
            ToolMessage("3", tool_call_id="c"),
        ]
        assert re.match("Hello from", llm.invoke(history).text)


def test_usage_that_is_reported_on_every_chunk_is_not_added_up(router: Router) -> None:
    notes, candidate = StreamNotes(router.decide("Hello?")), router.candidates[0]
    chunks = [
        ChatGenerationChunk(
            message=AIMessageChunk(
                content="word ",
                usage_metadata={"input_tokens": 7, "output_tokens": so_far, "total_tokens": 7 + so_far},
            )
        )
        for so_far in (1, 2, 3)
    ]
    message = reduce(add, [notes.mark(candidate, chunk) for chunk in chunks] + [notes.last()]).message

    assert isinstance(message, AIMessage)
    assert message.usage_metadata == {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
