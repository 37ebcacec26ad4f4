"""What a person holds after an answer -> what leads the router to its decision."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Self
from uuid import UUID

from langchain_core.messages import BaseMessage

from langchain_mixllm._answers import noted
from mixllm_engine import Decision, FeedbackReceipt, Router, UnknownDecisionError
from mixllm_engine.crediting import Credit, Reference

Ref = BaseMessage | Decision | str | UUID
"""A message, its id, a decision, its id, or the id of a run."""

# LangChain names messages after their runs: with a number behind it where the answer was not streamed.
_NAMED_AFTER_RUN = re.compile(r"lc_run--([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:-\d+)?")


class CandidateName(str):
    """The name of the chosen candidate, which still knows its decision.

    Attributes
    ----------
    decision_id : str
        The reference for feedback. It is lost where only the text is kept, as in JSON.
    """

    decision_id: str

    @classmethod
    def of(cls, decision: Decision, name: str | None = None) -> Self:
        """Return the name of a decision's candidate, or another name for it."""
        made = cls(name or decision.candidate)
        made.decision_id = decision.decision_id
        return made


def reference(ref: Ref) -> Reference:
    """Return a decision, its id, or the id of a run to which it was linked.

    Raises
    ------
    UnknownDecisionError
        If a message leads to none of them.

    Examples
    --------
    >>> reference("lc_run--0198c5b2-4b4f-7000-8000-0123456789ab-0")
    '0198c5b2-4b4f-7000-8000-0123456789ab'
    """
    if isinstance(ref, Decision | UUID):
        return ref
    if isinstance(ref, CandidateName):
        return ref.decision_id
    if isinstance(ref, str):
        named = _NAMED_AFTER_RUN.fullmatch(ref)
        return named[1] if named else ref
    if not isinstance(ref, BaseMessage):
        raise TypeError(
            f"feedback is for a message, its id, a decision, its id, or the id of a run, not for {type(ref).__name__}"
        )
    if isinstance(decision_id := noted(ref).get("decision_id"), str):
        return decision_id
    if ref.id is None:
        raise UnknownDecisionError(f"this {type(ref).__name__} names no decision: it did not come from ChatMixLLM")
    return reference(ref.id)


class Teachable:
    """What takes feedback for a router: our chat model, and all that decides without calling."""

    if TYPE_CHECKING:  # a field of the pydantic models below, which must not find it here
        router: Router

    def feedback(
        self, ref: Ref, score: float, key: str = "user", *, weight: float = 1.0, credit: Credit = "last"
    ) -> FeedbackReceipt:
        """Learn how good an answer was.

        Parameters
        ----------
        ref : AIMessage, Decision, CandidateName, str or UUID
            The answer, its message id, its decision, what a `MixLLMRunnable` returned, the decision's id, or the id of
            a run: the chat model's own, or any around it, up to the root.
        score : float
            Quality of the answer in [0, 1].
        key : str
            Who judges. The same key again replaces the value; several keys are averaged by their weights.
        weight : float
            What the judgement weighs beside one that is certain, in (0, 1].
        credit : str
            Where a run made several decisions: whether the score is for the ``"last"``, for ``"all"``, or
            ``"discounted"``: for all, with half the weight for each step back.

        Returns
        -------
        FeedbackReceipt
            Of the last decision. The feedback is durable when this returns.

        Raises
        ------
        FeedbackError
            If the score is not a number in [0, 1], or the weight not in (0, 1].
        UnknownDecisionError
            If `ref` leads to no decision in the store.
        """
        return self.router.feedback(reference(ref), score, key, weight=weight, credit=credit)

    async def afeedback(
        self, ref: Ref, score: float, key: str = "user", *, weight: float = 1.0, credit: Credit = "last"
    ) -> FeedbackReceipt:
        """Do as `feedback` does, without blocking."""
        return await asyncio.to_thread(self.feedback, ref, score, key, weight=weight, credit=credit)
