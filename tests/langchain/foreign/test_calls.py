"""A chat model that is a candidate is called as its own users would call it, and recorded as the others are."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatResult
from langchain_core.rate_limiters import InMemoryRateLimiter

from langchain_mixllm import ChatMixLLM
from mixllm_engine import ConfigError, Router
from tests.langchain.agents import Joke
from tests.langchain.conftest import Ask
from tests.langchain.foreign.abroad import Abroad, Silent, add, usage


class TestCalls:
    async def test_it_answers_and_is_recorded(self, ask: Ask, llm: ChatMixLLM) -> None:
        with get_usage_metadata_callback() as counted:
            message = await ask(llm, "Hello?")

        assert message.text.strip() == "From abroad"
        assert message.response_metadata["mixllm"]["candidate"] == "cheap"
        assert message.response_metadata["model_name"] == "openai/cheap"
        assert message.usage_metadata == counted.usage_metadata["openai/cheap"] == usage(7, 2)
        assert message.id == f"mixllm-{message.response_metadata['mixllm']['decision_id']}"
        (outcome,) = llm.router.explain(message.response_metadata["mixllm"]["decision_id"]).outcomes
        assert (outcome.prompt_tokens, outcome.response_tokens, outcome.error) == (7, 2, None)
        assert outcome.cost_usd == pytest.approx((7 * 0.1 + 2 * 0.4) / 1e6)
        assert llm.feedback(message, 1.0).candidate == "cheap"

    async def test_it_gets_what_it_understands(self, ask: Ask, router: Router, abroad: Abroad) -> None:
        settings: dict[str, Any] = {"temperature": 0.5, "max_tokens": 9, "timeout": 3.0, "stop": ["END"]}
        llm = ChatMixLLM(router=router, models={"cheap": abroad}, budget="very_low", **settings)
        question = HumanMessage("Hello?", name="ann")
        await ask(llm, [question])

        (seen,) = abroad._seen
        assert (seen["temperature"], seen["max_tokens"], seen["stop"]) == (0.5, 9, ["END"])
        assert seen["messages"][0] == question

    def test_streams_are_marked_once(self, llm: ChatMixLLM) -> None:
        chunks = list(llm.stream("Hello?"))

        assert ["model_name" in chunk.response_metadata for chunk in chunks].count(True) == 1
        assert [chunk.chunk_position for chunk in chunks].count("last") == 1
        assert {chunk.id for chunk in chunks} == {chunks[0].id}

    async def test_tools_in_its_own_form(self, ask: Ask, llm: ChatMixLLM, abroad: Abroad) -> None:
        message = await ask(llm.bind_tools([add], tool_choice="any", parallel_tool_calls=False), "1 + 2?")

        (seen,) = abroad._seen
        assert [tool["name"] for tool in seen["tools"]] == ["add"]
        assert "input_schema" in seen["tools"][0]
        assert (seen["choice"], seen["serial"]) == ({"type": "any"}, True)
        assert [(call["name"], call["args"]) for call in message.tool_calls] == [("add", {"a": 1})]

    @pytest.mark.parametrize(
        ("choice", "own"), [("add", {"type": "tool", "name": "add"}), ("required", {"type": "any"}), (None, None)]
    )
    def test_tool_choice_in_its_own_form(self, llm: ChatMixLLM, abroad: Abroad, choice: Any, own: Any) -> None:
        llm.bind_tools([add], tool_choice=choice).invoke("1 + 2?")
        assert abroad._seen[-1]["choice"] == own

    def test_no_tool_shall_be_called(self, llm: ChatMixLLM, abroad: Abroad) -> None:
        assert llm.bind_tools([add], tool_choice="none").invoke("1 + 2?").text == "From abroad"
        assert abroad._seen[-1]["tools"] is None

    async def test_structured_output_in_its_own_form(self, llm: ChatMixLLM, abroad: Abroad) -> None:
        structured = llm.with_structured_output(Joke)
        assert structured.invoke("A joke") == await structured.ainvoke("A joke") == Joke(setup="Why?")
        assert abroad._seen[-1]["form"]["title"] == "Joke"
        assert abroad._seen[-1]["form"]["properties"].keys() == {"setup"}

    def test_tools_and_a_form_together(self, llm: ChatMixLLM, abroad: Abroad) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "Joke", "schema": Joke.model_json_schema()}}
        llm.bind_tools([add], response_format=form).invoke("1 + 2?")
        assert abroad._seen[-1]["tools"]
        assert abroad._seen[-1]["form"]["title"] == "Joke"

    def test_json_mode_is_left_to_the_prompt(self, llm: ChatMixLLM, abroad: Abroad) -> None:
        llm.with_structured_output(Joke, method="json_mode", include_raw=True).invoke("A joke as JSON")
        assert abroad._seen[-1]["form"] is None

    def test_openais_words_for_who_has_none(self, router: Router) -> None:
        sent: list[Any] = []

        class Plain(GenericFakeChatModel):
            def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
                sent.append(kwargs.get("response_format"))
                return super()._generate(*args)

        plain = Plain(messages=iter(['{"setup": "Why?"}']))
        llm = ChatMixLLM(router=router, models={"cheap": plain}, force="cheap")
        assert llm.with_structured_output(Joke).invoke("A joke") == Joke(setup="Why?")
        assert sent[0]["json_schema"]["name"] == "Joke"

    def test_a_model_without_bind_tools_says_so(self, router: Router) -> None:
        fake = GenericFakeChatModel(messages=iter(["Hello"]))
        llm = ChatMixLLM(router=router, models={"cheap": fake}, force="cheap")
        with pytest.raises(ConfigError, match="GenericFakeChatModel has no bind_tools.*supports_tools=False"):
            llm.bind_tools([add]).invoke("1 + 2?")

    async def test_who_does_not_stream_answers_at_once(self, ask: Ask, router: Router) -> None:
        llm = ChatMixLLM(router=router, models={"cheap": Silent()}, budget="very_low")
        message = await ask(llm.bind_tools([add]), "1 + 2?")
        assert [(call["name"], call["args"]) for call in message.tool_calls] == [("add", {"a": 1})]
        assert (await ask(llm, "Hello?")).text == "From abroad"

    async def test_a_fake_model_answers(self, ask: Ask, router: Router) -> None:
        fake = GenericFakeChatModel(messages=iter([AIMessage("Hello from a fake", id="its own")]))
        message = await ask(ChatMixLLM(router=router, models={"cheap": fake}, force="cheap"), "Hello?")
        assert message.text == "Hello from a fake"
        assert message.response_metadata["mixllm"]["candidate"] == "cheap"

    def test_its_own_messages_stay_as_they_are(self, router: Router) -> None:
        kept = AIMessage("Hello", id="its own")
        llm = ChatMixLLM(router=router, models={"cheap": GenericFakeChatModel(messages=iter([kept]))}, force="cheap")
        assert llm.invoke("Hello?").id != "its own"
        assert (kept.id, kept.response_metadata) == ("its own", {})

    async def test_its_own_rate_limiter_holds(self, ask: Ask, router: Router) -> None:
        limiter = InMemoryRateLimiter(requests_per_second=5.0, check_every_n_seconds=0.01, max_bucket_size=1.0)
        llm = ChatMixLLM(router=router, models={"cheap": Abroad(rate_limiter=limiter)}, budget="very_low")
        for _ in range(2):
            message = await ask(llm, "Hello?")
        (outcome,) = llm.router.explain(message.response_metadata["mixllm"]["decision_id"]).outcomes
        assert outcome.latency_s is not None
        assert outcome.latency_s > 0.1
