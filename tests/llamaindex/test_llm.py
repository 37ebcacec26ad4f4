"""The eight ways to ask, what they return, and what they report."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, MessageRole, ThinkingBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import PromptTemplate
from pydantic import ValidationError

from llamaindex_mixllm import MixLLM
from mixllm_engine import Candidate, ConfigError, NoEligibleCandidateError, Router, UnknownCandidateError
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, tiny_router

from .conftest import RecordedEvents

HELLO = [ChatMessage(role="user", content="Hello, how are you?")]
WAYS = ["chat", "achat", "stream_chat", "astream_chat", "complete", "acomplete", "stream_complete", "astream_complete"]
STREAMS = [way for way in WAYS if "stream" in way]

Responses = list[Any]


async def collected(stream: AsyncIterator[Any]) -> Responses:
    return [item async for item in stream]


async def asked(llm: MixLLM, way: str, **kwargs: Any) -> Responses:
    """Ask in one of the eight ways; returns all responses, of which there is one if it is no stream."""
    result = getattr(llm, way)("Hello, how are you?" if "complete" in way else HELLO, **kwargs)
    if way.startswith("a"):
        result = await result
    if "astream" in way:
        return await collected(result)
    return list(result) if "stream" in way else [result]


def told(response: ChatResponse | CompletionResponse) -> dict[str, Any]:
    """Return what a response says of its decision."""
    assert type(response.raw) is dict
    mixllm: dict[str, Any] = response.raw["mixllm"]
    return mixllm


def text_of(response: ChatResponse | CompletionResponse) -> str:
    return (response.message.content or "") if isinstance(response, ChatResponse) else response.text


# -- what it is ------------------------------------------------------------------------------------------------------


def test_it_is_a_function_calling_llm(llm: MixLLM) -> None:
    assert isinstance(llm, FunctionCallingLLM)
    assert BaseLLM in type(llm).__mro__
    assert MixLLM.class_name() == "MixLLM"


def test_all_eight_ways_are_its_own() -> None:
    assert set(WAYS) <= set(vars(MixLLM))


def test_it_makes_a_router_of_candidates(server: ScriptedServer, tmp_path: Any) -> None:
    own = Candidate(
        name="own", model="openai/cheap", api_base=server.base_url, input_usd_per_mtok=1, output_usd_per_mtok=2
    )
    llm = MixLLM(candidates=[own], store=tmp_path / "own.db")
    assert told(llm.complete("Hello?"))["candidate"] == "own"
    assert (tmp_path / "own.db").exists()
    llm.router.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give router="),
        ({"router": tiny_router(), "candidates": ["gpt-4o"]}, "give router="),
        ({"router": tiny_router(), "store": "x.db"}, "has a store already"),
    ],
)
def test_it_needs_a_router_or_candidates(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixLLM(**arguments)


@pytest.mark.parametrize("wrong", [{"budgt": "low"}, {"budget": "lots"}, {"max_tokens": 0}, {"context_window": "huge"}])
def test_wrong_fields_are_refused(router: Router, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        MixLLM(router=router, **wrong)


# -- metadata --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({}, 4096),
        ({"context_window": "largest"}, 16384),
        ({"context_window": 1000}, 1000),
        ({"allow": ["d*"]}, 16384),
        ({"deny": ["cheap"]}, 16384),
        ({"force": "dear"}, 16384),
    ],
)
def test_metadata_tells_the_window_of_those_that_may_answer(fields: dict[str, Any], window: int) -> None:
    metadata = MixLLM(router=tiny_router(), **fields).metadata
    assert metadata.context_window == window
    assert metadata.is_chat_model


def test_metadata_is_static_and_asks_nobody(server: ScriptedServer, llm: MixLLM) -> None:
    before = llm.metadata
    llm.complete("Hello?")
    server.clear()
    assert llm.metadata == before
    assert server.requests == ()


def test_metadata_offers_tools_if_any_candidate_does() -> None:
    def plain(name: str, tools: bool) -> Candidate:
        prices: dict[str, Any] = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}
        return Candidate(name=name, model=f"openai/{name}", supports_tools=tools, **prices)

    def offered(*tools: bool) -> bool:
        pool = [plain(f"c{i}", able) for i, able in enumerate(tools)]
        return MixLLM(router=Router(pool, encoder=HashingEncoder())).metadata.is_function_calling_model

    assert offered(False, True)
    assert not offered(False, False)


def test_metadata_reserves_the_longest_answer(router: Router) -> None:
    assert MixLLM(router=router, max_tokens=77).metadata.num_output == 77


# -- the eight ways --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_answers_and_tells_where_the_answer_is_from(llm: MixLLM, way: str) -> None:
    responses = await asked(llm, way)
    last = responses[-1]
    assert text_of(last) == "Good day to you"
    assert isinstance(last, CompletionResponse if "complete" in way else ChatResponse)
    for response in responses:
        origin = told(response)
        assert set(origin) == {"decision_id", "candidate", "model", "propensity", "explored"}
        assert (origin["candidate"], origin["model"]) == ("cheap", "openai/cheap")
    assert llm.router.explain(told(last)["decision_id"]).decision.candidate == "cheap"


@pytest.mark.parametrize("way", WAYS)
async def test_usage_is_told_once_and_is_the_servers(llm: MixLLM, way: str) -> None:
    responses = await asked(llm, way)
    with_usage = [response for response in responses if response.raw.get("usage")]
    assert with_usage == responses[-1:]
    usage = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
    assert usage.items() <= with_usage[0].raw["usage"].items()
    assert with_usage[0].additional_kwargs == usage


@pytest.mark.parametrize("way", WAYS)
async def test_llamaindex_counts_the_servers_tokens_once(router: Router, way: str) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    await asked(MixLLM(router=router, callback_manager=CallbackManager([counter])), way)
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (11, 4)
    assert len(counter.llm_token_counts) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_one_call_is_one_pair_of_events(llm: MixLLM, recorded: RecordedEvents, way: str) -> None:
    await asked(llm, way)
    kind = "Completion" if "complete" in way else "Chat"
    assert recorded.names("Start") == [f"LLM{kind}StartEvent"]
    assert recorded.names("End") == [f"LLM{kind}EndEvent"]
    assert recorded.names("Exception") == []
    spans = {event.span_id for event in recorded.events if type(event).__name__.startswith("LLM")}
    assert len(spans) == 1
    assert spans.pop().startswith(f"MixLLM.{way}-")


@pytest.mark.parametrize("way", STREAMS)
async def test_streams_are_cumulative_with_deltas(llm: MixLLM, way: str) -> None:
    responses = await asked(llm, way)
    so_far = ""
    for response in responses:
        so_far += response.delta
        assert text_of(response) == so_far
    assert so_far == "Good day to you"
    assert sum(bool(response.delta) for response in responses) == 4  # word by word, not at once


@pytest.mark.parametrize("way", STREAMS)
async def test_chunks_share_nothing(llm: MixLLM, way: str) -> None:
    first, second = (await asked(llm, way))[:2]
    assert first.raw is not second.raw
    assert first.raw["mixllm"] is not second.raw["mixllm"]
    assert first.additional_kwargs is not second.additional_kwargs
    if isinstance(first, ChatResponse):
        assert first.message is not second.message
        assert first.message.blocks is not second.message.blocks


async def test_the_decision_is_no_part_of_the_message(llm: MixLLM) -> None:
    for way in ("chat", "astream_chat"):
        for response in await asked(llm, way):
            assert response.message.additional_kwargs == {}


async def test_thoughts_become_blocks_and_deltas(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", Reply(text="Four.", reasoning="two and two"))
    (whole,) = await asked(llm, "chat")
    chunks = await asked(llm, "stream_chat")
    for response in (whole, chunks[-1]):
        assert response.message.blocks[0] == ThinkingBlock(content="two and two")
        assert response.message.content == "Four."
    assert "".join(chunk.additional_kwargs.get("thinking_delta", "") for chunk in chunks) == "two and two"


async def test_asynchronous_calls_run_side_by_side(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", Reply(text="Good day", delay_s=0.3))
    await llm.achat(HELLO)
    started = asyncio.get_running_loop().time()
    await asyncio.gather(*(asked(llm, way) for way in ("achat", "acomplete", "astream_chat", "astream_complete")))
    assert asyncio.get_running_loop().time() - started < 1.0  # one after the other, it would take 1.2 s


async def test_deciding_does_not_block_the_event_loop(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    loop_thread_seen: list[bool] = []
    router = tiny_router(api_base=server.base_url)
    decide = router.decide

    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            loop_thread_seen.append(False)
        else:
            loop_thread_seen.append(True)
        return decide(*args, **kwargs)

    monkeypatch.setattr(router, "decide", watched)
    for way in ("achat", "acomplete", "astream_chat", "astream_complete"):
        await asked(MixLLM(router=router), way)
    assert loop_thread_seen == [False] * 4


# -- prompts ---------------------------------------------------------------------------------------------------------


def test_completion_prompts_are_wrapped_unless_formatted(server: ScriptedServer, router: Router) -> None:
    llm = MixLLM(router=router, completion_to_prompt=lambda prompt: f"<{prompt}>")
    llm.complete("one")
    llm.complete("two", formatted=True)
    list(llm.stream_complete("three", formatted=True))
    contents = [request.body["messages"] for request in server.requests]
    assert contents == [[{"role": "user", "content": text}] for text in ("<one>", "two", "three")]


def test_predict_and_stream_send_the_system_prompt(server: ScriptedServer, router: Router) -> None:
    llm = MixLLM(router=router, system_prompt="Be brief.")
    prompt = PromptTemplate("Greet {name}.")
    assert llm.predict(prompt, name="Ada") == "Good day to you"
    assert "".join(llm.stream(prompt, name="Ada")) == "Good day to you"
    for request in server.requests:
        assert request.body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Greet Ada."},
        ]


# -- knobs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_may_name_its_terms(llm: MixLLM, way: str) -> None:
    assert told((await asked(llm, way, force="dear"))[-1])["candidate"] == "dear"
    assert told((await asked(llm, way, deny=["cheap"]))[-1])["candidate"] == "dear"


@pytest.mark.parametrize(
    ("fields", "candidate"),
    [
        ({"budget": "very_high"}, "dear"),
        ({"budget": "very_low"}, "cheap"),
        ({"willingness_to_pay": 100.0}, "dear"),
        ({"allow": ["dea?"]}, "dear"),
        ({"deny": ["cheap"]}, "dear"),
        ({"force": "dear"}, "dear"),
    ],
)
def test_fields_are_terms_of_every_call(router: Router, fields: dict[str, Any], candidate: str) -> None:
    assert told(MixLLM(router=router, **fields).chat(HELLO))["candidate"] == candidate


def test_a_call_says_more_than_the_fields(router: Router) -> None:
    llm = MixLLM(router=router, budget="very_low")
    assert told(llm.chat(HELLO, willingness_to_pay=100.0))["candidate"] == "dear"
    assert told(llm.chat(HELLO, budget="very_high"))["candidate"] == "dear"


def test_terms_never_reach_the_model_and_other_arguments_do(server: ScriptedServer, router: Router) -> None:
    llm = MixLLM(router=router, session="s", temperature=0.4, max_tokens=9)
    llm.chat(HELLO, budget="low", max_wait_s=30.0, seed=7)
    llm.chat(HELLO, temperature=1.7, stop=None)
    first, second = (dict(request.body) for request in server.requests)
    common = {"model": "cheap", "messages": [{"role": "user", "content": "Hello, how are you?"}], "max_tokens": 9}
    assert first == {**common, "temperature": 0.4, "seed": 7}
    assert second == {**common, "temperature": 1.7}


def test_a_session_keeps_its_candidate_inside_a_tool_loop(router: Router) -> None:
    llm = MixLLM(router=router, session="s")
    llm.chat(HELLO, budget="very_high")
    loop = [
        *HELLO,
        ChatMessage(role="assistant", additional_kwargs={"tool_calls": [{"id": "1", "function": {"name": "f"}}]}),
        ChatMessage(role="tool", content="done", additional_kwargs={"tool_call_id": "1"}),
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    kept = told(llm.chat(loop, budget="very_low", tools=tools))
    assert kept["candidate"] == "dear"
    assert llm.router.explain(kept["decision_id"]).decision.reason == "tool loop"


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_eligible_is_an_error_of_the_call(server: ScriptedServer, llm: MixLLM, way: str) -> None:
    asking = getattr(llm, way)
    with pytest.raises(NoEligibleCandidateError, match="no candidate may answer"):
        result = asking("Hello?" if "complete" in way else HELLO, deny=["*"])
        if way.startswith("a"):
            await result
    assert server.requests == ()


def test_a_forced_stranger_is_an_error(llm: MixLLM) -> None:
    with pytest.raises(UnknownCandidateError, match="'nobody'"):
        llm.chat(HELLO, force="nobody")


def test_a_long_prompt_goes_to_the_larger_window(router: Router) -> None:
    long = [ChatMessage(role=MessageRole.USER, content="word " * 6000)]
    assert told(MixLLM(router=router).chat(long))["candidate"] == "dear"


def test_reserved_output_counts_towards_the_window(router: Router) -> None:
    assert told(MixLLM(router=router, max_tokens=4096).chat(HELLO))["candidate"] == "dear"
