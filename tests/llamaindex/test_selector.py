"""The selector: which tool, by which decision, credited how."""

import asyncio
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_selector import BaseSelector
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.retrievers import RouterRetriever
from llama_index.core.schema import TextNode
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata

from llamaindex_mixllm import MixLLM, MixLLMSelector, MixLLMSelectorResult, track_decisions
from mixllm_engine import (
    AllCandidatesFailedError,
    ConfigError,
    QueryError,
    Router,
    RouterConfig,
    UnknownCandidateError,
    UnknownDecisionError,
)
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.encoding.general_prompts import tagged_prompts
from mixllm_engine.testing import Failure, Reply, ScriptedServer, tiny_pool, tiny_router

from .test_llm import told

ARMS = {"quick": "cheap", "careful": "dear"}
QUICK = ToolMetadata("Answers at once.", name="quick")
CAREFUL = ToolMetadata("Thinks it over.", name="careful")
QUESTION = "What does clause four of the lease say about repairs?"


@pytest.fixture
def selector(router: Router) -> MixLLMSelector:
    return MixLLMSelector(router=router, arms=ARMS)


def engine(selector: MixLLMSelector, streaming: bool = False) -> RouterQueryEngine:
    nodes = [TextNode(text="Clause four: the landlord repairs the roof.")]
    index = VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=8))
    tools = [
        QueryEngineTool.from_defaults(
            index.as_query_engine(llm=selector.llm(name), streaming=streaming), name=name, description=name
        )
        for name in ARMS
    ]
    return RouterQueryEngine(selector=selector, query_engine_tools=tools, llm=MixLLM(router=selector.router))


# -- selecting -------------------------------------------------------------------------------------------------------


def test_it_is_a_selector_without_prompts(selector: MixLLMSelector) -> None:
    assert isinstance(selector, BaseSelector)
    assert selector.get_prompts() == {}
    selector.update_prompts({})


async def test_the_result_names_the_decision(selector: MixLLMSelector) -> None:
    for result in (selector.select([CAREFUL, QUICK], QUESTION), await selector.aselect([CAREFUL, QUICK], QUESTION)):
        assert isinstance(result, MixLLMSelectorResult)
        assert (result.ind, result.candidate, result.reason) == (1, "cheap", "candidate 'cheap' by score")
        assert selector.router.explain(result.decision_id).decision.candidate == "cheap"


def test_choices_may_come_in_any_order_and_number(selector: MixLLMSelector) -> None:
    assert selector.select([QUICK, CAREFUL], QUESTION).ind == 0
    assert selector.select([CAREFUL, QUICK], QUESTION).ind == 1
    assert selector.select([CAREFUL], QUESTION).ind == 0


def test_without_arms_tools_are_named_as_candidates(router: Router) -> None:
    selector = MixLLMSelector(router=router)
    assert selector.select([ToolMetadata("", name="dear"), ToolMetadata("", name="cheap")], QUESTION).ind == 1


def test_only_candidates_with_a_tool_are_chosen(server: ScriptedServer) -> None:
    with tiny_router(names=("cheap", "dear", "other")) as router:
        selector = MixLLMSelector(router=router, arms={"careful": "dear", "odd": "other"})
        chosen = {selector.select([CAREFUL, ToolMetadata("", name="odd")], f"{QUESTION} {n}").ind for n in range(30)}
    assert chosen == {0, 1}  # both are tried, and the cheapest of all never is


def test_names_with_wildcards_in_them_are_names() -> None:
    with tiny_router(names=("a[1]", "a1", "*")) as router:
        selector = MixLLMSelector(router=router, arms={"quick": "a[1]", "careful": "*"})
        results = [selector.select([QUICK, CAREFUL], f"{QUESTION} {n}") for n in range(30)]
    assert {router.explain(result.decision_id).decision.candidate for result in results} == {"a[1]", "*"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("terms", "index"), [({"budget": "very_high"}, 1), ({"willingness_to_pay": 100.0}, 1), ({"budget": "low"}, 0)]
)
def test_terms(router: Router, terms: dict[str, Any], index: int) -> None:
    assert MixLLMSelector(router=router, arms=ARMS, **terms).select([QUICK, CAREFUL], QUESTION).ind == index


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([ToolMetadata("a", name="query_engine_tool"), ToolMetadata("b", name="query_engine_tool")], "several tools"),
        (["a plain text"], "choice 0 has no name"),
        ([QUICK, ToolMetadata("b", name="strange")], "'strange' is not among the arms 'quick', 'careful'"),
    ],
)
def test_tools_that_cannot_be_told_apart_are_errors_that_say_how_to_name_them(
    selector: MixLLMSelector, choices: list[Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{message}.*QueryEngineTool\.from_defaults\(engine, name="):
        selector.select(choices, QUESTION)
    assert selector.router.stats()["decisions"] == 0


def test_default_tool_names_are_an_error_in_an_engine(router: Router) -> None:
    index = VectorStoreIndex([TextNode(text="x")], embed_model=MockEmbedding(embed_dim=8))
    tools = [QueryEngineTool.from_defaults(index.as_query_engine(llm=MixLLM(router=router))) for _ in range(2)]
    selector = MixLLMSelector(router=router, arms=ARMS)
    routing = RouterQueryEngine(selector=selector, query_engine_tools=tools, llm=MixLLM(router=router))
    with pytest.raises(ConfigError, match="several tools are named 'query_engine_tool'"):
        routing.query(QUESTION)


def test_arms_are_checked_at_once(router: Router) -> None:
    with pytest.raises(UnknownCandidateError, match="'quick' names the candidate 'nobody'"):
        MixLLMSelector(router=router, arms={"quick": "nobody"})
    with pytest.raises(ConfigError, match="a candidate of its own"):
        MixLLMSelector(router=router, arms={"quick": "cheap", "careful": "cheap"})


def test_an_unknown_tool_has_no_llm(selector: MixLLMSelector) -> None:
    with pytest.raises(ConfigError, match="'strange' is not among the arms"):
        selector.llm("strange")


def test_an_empty_query_is_an_error(selector: MixLLMSelector) -> None:
    with pytest.raises(QueryError, match="empty"):
        selector.select([QUICK, CAREFUL], " ")


# -- in a query engine -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_decision_reaches_the_response(
    selector: MixLLMSelector, server: ScriptedServer, streaming: bool
) -> None:
    routing = engine(selector, streaming)
    with track_decisions() as tracked:
        responses = [routing.query(QUESTION), await routing.aquery(QUESTION)]
    texts = []
    for response in responses:
        if isinstance(response, StreamingResponse):
            texts.append("".join(response.response_gen))
        elif isinstance(response, AsyncStreamingResponse):
            texts.append("".join([token async for token in response.response_gen]))
        else:
            texts.append(str(response))
    assert texts == ["Good day to you"] * 2
    assert [selector.feedback(response, 1.0).decision_id for response in responses] == tracked.decision_ids
    assert len(server.requests) == 2


async def test_one_query_is_one_decision_with_its_outcomes_and_one_label(
    selector: MixLLMSelector, server: ScriptedServer
) -> None:
    routing = engine(selector)
    for response in (routing.query(QUESTION), await routing.aquery(QUESTION)):
        receipt = selector.feedback(response, 1.0)
        (outcome,) = selector.router.explain(receipt.decision_id).outcomes
        assert (outcome.candidate, outcome.prompt_tokens, outcome.response_tokens) == ("cheap", 11, 4)
        assert outcome.cost_usd is not None and outcome.cost_usd > 0
    stats = selector.router.stats()
    assert (stats["decisions"], stats["outcomes"], stats["feedback_applied"]) == (2, 2, 2)
    assert stats["candidates"]["cheap"]["labels"] == 2


async def test_parallel_queries_do_not_mix_their_decisions(server: ScriptedServer) -> None:
    server.script("cheap", Reply(text="Good day", token_delay_s=0.02))
    config = RouterConfig(exploration=ExplorationConfig(rate=0.5))
    with tiny_router(api_base=server.base_url, config=config) as router:
        routing = engine(MixLLMSelector(router=router, arms=ARMS))
        responses = await asyncio.gather(*(routing.aquery(f"{QUESTION} {n}") for n in range(12)))
        seen = set()
        for response in responses:
            assert response.metadata is not None
            result = response.metadata["selector_result"]
            (outcome,) = router.explain(result.decision_id).outcomes
            assert outcome.candidate == result.candidate
            seen.add(result.candidate)
        assert router.stats()["decisions"] == 12
    assert seen == {"cheap", "dear"}


def test_a_tools_candidate_is_not_replaced(selector: MixLLMSelector, server: ScriptedServer) -> None:
    server.script("cheap", Failure(status=500))
    routing = engine(selector)
    with pytest.raises(AllCandidatesFailedError, match="all 1 candidates failed"):
        routing.query(QUESTION)
    assert server.count("dear") == 0
    assert routing.query(QUESTION).metadata["selector_result"].candidate == "dear"  # type: ignore[index]


def test_outside_of_a_selection_an_arms_llm_is_a_forced_one(selector: MixLLMSelector, server: ScriptedServer) -> None:
    quick, careful = selector.llm("quick"), selector.llm("careful", temperature=0.1)
    assert (careful.temperature, careful.metadata.context_window) == (0.1, 16384)
    said = careful.complete("Hello?")
    assert selector.router.explain(told(said)["decision_id"]).decision.reason == "forced"
    result = selector.select([QUICK], QUESTION)
    assert isinstance(result, MixLLMSelectorResult)
    assert told(quick.complete("Hello?"))["decision_id"] == result.decision_id
    assert told(careful.complete("Hello?"))["decision_id"] != result.decision_id
    other = MixLLMSelector(router=selector.router, arms=ARMS)
    assert told(other.llm("quick").complete("Hello?"))["decision_id"] != result.decision_id


def test_a_router_retriever_loses_the_result_and_the_block_keeps_it(selector: MixLLMSelector) -> None:
    index = VectorStoreIndex([TextNode(text="Clause four.")], embed_model=MockEmbedding(embed_dim=8))
    tools = [RetrieverTool.from_defaults(index.as_retriever(), name=name, description=name) for name in ARMS]
    retriever = RouterRetriever(selector=selector, retriever_tools=tools, llm=MixLLM(router=selector.router))
    with track_decisions() as tracked:
        assert retriever.retrieve(QUESTION)[0].text == "Clause four."
    (decision_id,) = tracked.decision_ids
    assert selector.feedback(decision_id, 1.0).status == "applied"


# -- learning --------------------------------------------------------------------------------------------------------

# Sixty prompts of people, one of each kind, as the packaged encoder was trained on.
PROMPTS = dict(zip(reversed(tagged_prompts().tags), reversed(tagged_prompts().texts), strict=True))
QUERIES = list(PROMPTS.values())[::2][:60]


@pytest.mark.parametrize("better", ["quick", "careful"])
def test_feedback_brings_the_queries_to_the_better_tool(server: ScriptedServer, better: str) -> None:
    with Router(tiny_pool(server.base_url), seed=0) as router:
        selector = MixLLMSelector(router=router, arms=ARMS)
        routing = engine(selector)
        chosen = []
        for query in QUERIES:
            response = routing.query(query)
            assert response.metadata is not None
            chosen.append(list(ARMS)[response.metadata["selector_result"].ind])
            selector.feedback(response, 1.0 if chosen[-1] == better else 0.2)
    assert len(QUERIES) == 60
    assert chosen[-20:].count(better) >= 17, chosen


def test_several_tools_answer_and_share_the_feedback(router: Router, server: ScriptedServer) -> None:
    selector = MixLLMSelector(router=router, arms=ARMS, most=2)
    with track_decisions() as tracked:
        response = engine(selector).query(QUESTION)
    assert response.metadata is not None
    result = response.metadata["selector_result"]
    assert [selection.index for selection in result.selections] == [0, 1]
    assert result.decision_ids == tracked.decision_ids[:2]
    assert {request.model for request in server.requests[:2]} == {"cheap", "dear"}
    assert len(server.requests) == len(tracked.decisions) == 3  # the last one joins what both said
    assert selector.feedback(response, 0.75).status == "applied"
    stats = router.stats()
    assert {name: of["labels"] for name, of in stats["candidates"].items()} == {"cheap": 1, "dear": 1}
    assert [len(router.explain(decision_id).outcomes) for decision_id in result.decision_ids] == [1, 1]


def test_fewer_tools_than_asked_for_are_all_of_them(selector: MixLLMSelector, router: Router) -> None:
    many = MixLLMSelector(router=router, arms=ARMS, most=5)
    assert len(many.select([QUICK, CAREFUL], QUESTION).selections) == 2
    with pytest.raises(ConfigError, match="most=0 must be at least 1"):
        MixLLMSelector(router=router, arms=ARMS, most=0)


def test_feedback_is_idempotent_and_strangers_are_errors(selector: MixLLMSelector) -> None:
    result = selector.select([QUICK, CAREFUL], QUESTION)
    assert [selector.feedback(result, score).status for score in (1.0, 1.0, 0.0)] == [
        "applied",
        "duplicate",
        "replaced",
    ]
    with pytest.raises(UnknownDecisionError, match="no decision"):
        selector.feedback("nothing", 1.0)
