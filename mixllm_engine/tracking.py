"""Collect the decisions that are made inside a block of code, however deep a framework buries them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from mixllm_engine.crediting import Credit, Reference, shares
from mixllm_engine.errors import FeedbackError
from mixllm_engine.types import Decision, FeedbackReceipt


class Teachable(Protocol):
    """A router."""

    def feedback(self, ref: Reference, reward: float, key: str = "user", *, weight: float = 1.0) -> FeedbackReceipt:
        """Learn how good the answer to a decision was."""
        ...


class TrackedDecisions:
    """The decisions of a block, in order; feedback on what they led to together."""

    def __init__(self) -> None:
        self._made: list[tuple[Decision, Teachable]] = []

    @property
    def decisions(self) -> list[Decision]:
        """The decisions."""
        return [decision for decision, _ in self._made]

    @property
    def decision_ids(self) -> list[str]:
        """Their ids, the references for feedback."""
        return [decision.decision_id for decision, _ in self._made]

    def note(self, decision: Decision, router: Teachable) -> None:
        """Add a decision of a router."""
        self._made.append((decision, router))

    def feedback(
        self, reward: float, key: str = "user", *, weight: float = 1.0, credit: Credit = "last"
    ) -> list[FeedbackReceipt]:
        """Tell every router that decided how good the result was; see `Router.feedback`.

        Returns
        -------
        list of FeedbackReceipt
            One for each decision that the reward is for.

        Raises
        ------
        FeedbackError
            If nothing was decided in the block, or the reward or its weight is none.
        """
        if not self._made:
            raise FeedbackError("nothing was decided in this block, so there is nothing to give feedback on")
        credited = zip(self._made, shares(len(self._made), credit), strict=True)
        return [
            router.feedback(decision, reward, key, weight=weight * share)
            for (decision, router), share in credited
            if share
        ]


_open: ContextVar[tuple[TrackedDecisions, ...]] = ContextVar("mixllm_tracked", default=())


@contextmanager
def track_decisions() -> Iterator[TrackedDecisions]:
    """Collect every decision that is made in this block, in this thread or task and those that inherit its context.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> router = tiny_router()
    >>> with track_decisions() as tracked:
    ...     decision = router.decide("hello")
    >>> tracked.decision_ids == [decision.decision_id]
    True
    >>> [receipt.status for receipt in tracked.feedback(1.0)]
    ['applied']
    """
    tracked = TrackedDecisions()
    token = _open.set((*_open.get(), tracked))
    try:
        yield tracked
    finally:
        _open.reset(token)


@contextmanager
def untracked() -> Iterator[None]:
    """Keep the decisions of this block out of every block around it: a judge's are not those that it judges."""
    token = _open.set(())
    try:
        yield
    finally:
        _open.reset(token)


def note_decision(decision: Decision, router: Teachable) -> None:
    """Add a decision to every block that is open here."""
    for tracked in _open.get():
        tracked.note(decision, router)
