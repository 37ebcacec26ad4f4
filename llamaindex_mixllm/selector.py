"""`MixLLMSelector`: chooses a query engine for every query by what was learned of its LLM; no LLM is asked.

How a query flows::

    RouterQueryEngine -> select -> Router.decide over the arms' candidates -> SelectorResult with the decision's id
      -> the chosen tool's query engine -> `MixLLMSelector.llm`: no second decision, outcomes under the first one
      -> response.metadata["selector_result"] -> `MixLLMSelector.feedback`
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from glob import escape
from typing import Any

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata
from pydantic import PrivateAttr

from llamaindex_mixllm.feedback import references
from llamaindex_mixllm.llm import MixLLM
from mixllm_engine import (
    ConfigError,
    Decision,
    FeedbackReceipt,
    NoEligibleCandidateError,
    Router,
    UnknownCandidateError,
)
from mixllm_engine.calling import Terms
from mixllm_engine.config import BudgetWord

_NAMING = "give each tool a name of its own: QueryEngineTool.from_defaults(engine, name=..., description=...)"


class MixLLMSelectorResult(SelectorResult):
    """A selection that says which decision it was.

    Attributes
    ----------
    decision_id : str
        The reference for feedback.
    candidate : str
        The candidate behind the chosen tool.
    decision_ids : list of str
        Where several tools were chosen: the decision for each of them, the best first.
    """

    decision_id: str
    candidate: str
    decision_ids: list[str]


class MixLLMSelector(BaseSelector):
    """Choose among tools, each tied to a candidate, by the router's scores.

    Parameters
    ----------
    router : Router
        Who decides and learns.
    arms : mapping of str to str, optional
        Name of each tool -> name of its candidate. Where not given, tools bear the names of their candidates.
    budget, willingness_to_pay, max_wait_s
        As for `Router.decide`.
    most : int
        How many tools answer a query; the engine or retriever joins what they say. Each is a decision of its own, among
        the candidates that are left.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> selector = MixLLMSelector(router=tiny_router(), arms={"quick": "cheap", "careful": "dear"}, budget="low")
    >>> choices = [ToolMetadata("Thinks hard.", name="careful"), ToolMetadata("Answers at once.", name="quick")]
    >>> result = selector.select(choices, "What is the capital of France?")
    >>> result.ind, result.reason
    (1, "candidate 'cheap' by score")
    >>> selector.feedback(result, 1.0).candidate
    'cheap'
    """

    def __init__(
        self,
        *,
        router: Router,
        arms: Mapping[str, str] | None = None,
        budget: BudgetWord | float | None = None,
        willingness_to_pay: float | None = None,
        max_wait_s: float | None = None,
        most: int = 1,
    ) -> None:
        if most < 1:
            raise ConfigError(f"most={most!r} must be at least 1: the number of tools that answer a query")
        if arms is not None:
            _check_arms(arms, [candidate.name for candidate in router.candidates])
        self.router = router
        self.arms = arms
        self.budget = budget
        self.willingness_to_pay = willingness_to_pay
        self.max_wait_s = max_wait_s
        self.most = most

    def feedback(self, ref: object, score: float, key: str = "user") -> FeedbackReceipt:
        """Learn how good the answer of the chosen tool was.

        Parameters
        ----------
        ref : Response, MixLLMSelectorResult, Decision or str
            What the query engine returned, or the selection, or the decision's id. Of an answer that several tools
            gave together, the score is for all of them.
        score : float
            Quality in [0, 1].
        key : str
            Who judges. The same key again replaces the value; several keys are averaged.
        """
        return self.router.feedback(references(ref), score, key, credit="all")

    def llm(self, tool: str, **fields: Any) -> MixLLM:
        """Return the LLM for the query engine of one tool: a `MixLLM` that its candidate alone answers.

        Its calls make no decision of their own: cost and time are recorded under the one by which this selector chose
        the tool, so that one query is one decision, and is credited once. That decision is the latest in the same
        thread or task. Where this selector has not chosen the tool last, each call logs a forced decision; no feedback
        reaches that through the selector. A streaming query engine calls its LLM only when the answer is read: read
        each answer before the next query, or in a task of its own.

        Parameters
        ----------
        tool : str
            Name of the tool.
        **fields
            Fields of `MixLLM`.

        Raises
        ------
        ConfigError
            If there is no such tool among the arms.
        """
        return _ArmLLM(self, force=self._candidate(tool), **fields)

    # -- what LlamaIndex calls ---------------------------------------------------------------------------------------

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        return self._result(*self._decide(choices, query))

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        # Encoding and the store take milliseconds, which other tasks can use.
        return self._result(*await asyncio.to_thread(self._decide, choices, query))

    def _get_prompts(self) -> PromptDictType:
        """Return none: no LLM is asked."""
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        """Do nothing: there are no prompts."""

    # -- choosing ----------------------------------------------------------------------------------------------------

    def _decide(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> tuple[list[str], list[Decision]]:
        candidates = [self._candidate(name) for name in _names(choices)]
        made: list[Decision] = []
        for _ in candidates[: self.most]:
            left = [name for name in candidates if all(name != one.candidate for one in made)]
            try:
                made.append(self.router.decide(query.query_str, **self._terms(left)))
            except NoEligibleCandidateError:
                if not made:
                    raise
                break
        return candidates, made

    def _terms(self, left: Sequence[str]) -> Terms:
        return {
            "budget": self.budget,
            "willingness_to_pay": self.willingness_to_pay,
            "max_wait_s": self.max_wait_s,
            "allow": [escape(candidate) for candidate in left],  # names, not patterns
        }

    def _result(self, candidates: Sequence[str], made: Sequence[Decision]) -> MixLLMSelectorResult:
        # Here and not in `_decide`, whose thread has a context of its own.
        _latest.set((self, {decision.candidate: decision for decision in made}))
        selections = [
            SingleSelection(
                index=candidates.index(decision.candidate),
                reason=f"candidate {decision.candidate!r} by {decision.reason}",
            )
            for decision in made
        ]
        return MixLLMSelectorResult(
            selections=selections,
            decision_id=made[0].decision_id,
            candidate=made[0].candidate,
            decision_ids=[decision.decision_id for decision in made],
        )

    def _candidate(self, tool: str) -> str:
        arms = self.arms if self.arms is not None else {c.name: c.name for c in self.router.candidates}
        if tool not in arms:
            known = ", ".join(map(repr, arms))
            raise ConfigError(f"tool {tool!r} is not among the arms {known}; {_NAMING}, and arms={{name: candidate}}")
        return arms[tool]

    def _selected(self, candidate: str) -> Decision | None:
        """Return the decision that is being carried out here, if it is for this candidate."""
        latest = _latest.get()
        if latest is None or latest[0] is not self or candidate not in latest[1]:
            return None
        # A tool stands for its candidate: another one must not answer in its name.
        return dataclasses.replace(latest[1][candidate], ranking=(candidate,))


class _ArmLLM(MixLLM):
    """`MixLLM` for one arm of a selector."""

    _selector: MixLLMSelector = PrivateAttr()

    def __init__(self, selector: MixLLMSelector, **fields: Any) -> None:
        super().__init__(router=selector.router, **fields)
        self._selector = selector

    def _decide(self, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any], terms: Terms) -> Decision:
        return self._selector._selected(self.force or "") or super()._decide(messages, params, terms)


_latest: ContextVar[tuple[MixLLMSelector, dict[str, Decision]] | None] = ContextVar("mixllm_selection", default=None)


def _check_arms(arms: Mapping[str, str], candidates: Sequence[str]) -> None:
    for tool, candidate in arms.items():
        if candidate not in candidates:
            known = ", ".join(map(repr, candidates))
            raise UnknownCandidateError(f"arm {tool!r} names the candidate {candidate!r}; the pool has {known}")
    if len(set(arms.values())) < len(arms):
        raise ConfigError(f"each tool needs a candidate of its own to be told apart by, got {dict(arms)!r}")


def _names(choices: Sequence[ToolMetadata]) -> list[str]:
    names = [choice.name for choice in choices]
    if None in names:
        raise ConfigError(f"choice {names.index(None)} has no name; {_NAMING}")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ConfigError(f"several tools are named {', '.join(map(repr, twice))}; {_NAMING}")
    return [name for name in names if name is not None]
