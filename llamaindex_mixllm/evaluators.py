"""LlamaIndex's evaluators as judges: what they say of an answer is feedback on the decision behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llama_index.core.async_utils import asyncio_run
from llama_index.core.base.response.schema import Response
from llama_index.core.evaluation.base import BaseEvaluator, EvaluationResult
from llama_index.core.evaluation.correctness import CorrectnessEvaluator

from llamaindex_mixllm.feedback import references
from mixllm_engine import ConfigError, FeedbackError, FeedbackReceipt, Router
from mixllm_engine.crediting import Credit
from mixllm_engine.holders import HasRouter, router_of
from mixllm_engine.tracking import untracked

Scale = Callable[[float], float]

_PLACES_OF_THE_LLM: Final = ("_llm", "llm")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What became of the judgements of one answer.

    Attributes
    ----------
    receipts : mapping of str to FeedbackReceipt
        What was learned, by evaluator.
    skipped : mapping of str to str
        Which evaluators said nothing that can be learned, and why.
    """

    receipts: Mapping[str, FeedbackReceipt]
    skipped: Mapping[str, str]


class EvaluatorFeedback:
    """Let evaluators judge answers, and the router learn from it.

    A judgement that is invalid, or that a judge did not manage to give, is skipped and never counted as a bad one. The
    decisions of a judge's own calls are no part of what is judged.

    Parameters
    ----------
    router : Router, or anything with one
        Who learns; an `MixLLM` or a `MixLLMSelector` will do.
    evaluators : mapping of str to BaseEvaluator
        The judges by name; each gives feedback under the key ``"evaluator:<name>"``.
    weights : mapping of str to float, optional
        What a judge weighs, in (0, 1]; 1 where not given.
    scales : mapping of str to callable, optional
        What brings a judge's score to [0, 1]. A `CorrectnessEvaluator` (1 to 5) is known; others score in [0, 1] by
        themselves, and what is below 0, as a similarity may be, counts as 0.

    Raises
    ------
    ConfigError
        If a weight or scale is for nobody, or a judge's LLM is routed by the router that it judges.

    Examples
    --------
    >>> from llama_index.core.evaluation import SemanticSimilarityEvaluator
    >>> from llama_index.core.embeddings import MockEmbedding
    >>> from mixllm_engine.testing import tiny_router
    >>> router = tiny_router()
    >>> judge = SemanticSimilarityEvaluator(embed_model=MockEmbedding(embed_dim=4))
    >>> feedback = EvaluatorFeedback(router, {"similar": judge}, weights={"similar": 0.5})
    >>> decision = router.decide("What is the capital of France?")
    >>> answer = Response(response="Paris")
    >>> judged = feedback.apply("What is the capital of France?", answer, ref=decision, reference="Paris")
    >>> judged.receipts["similar"].reward
    1.0
    """

    def __init__(
        self,
        router: Router | HasRouter,
        evaluators: Mapping[str, BaseEvaluator],
        *,
        weights: Mapping[str, float] | None = None,
        scales: Mapping[str, Scale] | None = None,
    ) -> None:
        self._router = router_of(router)
        self._evaluators = dict(evaluators)
        self._weights = dict(weights or {})
        self._scales = {name: _scale(judge) for name, judge in evaluators.items()} | dict(scales or {})
        self._check()

    def _check(self) -> None:
        if not self._evaluators:
            raise ConfigError(
                "EvaluatorFeedback needs at least one evaluator: {'faithful': FaithfulnessEvaluator(llm=...)}"
            )
        for name in {*self._weights, *self._scales} - self._evaluators.keys():
            known = ", ".join(map(repr, self._evaluators))
            raise ConfigError(f"there is no evaluator {name!r} to weigh or scale; there are {known}")
        for name, judge in self._evaluators.items():
            llms = (getattr(judge, place, None) for place in _PLACES_OF_THE_LLM)
            if any(getattr(llm, "router", None) is self._router for llm in llms):
                raise ConfigError(
                    f"evaluator {name!r} would ask the same router that it judges: give it an LLM of its own, "
                    "since Settings.llm is what evaluators take where none is given"
                )

    async def aapply(
        self, query: str, response: Response, *, ref: object = None, credit: Credit = "last", **kwargs: Any
    ) -> Judged:
        """Ask all evaluators about an answer, side by side, and learn what they say.

        Parameters
        ----------
        query : str
            What was asked.
        response : Response
            What a query engine answered, with its sources.
        ref : object, optional
            What leads to the decision where the response itself does not: a decision, its id, or what
            `track_decisions` collected around the query. See `MixLLM.feedback`.
        credit : str
            Where several decisions led to the answer: which the judgement is for; see `Router.feedback`.
        **kwargs
            Passed on to the evaluators, such as ``reference="the right answer"``.

        Raises
        ------
        FeedbackError
            If nothing leads to a decision.
        """
        credited = references(response if ref is None else ref)  # before any judge is paid
        with untracked():
            said = await asyncio.gather(
                *(
                    judge.aevaluate_response(query=query, response=response, **kwargs)
                    for judge in self._evaluators.values()
                ),
                return_exceptions=True,
            )
        results: dict[str, EvaluationResult | BaseException] = dict(zip(self._evaluators, said, strict=True))
        return await asyncio.to_thread(self._learn, credited, results, credit)

    def apply(
        self, query: str, response: Response, *, ref: object = None, credit: Credit = "last", **kwargs: Any
    ) -> Judged:
        """Do as `aapply` does, and wait for it."""
        judged: Judged = asyncio_run(self.aapply(query, response, ref=ref, credit=credit, **kwargs))
        return judged

    def apply_batch(
        self,
        refs: Sequence[object],
        results: Mapping[str, Sequence[EvaluationResult]],
        *,
        credit: Credit = "last",
    ) -> list[Judged]:
        """Learn what a `BatchEvalRunner` found.

        Parameters
        ----------
        refs : sequence
            The responses in the order in which they were evaluated, or what leads to their decisions.
        results : mapping of str to sequence of EvaluationResult
            What `BatchEvalRunner.aevaluate_responses` returns, by the names of these evaluators. What it returns
            from `aevaluate_queries` belongs to answers that nobody keeps: query first, then evaluate the responses.

        Raises
        ------
        FeedbackError
            If an evaluator is unknown, or there are not as many results as references.
        """
        for name, found in results.items():
            if name not in self._evaluators:
                raise FeedbackError(
                    f"there is no evaluator {name!r}; there are {', '.join(map(repr, self._evaluators))}"
                )
            if len(found) != len(refs):
                raise FeedbackError(f"evaluator {name!r} has {len(found)} results for {len(refs)} answers")
        credited = [references(ref) for ref in refs]
        return [
            self._learn(one, {name: found[place] for name, found in results.items()}, credit)
            for place, one in enumerate(credited)
        ]

    def _learn(
        self, credited: Sequence[str], results: Mapping[str, EvaluationResult | BaseException], credit: Credit
    ) -> Judged:
        receipts, skipped = {}, {}
        for name, result in results.items():
            if isinstance(result, BaseException):
                if not isinstance(result, Exception):
                    raise result  # cancelled
                skipped[name] = f"the judge failed: {type(result).__name__}"
                continue
            score = self._score(name, result)
            if isinstance(score, str):
                skipped[name] = score
                continue
            key, weight = f"evaluator:{name}", self._weights.get(name, 1.0)
            receipts[name] = self._router.feedback(credited, score, key, weight=weight, credit=credit)
        return Judged(receipts=receipts, skipped=skipped)

    def _score(self, name: str, result: EvaluationResult) -> float | str:
        """Return a score in [0, 1], or why there is none."""
        if result.invalid_result:
            return f"invalid: {result.invalid_reason or 'no reason given'}"
        if result.score is None:
            return "no score" if result.passing is None else float(result.passing)
        scaled = self._scales[name](float(result.score))
        if not 0.0 <= scaled <= 1.0:
            return f"score {result.score:g} is outside of [0, 1]: give scales={{{name!r}: ...}}"
        return scaled


def _scale(judge: BaseEvaluator) -> Scale:
    if isinstance(judge, CorrectnessEvaluator):
        return lambda stars: (stars - 1.0) / 4.0
    return lambda score: max(score, 0.0)
