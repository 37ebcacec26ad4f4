"""Collect the decisions that are made inside a block of code, however deep a framework buries them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from mixllm_engine.types import Decision


@dataclass
class TrackedDecisions:
    """The decisions of a block, in order."""

    decisions: list[Decision] = field(default_factory=list)

    @property
    def decision_ids(self) -> list[str]:
        """Their ids, the references for feedback."""
        return [decision.decision_id for decision in self.decisions]


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
    """
    tracked = TrackedDecisions()
    token = _open.set((*_open.get(), tracked))
    try:
        yield tracked
    finally:
        _open.reset(token)


def note_decision(decision: Decision) -> None:
    """Add a decision to every block that is open here."""
    for tracked in _open.get():
        tracked.decisions.append(decision)
