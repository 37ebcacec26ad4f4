"""What LangChain builds around any chat model works around this one: configuration, caches, limits, forms of output."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.load import dumpd, dumps
from langchain_core.messages import AIMessage, messages_from_dict, messages_to_dict
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Router
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer, ToolCall, tiny_pool
from tests.langchain.conftest import Ask, joined


class Joke(BaseModel):
    """A joke."""

    setup: str


def chosen(message: AIMessage) -> str:
    return str(message.response_metadata["mixllm"]["candidate"])


class TestConfiguration:
    async def test_alternatives(self, ask: Ask, llm: ChatMixLLM) -> None:
        model = llm.configurable_alternatives(
            ConfigurableField(id="llm"),
            default_key="routed",
            best=ChatMixLLM(router=llm.router, force="dear"),
            fake=lambda: GenericFakeChatModel(messages=iter(["Hello from a fake"])),
        )
        assert chosen(await ask(model, "Hello?")) == "cheap"
        assert chosen(await ask(model, "Hello?", config={"configurable": {"llm": "best"}})) == "dear"
        assert (await ask(model, "Hello?", config={"configurable": {"llm": "fake"}})).text == "Hello from a fake"

    async def test_a_budget_per_call(self, ask: Ask, llm: ChatMixLLM, router: Router) -> None:
        for number in range(10):
            router.feedback(router.decide(f"Q {number}", force="cheap"), 0.2)
            router.feedback(router.decide(f"Q {number}", force="dear"), 1.0)
        model = llm.configurable_fields(budget=ConfigurableField(id="budget"))
        assert chosen(await ask(model, "Q 11")) == "cheap"
        assert chosen(await ask(model, "Q 11", config={"configurable": {"budget": "very_high"}})) == "dear"
        assert chosen(await ask(model.with_config(configurable={"budget": "very_high"}), "Q 11")) == "dear"

    async def test_terms_in_the_config(self, ask: Ask, llm: ChatMixLLM) -> None:
        tool = {"name": "look", "description": "", "parameters": {}}
        prompt = ChatPromptTemplate.from_template("{question}")
        config: Any = {"configurable": {"force": "dear"}}
        assert chosen(await ask(llm, "Hello?", config=config)) == "dear"
        assert chosen(await ask(llm.bind_tools([tool]), "Hello?", config=config)) == "dear"
        assert chosen(await ask(prompt | llm, {"question": "Hello?"}, config=config)) == "dear"
        assert chosen(await ask(llm, "Hello?", config=config, force="cheap")) == "cheap"

    def test_terms_in_the_config_are_part_of_what_is_cached(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        cached = llm.model_copy(update={"cache": InMemoryCache()})
        chain = ChatPromptTemplate.from_template("{question}") | cached
        answers = [
            chosen(chain.invoke({"question": "Hello?"}, {"configurable": {"force": name}}))
            for name in ("cheap", "dear", "cheap")
        ]
        assert answers == ["cheap", "dear", "cheap"]
        assert (server.count("cheap"), server.count("dear")) == (1, 1)

    async def test_names_tags_and_metadata_reach_the_run(self, ask: Ask, llm: ChatMixLLM) -> None:
        collector = Collector()
        named = llm.with_config(run_name="mine", tags=["a"], metadata={"k": 1}, callbacks=[collector])
        await ask(named, "Hello?")
        (started,) = [told for told in collector.told if "invocation_params" in told]
        assert (started["name"], started["tags"], started["metadata"]["k"]) == ("mine", ["a"], 1)

    async def test_batches(self, llm: ChatMixLLM) -> None:
        assert [message.text for message in llm.batch(["a", "b"])] == ["Hello from cheap to you"] * 2
        assert [chosen(message) for message in await llm.abatch(["a", "b"], force="dear")] == ["dear", "dear"]
        with pytest.raises(LookupError, match="every candidate|no candidate"):
            llm.batch(["a"], deny=["*"])
        (error,) = llm.batch(["a"], deny=["*"], return_exceptions=True)
        assert isinstance(error, LookupError)


class TestFormsOfOutput:
    async def test_content_blocks(self, ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
        call = ToolCall(name="look", arguments={"city": "Rome"}, id="t1")
        server.script("cheap", Reply(reasoning="Let me look", text="Looking", tool_calls=[call]))
        v1 = ChatMixLLM(router=llm.router, budget="very_low", output_version="v1")
        tool = {"name": "look", "description": "", "parameters": {}}
        message = await ask(v1.bind_tools([tool]), "Weather?")

        assert isinstance(message.content, list)
        kinds = [block["type"] for block in message.content if isinstance(block, dict)]
        assert [kind for kind in kinds if kind not in ("tool_call_chunk",)][:2] == ["reasoning", "text"]
        assert [made["args"] for made in message.tool_calls] == [{"city": "Rome"}]
        assert chosen(message) == "cheap"
        assert message.usage_metadata is not None

    async def test_events(self, llm: ChatMixLLM) -> None:
        events = [event async for event in llm.astream_events("Hello?", version="v2")]
        (end,) = [event for event in events if event["event"] == "on_chat_model_end"]
        assert chosen(end["data"]["output"]) == "cheap"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # version three is beta
            stream = await llm.astream_events("Hello?", version="v3")
            message = await stream.output
        assert (message.text, chosen(message)) == ("Hello from cheap to you", "cheap")
        assert message.usage_metadata is not None
        assert message.usage_metadata["total_tokens"] == 16

    async def test_a_chain(self, ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
        server.script("cheap", Reply(text='{"answer": 3}'))
        chain = ChatPromptTemplate.from_template("{a} + {b}?") | llm | JsonOutputParser()
        assert chain.invoke({"a": 1, "b": 2}) == await chain.ainvoke({"a": 1, "b": 2}) == {"answer": 3}
        assert [part async for part in chain.astream({"a": 1, "b": 2})][-1] == {"answer": 3}

    async def test_messages_survive_being_stored(self, ask: Ask, llm: ChatMixLLM) -> None:
        message = await ask(llm, "Hello?")
        stored = json.loads(json.dumps(messages_to_dict([message])))
        (again,) = messages_from_dict(stored)
        assert again.response_metadata["mixllm"] == message.response_metadata["mixllm"]
        assert llm.feedback(again, 1.0).status == "applied"


class TestLimits:
    async def test_the_rate_limiter_holds(self, ask: Ask, llm: ChatMixLLM) -> None:
        limiter = InMemoryRateLimiter(requests_per_second=5.0, check_every_n_seconds=0.01, max_bucket_size=1.0)
        limited = ChatMixLLM(router=llm.router, budget="very_low", rate_limiter=limiter)
        started, latencies = time.monotonic(), []
        for _ in range(2):
            message = await ask(limited, "Hello?")
            (outcome,) = llm.router.explain(message.response_metadata["mixllm"]["decision_id"]).outcomes
            latencies.append(outcome.latency_s or 0.0)
        # Our own wait is no candidate's latency.
        assert min(latencies) > 0.0 and time.monotonic() - started - sum(latencies) > 0.15

    @pytest.mark.parametrize(("disabled", "streams"), [(True, False), ("tool_calling", True), (False, True)])
    def test_streaming_can_be_disabled(
        self, llm: ChatMixLLM, server: ScriptedServer, disabled: Any, streams: bool
    ) -> None:
        chunks = list(llm.model_copy(update={"disable_streaming": disabled}).stream("Hello?"))
        assert (len(chunks) > 1) is streams
        assert server.requests[-1].stream is streams

    def test_no_streaming_with_tools(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        tool = {"name": "look", "description": "", "parameters": {}}
        list(llm.model_copy(update={"disable_streaming": "tool_calling"}).bind_tools([tool]).stream("Hello?"))
        assert not server.requests[-1].stream

    def test_a_model_that_shall_not_stream(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        list(ChatMixLLM(router=llm.router, streaming=False).stream("Hello?"))
        assert not server.requests[-1].stream


class Collector(BaseCallbackHandler):
    """Keeps everything that any tracer may be told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        told = self.told

        def keep(*args: Any, **kwargs: Any) -> None:
            told.append({"event": name, "args": args, **kwargs})

        return keep


class TestSecrets:
    """Keys, addresses and parameters of candidates, which may hold passwords, are told to nobody."""

    @pytest.fixture
    def pool(self, server: ScriptedServer) -> list[Any]:
        hidden = {"extra_headers": {"X-Token": "hunter2"}}
        return [replace(one, api_key="hunter2", params=hidden) for one in tiny_pool(api_base=server.base_url)]

    @pytest.fixture(params=["router", "candidates"])
    def secretive(self, pool: list[Any], request: pytest.FixtureRequest) -> ChatMixLLM:
        if request.param == "candidates":
            return ChatMixLLM(candidates=pool, api_key="hunter2")  # type: ignore[arg-type]
        return ChatMixLLM(router=Router(pool, encoder=HashingEncoder()), api_key="hunter2")  # type: ignore[arg-type]

    async def test_nothing_is_told(self, ask: Ask, secretive: ChatMixLLM, server: ScriptedServer) -> None:
        collector = Collector()
        config: Any = {"callbacks": [collector]}
        prompt = ChatPromptTemplate.from_template("{question}")
        message = await ask(prompt | secretive, {"question": "Hello?"}, config=config)
        for name in ("cheap", "dear"):
            server.script(name, Failure(status=401, message="wrong key"))
        with pytest.raises(RuntimeError) as caught:
            await ask(secretive, "Hello?", config=config)

        kinds = {told["event"] for told in collector.told}
        assert kinds >= {"on_chat_model_start", "on_llm_end", "on_llm_error", "on_chain_start"}
        structured = secretive.with_structured_output(Joke)
        shown = [
            repr(secretive),
            str(secretive),
            dumps(secretive),
            dumpd(secretive),
            dumps(prompt | secretive),
            repr(structured),
            repr(secretive.with_config(tags=["x"])),
            secretive.asdict(),
            secretive.model_dump(),
            secretive.model_dump_json(),
            secretive._get_llm_string(),
            secretive.get_input_jsonschema(),
            secretive.get_graph().to_json(),
            repr(collector.told),
            dumps(message),
            repr(message),
            repr(caught.value),
        ]
        for text in map(repr, shown):
            assert "hunter2" not in text
            assert server.base_url not in text

    def test_what_is_wrong_is_said_without_them(self, pool: list[Any], router: Router) -> None:
        with pytest.raises(ValueError, match="give either them or router=") as caught:
            ChatMixLLM(candidates=pool, router=router, api_key="hunter2")  # type: ignore[arg-type]
        assert "hunter2" not in str(caught.value)


def test_the_key_of_the_environment(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXLLM_API_KEY", "sk-common")
    ChatMixLLM(router=Router(tiny_pool(server.base_url), encoder=HashingEncoder())).invoke("Hello?")
    assert server.requests[-1].api_key == "sk-common"


async def test_what_one_chunk_brings_can_be_joined(llm: ChatMixLLM) -> None:
    assert joined(list(llm.stream("Hello?"))).text == joined([c async for c in llm.astream("Hello?")]).text
