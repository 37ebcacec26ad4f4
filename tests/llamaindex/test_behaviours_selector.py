"""Behaviours 27 to 30 of a good LlamaIndex citizen: a selector, what it tells, and what it learns from."""

from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.base_selector import BaseSelector
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.evaluation import BatchEvalRunner, CorrectnessEvaluator, RelevancyEvaluator
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.retrievers import RouterRetriever
from llama_index.core.tools import QueryEngineTool, RetrieverTool, ToolMetadata

from llamaindex_mixllm import EvaluatorFeedback, MixLLM, MixLLMSelector, track_decisions
from mixllm_engine import ConfigError, Router, UnknownDecisionError
from mixllm_engine.testing import Reply, ScriptedServer, tiny_router

from .behaviours import index, labels, pool
from .contract import QUESTION, collected

ARMS = {"quick": "cheap", "careful": "dear"}
QUICK, CAREFUL = (ToolMetadata(f"{name} answers.", name=name) for name in ARMS)


def routing(selector: MixLLMSelector, streaming: bool = False) -> RouterQueryEngine:
    library = index("Clause four: the landlord repairs the roof.")
    choices = [
        QueryEngineTool.from_defaults(
            library.as_query_engine(llm=selector.llm(name), streaming=streaming), name=name, description=name
        )
        for name in ARMS
    ]
    return RouterQueryEngine(selector=selector, query_engine_tools=choices, llm=MixLLM(router=selector.router))


def test_behaviour_27_a_selector_goes_by_the_names_of_tools(router: Router) -> None:
    """Order does not matter; tools without names, with one name or with an unknown one are errors that tell so."""
    selector = MixLLMSelector(router=router, arms=ARMS)
    assert isinstance(selector, BaseSelector)
    assert selector.get_prompts() == {}
    assert selector.select([QUICK, CAREFUL], QUESTION).ind == 0
    assert selector.select([CAREFUL, QUICK], QUESTION).ind == 1
    strange: list[list[Any]] = [["a plain text"], [QUICK, QUICK], [QUICK, ToolMetadata("b", name="strange")]]
    for choices in strange:
        with pytest.raises(ConfigError, match="give each tool a name of its own"):
            selector.select(choices, QUESTION)


async def test_behaviour_28_the_decision_reaches_the_response(router: Router) -> None:
    """In the metadata of responses, blocking or not, streamed or not; a retriever's reaches the collector."""
    selector = MixLLMSelector(router=router, arms=ARMS)
    with track_decisions() as tracked:
        found: list[Any] = []
        for streaming in (False, True):
            engine = routing(selector, streaming)
            found += [engine.query(QUESTION), await engine.aquery(QUESTION)]
            for response in found[-2:]:
                if isinstance(response, StreamingResponse):
                    assert "".join(response.response_gen) == "Good day to you"
                elif isinstance(response, AsyncStreamingResponse):
                    assert "".join(await collected(response.response_gen)) == "Good day to you"
                else:
                    assert isinstance(response, Response)
        assert [selector.feedback(response, 1.0).decision_id for response in found] == tracked.decision_ids
        retrievers = [
            RetrieverTool.from_defaults(index("Clause four.").as_retriever(), name=name, description=name)
            for name in ARMS
        ]
        RouterRetriever(selector=selector, retriever_tools=retrievers, llm=MixLLM(router=router)).retrieve(QUESTION)
    assert len(tracked.decisions) == 5
    assert selector.feedback(tracked.decision_ids[-1], 1.0).status == "applied"


def test_behaviour_29_feedback_changes_later_choices(server: ScriptedServer, tmp_path: Path) -> None:
    """It is learned, once however often it is given, and after a restart too; an unknown decision is an error."""
    path = tmp_path / "mixllm.db"
    with tiny_router(api_base=server.base_url, store=path) as router:
        selector = MixLLMSelector(router=router, arms=ARMS)
        engine = routing(selector)
        chosen = []
        for turn in range(50):
            response: Any = engine.query(f"What does clause {turn} of the lease say about repairs?")
            chosen.append(response.metadata["selector_result"].candidate)
            selector.feedback(response, 1.0 if chosen[-1] == "dear" else 0.1)
        assert chosen[-15:].count("dear") >= 13
        late: Any = engine.query(QUESTION)
        before = labels(router)
    with tiny_router(api_base=server.base_url, store=path) as again:
        selector = MixLLMSelector(router=again, arms=ARMS)
        assert [selector.feedback(late, score).status for score in (1.0, 1.0)] == ["applied", "duplicate"]
        assert labels(again) == before + 1
        with pytest.raises(UnknownDecisionError, match="no decision"):
            selector.feedback("nothing", 1.0)


@pytest.mark.filterwarnings("ignore:asyncio_module:DeprecationWarning")  # in LlamaIndex's BatchEvalRunner
async def test_behaviour_30_evaluations_are_feedback(server: ScriptedServer, router: Router) -> None:
    """Scores come to [0, 1], what is no judgement is skipped, batches go by position, and judges are not tracked."""

    def verdict(request: Any) -> Reply:
        """Judge by what is in the prompt: whose question it is."""
        prompt = str(request.body["messages"])
        return Reply(text="NO" if "clause 1" in prompt else "YES")

    server.script("judge", verdict)
    server.script("marker", [Reply(text="4.0\nfine"), Reply(text="abc\nno number"), Reply(text="one line")])
    judge, marker = (MixLLM(router=pool(server, **{name: {}})) for name in ("judge", "marker"))
    evaluators = {"relevant": RelevancyEvaluator(llm=judge), "correct": CorrectnessEvaluator(llm=marker)}
    feedback = EvaluatorFeedback(router, evaluators)
    selector = MixLLMSelector(router=router, arms=ARMS)
    engine = routing(selector)
    questions = [f"What does clause {turn} say?" for turn in range(3)]
    responses: list[Any] = [engine.query(question) for question in questions]
    with track_decisions() as tracked:
        runner = BatchEvalRunner({"relevant": evaluators["relevant"]}, workers=2)
        results = await runner.aevaluate_responses(questions, responses)
        batch = feedback.apply_batch(responses, results)
        assert len(tracked.decisions) == 3  # the runner's judge is nobody's but its caller's
        single = [
            await feedback.aapply(question, response, reference="The roof.")
            for question, response in zip(questions, responses, strict=True)
        ]
        assert len(tracked.decisions) == 3
    assert [judged.receipts["relevant"].reward for judged in batch] == [1.0, 0.0, 1.0]
    assert [judged.receipts["relevant"].status for judged in single] == ["duplicate"] * 3
    assert [judged.receipts["relevant"].decision_id for judged in single] == [
        response.metadata["selector_result"].decision_id for response in responses
    ]
    assert single[0].receipts["correct"].reward == 0.75
    assert [set(judged.skipped) for judged in single] == [set(), {"correct"}, {"correct"}]
    assert router.stats()["decisions"] == 3
