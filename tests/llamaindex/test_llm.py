"""The eight ways to ask, what they return, and what they report."""

import asyncio
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from pydantic import ValidationError

from llamaindex_mixllm import MixLLM
from mixllm_engine import Candidate, ConfigError, NoEligibleCandidateError, Router, UnknownCandidateError
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, tiny_router

from .contract import HELLO, WAYS, asked, text_of


def told(response: ChatResponse | CompletionResponse) -> dict[str, Any]:
    """Return what a response says of its decision."""
    assert type(response.raw) is dict
    mixllm: dict[str, Any] = response.raw["mixllm"]
    return mixllm


# -- what it is ------------------------------------------------------------------------------------------------------


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


async def test_the_decision_is_no_part_of_the_message(llm: MixLLM) -> None:
    for way in ("chat", "astream_chat"):
        for response in await asked(llm, way):
            assert response.message.additional_kwargs == {}


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


def test_reserved_output_counts_towards_the_window(router: Router) -> None:
    assert told(MixLLM(router=router, max_tokens=4096).chat(HELLO))["candidate"] == "dear"
