"""What is appended to the log, as a router hands it over."""

from __future__ import annotations

from dataclasses import dataclass

from mixllm_engine.store.base import DecisionRecord
from mixllm_engine.types import FeedbackReceipt, Label, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDecision:
    """A decision."""

    record: DecisionRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class NewOutcome:
    """What one attempt for a decision brought."""

    decision_id: str
    outcome: Outcome
    time_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLinks:
    """Names that lead to a decision from now on."""

    decision_id: str
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewFeedback:
    """A judgement of a decision's answer."""

    decision_id: str
    key: str
    label: Label
    time_s: float


Entry = NewDecision | NewOutcome | NewLinks | NewFeedback

Result = FeedbackReceipt | Exception | None
"""What became of an entry: a receipt for feedback, or the error of an entry that can't be kept."""
