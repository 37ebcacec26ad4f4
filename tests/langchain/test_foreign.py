"""Any chat model can be a candidate: it is called as its own users would call it, and recorded as the others are."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel, ModelProfile
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, PrivateAttr, SecretStr, ValidationError

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Candidate, ConfigError, Router, UnknownPriceError
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer, tiny_pool
from tests.langchain.conftest import Ask

PRICES: dict[str, Any] = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}


def usage(given: int, made: int) -> UsageMetadata:
    return {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}


class Abroad(BaseChatModel):
    """Speaks a dialect: own names for tools and schemas, blocks for text, usage in two parts, no unknown argument."""

    model: str = "claude-haiku-4-5"
    token: SecretStr = SecretStr("hunter2")
    failure: Any = None
    _seen: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _closed: threading.Event = PrivateAttr(default_factory=threading.Event)

    @property
    def _llm_type(self) -> str:
        return "abroad"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop, **kwargs), "ls_provider": "anthropic"}

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, parallel_tool_calls: bool | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        functions = [convert_to_openai_tool(tool)["function"] for tool in tools]
        own = [{"name": function["name"], "input_schema": function["parameters"]} for function in functions]
        choice = {"any": {"type": "any"}, None: None}.get(tool_choice, {"type": "tool", "name": tool_choice})
        return self.bind(own_tools=own, own_choice=choice, serial=parallel_tool_calls is False, **kwargs)

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, method: Literal["json_schema"] = "json_schema", **kwargs: Any
    ) -> Runnable[Any, Any]:
        return self.bind(own_form=schema, ls_structured_output_format={"schema": schema}) | JsonOutputParser()

    def _note(self, messages: Any, stop: Any, unknown: dict[str, Any], **known: Any) -> None:
        assert not unknown, f"no such argument: {unknown}"
        self._seen.append({"messages": messages, "stop": stop, **known})
        if self.failure is not None:
            raise self.failure

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        own_tools: Any = None,
        own_choice: Any = None,
        own_form: Any = None,
        serial: bool = False,
        **unknown: Any,
    ) -> ChatResult:
        self._note(
            messages,
            stop,
            unknown,
            temperature=temperature,
            max_tokens=max_tokens,
            tools=own_tools,
            choice=own_choice,
            form=own_form,
            serial=serial,
        )
        message = AIMessage([{"type": "text", "text": "From abroad"}], usage_metadata=usage(7, 2))
        if own_tools:
            message = AIMessage("", tool_calls=[{"name": own_tools[0]["name"], "args": {"a": 1}, "id": "t1"}])
        if own_form:
            message = AIMessage('{"setup": "Why?"}')
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        whole = self._generate(messages, stop, **kwargs).generations[0].message
        assert isinstance(whole, AIMessage)
        try:
            first = AIMessageChunk(content=[], usage_metadata=usage(7, 0), response_metadata={"model_name": "x"})
            yield ChatGenerationChunk(message=first)
            for word in whole.text.split(" "):
                yield ChatGenerationChunk(
                    message=AIMessageChunk(content=[{"type": "text", "text": f"{word} ", "index": 0}])
                )
            calls: Any = [{**call, "args": '{"a": 1}', "index": 1} for call in whole.tool_calls]
            last = AIMessageChunk(content=[], usage_metadata=usage(0, 2), tool_call_chunks=calls, chunk_position="last")
            yield ChatGenerationChunk(message=last, generation_info={"model_name": "x", "finish_reason": "end"})
        finally:
            self._closed.set()

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, stop, **kwargs):
            yield chunk


class Silent(Abroad):
    """Does not stream."""

    _stream = BaseChatModel._stream
    _astream = BaseChatModel._astream


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


class Joke(BaseModel):
    """A joke."""

    setup: str


@pytest.fixture
def abroad() -> Abroad:
    return Abroad()


@pytest.fixture
def llm(router: Router, abroad: Abroad) -> ChatMixLLM:
    """``cheap`` is the model from abroad, ``dear`` is called through LiteLLM."""
    return ChatMixLLM(router=router, models={"cheap": abroad}, budget="very_low")


class TestMaking:
    def test_name_and_prices_come_from_the_model(self, abroad: Abroad) -> None:
        llm = ChatMixLLM(candidates=[abroad, "openai/gpt-4o-mini", Candidate(name="x", model="x", **PRICES)])
        names = {candidate.name: candidate for candidate in llm.router.candidates}

        assert names.keys() == {"anthropic/claude-haiku-4-5", "openai/gpt-4o-mini", "x"}
        assert names["anthropic/claude-haiku-4-5"].output_usd_per_mtok == pytest.approx(5.0)
        assert names["anthropic/claude-haiku-4-5"].supports_tools
        message = llm.invoke("Hello?", force="anthropic/claude-haiku-4-5")
        assert message.text == "From abroad"
        assert message.response_metadata["response_cost"] == pytest.approx((7 * 1.0 + 2 * 5.0) / 1e6)

    def test_a_profile_says_what_it_can_do(self) -> None:
        said: ModelProfile = {"max_input_tokens": 500, "tool_calling": False, "image_inputs": True}
        (candidate,) = ChatMixLLM(candidates=[Abroad(profile=said)]).router.candidates

        assert (candidate.context_window, candidate.supports_tools, candidate.supports_images) == (500, False, True)
        assert candidate.supports_json_schema  # the profile does not say; LiteLLM's map does

    @pytest.mark.parametrize(
        ("provider", "named", "known"),
        [
            ("google_genai", "gemini-2.5-flash", "gemini/gemini-2.5-flash"),
            ("openai", "gpt-4o-mini", "openai/gpt-4o-mini"),
            ("litellm", "openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ],
    )
    def test_langchains_names_become_litellms(
        self, monkeypatch: pytest.MonkeyPatch, provider: str, named: str, known: str
    ) -> None:
        said = {"ls_provider": provider, "ls_model_name": named}
        monkeypatch.setattr(Abroad, "_get_ls_params", lambda self, stop=None, **kwargs: said)
        (candidate,) = ChatMixLLM(candidates=[Abroad()]).router.candidates
        assert (candidate.name, candidate.model) == (known, known)

    def test_an_unknown_price_leads_to_a_candidate_of_ones_own(self) -> None:
        fake = GenericFakeChatModel(messages=iter(["Hello"]))
        with pytest.raises(UnknownPriceError, match=r"input_usd_per_mtok=.*models=\{'mine': model\}"):
            ChatMixLLM(candidates=[fake])
        mine = Candidate(name="mine", model="generic-fake-chat-model", **PRICES)
        assert ChatMixLLM(candidates=[mine], models={"mine": fake}).invoke("Hello?").text == "Hello"

    def test_models_are_for_candidates(self, router: Router, abroad: Abroad) -> None:
        with pytest.raises(ValidationError, match="models= names 'chep', but the pool has 'cheap', 'dear'"):
            ChatMixLLM(router=router, models={"chep": abroad})

    def test_a_candidate_may_leave_the_pool(self, llm: ChatMixLLM) -> None:
        configurable = llm.configurable_fields(max_tokens=ConfigurableField(id="length"))
        llm.router.remove_candidate("cheap")
        assert configurable.invoke("Hello?", {"configurable": {"length": 9}}).text == "Hello from dear to you"

    def test_no_litellm_where_nobody_needs_it(self, abroad: Abroad, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("langchain_mixllm._delegates.delegate_class", pytest.fail)
        llm = ChatMixLLM(router=Router([replace(tiny_pool()[0])], encoder=HashingEncoder()), models={"cheap": abroad})
        assert llm.invoke("Hello?").text == "From abroad"


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


class TestTogether:
    """Histories and fallbacks cross from one kind of model to the other."""

    async def test_its_failures_lead_to_the_next(self, ask: Ask, router: Router) -> None:
        busy = type("RateLimitError", (Exception,), {"status_code": 429})("busy")
        llm = ChatMixLLM(router=router, models={"cheap": Abroad(failure=busy)}, budget="very_low")
        message = await ask(llm, "Hello?")

        assert message.text == "Hello from dear to you"
        outcomes = llm.router.explain(message.response_metadata["mixllm"]["decision_id"]).outcomes
        assert [(outcome.candidate, outcome.error) for outcome in outcomes] == [("cheap", "rate_limit"), ("dear", None)]

    async def test_it_answers_after_others_failed(
        self, ask: Ask, router: Router, abroad: Abroad, server: ScriptedServer
    ) -> None:
        server.script("cheap", Failure(status=500))
        llm = ChatMixLLM(router=router, models={"dear": abroad}, budget="very_low")
        assert (await ask(llm, "Hello?")).text.strip() == "From abroad"

    def test_its_bugs_are_raised(self, router: Router) -> None:
        llm = ChatMixLLM(router=router, models={"cheap": Abroad(failure=KeyError("oops"))}, budget="very_low")
        with pytest.raises(KeyError, match="oops"):
            llm.invoke("Hello?")

    def test_its_answers_can_be_continued_by_others(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        foreign = llm.invoke("Hello?", force="cheap")
        foreign.response_metadata["model_provider"] = "anthropic"
        asked = AIMessage(
            [{"type": "thinking", "thinking": "Hm", "signature": "x"}, {"type": "text", "text": "I shall add"}],
            tool_calls=[{"name": "add", "args": {"a": 1}, "id": "t1"}],
            response_metadata={"model_provider": "anthropic"},
        )
        history = [HumanMessage("Hello?"), foreign, HumanMessage("1 + 2?"), asked, ToolMessage("3", tool_call_id="t1")]
        assert llm.bind_tools([add]).invoke(history, force="dear").text == "Hello from dear to you"

        sent: Any = server.requests[-1].body["messages"]
        assert (sent[1]["content"], sent[3]["content"]) == ("From abroad", "I shall add")
        assert sent[3]["tool_calls"][0]["function"]["name"] == "add"

    async def test_leaving_its_stream_closes_it(self, llm: ChatMixLLM, abroad: Abroad) -> None:
        for chunk in llm.stream("Hello?"):
            if chunk.text:
                break
        assert abroad._closed.wait(1.0)
        abroad._closed.clear()
        async for chunk in llm.astream("Hello?"):
            if chunk.text:
                break
        assert await asyncio.to_thread(abroad._closed.wait, 1.0)


class TestCopies:
    def test_copies_share_the_model(self, llm: ChatMixLLM, abroad: Abroad) -> None:
        for again in (copy.deepcopy(llm), copy.copy(llm), llm.model_copy(update={"temperature": 0.1})):
            assert again.invoke("Hello?").text == "From abroad"
        assert len(abroad._seen) == 3

    def test_a_copy_of_one_with_candidates(self, abroad: Abroad) -> None:
        llm = ChatMixLLM(candidates=[abroad])
        assert copy.deepcopy(llm).invoke("Hello?").text == "From abroad"
        assert len(abroad._seen) == 1

    def test_models_are_not_pickled(self, abroad: Abroad) -> None:
        with pytest.raises(TypeError, match="chat models may hold keys"):
            pickle.dumps(ChatMixLLM(candidates=[abroad]))
        described = Candidate(name="mine", model="x", **PRICES)
        with pytest.raises(TypeError, match="chat models may hold keys"):
            pickle.dumps(ChatMixLLM(candidates=[described], models={"mine": abroad}))

    def test_cached_answers_belong_to_their_models(self, router: Router) -> None:
        one, other = (ChatMixLLM(router=router, models={"cheap": Abroad(token=key)}) for key in ("a", "b"))  # type: ignore[arg-type]
        third = ChatMixLLM(router=router)
        assert len({one._get_llm_string(), third._get_llm_string()}) == 2
        assert one._get_llm_string() == other._get_llm_string()  # the key is no part of what is asked

    def test_its_key_is_not_shown(self, llm: ChatMixLLM) -> None:
        shown = repr([llm, llm.asdict(), llm.model_dump(), llm._serialized, llm._get_llm_string()])
        assert "hunter2" not in shown
        assert "Abroad" not in shown


async def test_chat_models_of_our_own_can_be_nested(ask: Ask, router: Router, server: ScriptedServer) -> None:
    inner = ChatMixLLM(router=router, force="dear")
    outer_router = Router([Candidate(name="team", model="mixllm/team", **PRICES)], encoder=HashingEncoder())
    outer = ChatMixLLM(router=outer_router, models={"team": inner})
    with get_usage_metadata_callback() as counted:
        config: RunnableConfig = {"configurable": {"thread_id": "t"}}
        message = await ask(outer, "Hello?", config=config)

    assert message.text == "Hello from dear to you"
    assert message.response_metadata["mixllm"]["candidate"] == "team"
    assert counted.usage_metadata == {"mixllm/team": message.usage_metadata}
    assert server.count("dear") == 1
    assert (router.stats()["outcomes"], outer_router.stats()["outcomes"]) == (1, 1)


def test_one_key_is_not_for_chat_models(router: Router, abroad: Abroad, server: ScriptedServer) -> None:
    server.script("dear", Reply(text="Hello"))
    elsewhere = replace(tiny_pool()[0], api_base="http://127.0.0.1:9/v1")
    mixed = Router([elsewhere, router.candidates[1]], encoder=HashingEncoder())
    llm = ChatMixLLM(router=mixed, models={"cheap": abroad}, api_key="sk-common")  # type: ignore[arg-type]
    llm.invoke("Hello?", force="dear")
    assert server.requests[-1].api_key == "sk-common"
