"""Evaluators teach the router: normalised, weighed, the invalid skipped, the judge's own calls kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.base.response.schema import Response
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.evaluation import (
    BatchEvalRunner,
    CorrectnessEvaluator,
    EvaluationResult,
    FaithfulnessEvaluator,
    GuidelineEvaluator,
    RelevancyEvaluator,
    SemanticSimilarityEvaluator,
)
from llama_index.core.evaluation.base import BaseEvaluator
from llama_index.core.llms.mock import MockLLM
from llama_index.core.schema import NodeWithScore, TextNode

from llamaindex_mixllm import EvaluatorFeedback, MixLLM, MixLLMSelector, track_decisions
from mixllm_engine import ConfigError, FeedbackError, Router
from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
from tests import litellm_clients

from .test_selector import ARMS, engine

QUESTION = "What does clause four of the lease say about repairs?"


class Judge(BaseEvaluator):
    """Says what it is told to."""

    def __init__(self, *says: EvaluationResult | Exception) -> None:
        self.says = list(says)

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        pass

    async def aevaluate(
        self,
        query: str | None = None,
        response: str | None = None,
        contexts: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        said = self.says.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


def says(text: str) -> MockLLM:
    """Return a judge's LLM that always answers the same."""

    class Says(MockLLM):
        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
            return CompletionResponse(text=text)

        def chat(self, messages: Any, **kwargs: Any) -> Any:
            return ChatResponse(message=ChatMessage(role="assistant", content=text))

    return Says(max_tokens=None)


def keys(router: Router) -> dict[str, float]:
    """Return the labels that the log holds: what stands after each change."""
    return {row.decision_id: row.after.value for row in router._store.feedback_after(0, 1000)}


@pytest.mark.parametrize(
    ("judge", "score"),
    [
        (FaithfulnessEvaluator(llm=says("YES")), 1.0),
        (FaithfulnessEvaluator(llm=says("NO")), 0.0),
        (RelevancyEvaluator(llm=says("YES")), 1.0),
        (CorrectnessEvaluator(llm=says("4.0\nrather good")), 0.75),
        (CorrectnessEvaluator(llm=says("1\nwrong")), 0.0),
        (GuidelineEvaluator(llm=says('{"passing": true, "feedback": "fine"}')), 1.0),
        (SemanticSimilarityEvaluator(embed_model=MockEmbedding(embed_dim=4)), 1.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseEvaluator) else str(value),
)
async def test_each_evaluator_is_brought_to_the_scale_of_rewards(
    router: Router, judge: BaseEvaluator, score: float
) -> None:
    decision = router.decide(QUESTION)
    feedback = EvaluatorFeedback(router, {"judge": judge}, weights={"judge": 0.5})
    answer = Response(response="The landlord repairs.", source_nodes=[])
    answer.source_nodes = [node_with_score("Clause four: the landlord repairs the roof.")]
    judged = await feedback.aapply(QUESTION, answer, ref=decision, reference="The landlord.")
    assert judged.skipped == {}
    receipt = judged.receipts["judge"]
    assert (receipt.reward, receipt.key, receipt.decision_id) == (score, "evaluator:judge", decision.decision_id)
    (row,) = router._store.feedback_after(0, 10)
    assert row.after == pytest.approx((score, 0.5))


def node_with_score(text: str) -> Any:
    return NodeWithScore(node=TextNode(text=text), score=1.0)


async def test_what_is_invalid_or_fails_is_skipped_and_never_counted_as_bad(router: Router) -> None:
    nothing = CorrectnessEvaluator(llm=says("abc\nno number"))
    one_line = CorrectnessEvaluator(llm=says("a line"))
    judges = {
        "nothing": nothing,
        "one line": one_line,
        "invalid": Judge(EvaluationResult(invalid_result=True, invalid_reason="no JSON", score=0.0, passing=False)),
        "down": Judge(ConnectionError("refused")),
        "stars": Judge(EvaluationResult(score=4.0)),
        "passes": Judge(EvaluationResult(passing=True)),
    }
    decision = router.decide(QUESTION)
    judged = await EvaluatorFeedback(router, judges).aapply(QUESTION, Response(response="x"), ref=decision)
    assert set(judged.receipts) == {"passes"}
    assert judged.skipped["nothing"] == "no score"
    assert judged.skipped["invalid"] == "invalid: no JSON"
    assert judged.skipped["down"] == "the judge failed: ConnectionError"
    assert judged.skipped["one line"].startswith("the judge failed: ValueError")
    assert judged.skipped["stars"].startswith("score 4 is outside of [0, 1]")
    assert keys(router) == {decision.decision_id: 1.0}


async def test_the_judges_own_decisions_are_not_judged(server: ScriptedServer, router: Router) -> None:
    server.script("judge", Reply(text="YES"))
    with tiny_router(api_base=server.base_url, names=("judge",)) as other:
        feedback = EvaluatorFeedback(router, {"faithful": FaithfulnessEvaluator(llm=MixLLM(router=other))})
        index = VectorStoreIndex([TextNode(text="The landlord repairs.")], embed_model=MockEmbedding(embed_dim=4))
        with track_decisions() as tracked:
            answer = await index.as_query_engine(llm=MixLLM(router=router)).aquery(QUESTION)
            assert isinstance(answer, Response)
            judged = await feedback.aapply(QUESTION, answer, ref=tracked)
        assert other.stats()["decisions"] >= 1
    assert judged.receipts["faithful"].decision_id == tracked.decision_ids[0]
    assert len(tracked.decisions) == 1


@pytest.mark.filterwarnings("ignore:asyncio_module:DeprecationWarning")  # LlamaIndex's own
def test_a_batch_is_joined_by_position(router: Router, server: ScriptedServer) -> None:
    selector = MixLLMSelector(router=router, arms=ARMS)
    routing, questions = engine(selector), [f"{QUESTION} ({n})" for n in range(4)]
    answers = [routing.query(question) for question in questions]
    scores = [1.0, 0.0, 0.5, 0.25]
    judge = Judge(*(EvaluationResult(score=score) for score in scores))
    runner = BatchEvalRunner({"judge": judge}, workers=1)
    feedback = EvaluatorFeedback(selector, {"judge": judge})

    found = runner.aevaluate_responses(queries=questions, responses=cast(list[Response], answers))
    results = litellm_clients.run(found)
    judged = feedback.apply_batch(answers, results)
    assert [one.receipts["judge"].reward for one in judged] == scores
    assert list(keys(router)) == [(answer.metadata or {})["selector_result"].decision_id for answer in answers]
    assert list(keys(router).values()) == scores
    with pytest.raises(FeedbackError, match="4 results for 3 answers"):
        feedback.apply_batch(answers[:3], results)
    with pytest.raises(FeedbackError, match="no evaluator 'else'"):
        feedback.apply_batch(answers, {"else": results["judge"]})


def test_judgements_move_the_choices(server: ScriptedServer) -> None:
    """An evaluator that likes the answers of one LLM brings it the queries."""
    with tiny_router(api_base=server.base_url) as router:
        llm = MixLLM(router=router)
        chosen = []
        for number in range(40):
            said = llm.complete(f"Summarise report number {number} for the board.")
            chosen.append(said.raw["mixllm"]["candidate"])
            likes = Judge(EvaluationResult(score=1.0 if "very" in said.text else 0.1))
            EvaluatorFeedback(llm, {"likes": likes}).apply("Summarise", Response(response=said.text), ref=said)
        assert chosen[-10:].count("dear") >= 8
        assert router.stats()["feedback_applied"] == 40


def test_mistakes_are_told_at_once(router: Router) -> None:
    judge = Judge(EvaluationResult(score=1.0))
    with pytest.raises(ConfigError, match="at least one evaluator"):
        EvaluatorFeedback(router, {})
    with pytest.raises(ConfigError, match="no evaluator 'jduge' to weigh or scale; there are 'judge'"):
        EvaluatorFeedback(router, {"judge": judge}, weights={"jduge": 1.0})
    with pytest.raises(ConfigError, match="would ask the same router that it judges"):
        EvaluatorFeedback(router, {"faithful": FaithfulnessEvaluator(llm=MixLLM(router=router))})
    with pytest.raises(FeedbackError, match="track_decisions"):
        EvaluatorFeedback(router, {"judge": judge}).apply(QUESTION, Response(response="x"))
    assert len(judge.says) == 1  # nobody was asked
