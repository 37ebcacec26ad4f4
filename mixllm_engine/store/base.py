"""What every store keeps and how it is asked: an append-only log from which the learned state is a fold.

Feedback rows carry the label of their decision before and after, so that folding a row is one addition to the sums and
the order of rows does not matter. What is no sum, the policy of `learning.feedback_network`, is folded in the order of
the log and has to know between whom a decision chose: a row carries that too. The label of a decision is the mean of
the latest reward under each key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixllm_engine.types import Decision, FeedbackReceipt, FeedbackStatus, Outcome

StoredEmbedding = npt.NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class DecisionRecord:
    """A decision with what is needed to learn from it later. The prompt's text is not part of it.

    Attributes
    ----------
    decision : Decision
        The choice and its scores.
    embedding : array of shape (d,), float16
        The query's embedding.
    encoder : str
        Fingerprint of the encoder that made it.
    policy : str
        Version of the learned state that decided.
    prompt_tokens : int
        Length of the prompt as it was estimated.
    """

    decision: Decision
    embedding: StoredEmbedding
    encoder: str
    policy: str
    prompt_tokens: int


@dataclass(frozen=True, kw_only=True)
class FeedbackRow:
    """A change of one decision's label: from `before` (``None``: there was none) to `after`.

    `ranking` names the candidates between which the decision chose.
    """

    sequence: int
    decision_id: str
    candidate: str
    before: float | None
    after: float
    ranking: tuple[str, ...]
    embedding: StoredEmbedding
    encoder: str


@dataclass(frozen=True, kw_only=True)
class OutcomeRow:
    """One attempt's outcome with the query that it answered."""

    sequence: int
    decision_id: str
    outcome: Outcome
    embedding: StoredEmbedding
    encoder: str


@dataclass(frozen=True, kw_only=True)
class StoreCounts:
    """Sizes of the log, for `Router.stats`."""

    decisions: int
    outcomes: int
    feedback: int
    feedback_log: int
    feedback_duplicate: int
    feedback_unmatched: int


class Store(Protocol):
    """The log. Every method is safe to call from several threads; what returned has been kept."""

    @property
    def identity(self) -> str:
        """A random name of this log, by which saved state knows how far it had read."""
        ...

    def add_decision(self, record: DecisionRecord) -> None:
        """Keep a decision."""
        ...

    def decision(self, decision_id: str) -> DecisionRecord:
        """Return a decision, or raise `UnknownDecisionError`."""
        ...

    def add_outcome(self, decision_id: str, outcome: Outcome, time_s: float) -> None:
        """Keep an outcome, or raise `UnknownDecisionError`."""
        ...

    def outcomes(self, decision_id: str) -> Sequence[Outcome]:
        """Return the outcomes of a decision in the order of the attempts."""
        ...

    def add_feedback(self, decision_id: str, key: str, reward: float, time_s: float) -> FeedbackReceipt:
        """Keep feedback durably, credited to the candidate that answered, or raise `UnknownDecisionError`."""
        ...

    def feedback_after(self, sequence: int, limit: int) -> Sequence[FeedbackRow]:
        """Return label changes behind a position of the log, oldest first."""
        ...

    def outcomes_after(self, sequence: int, limit: int) -> Sequence[OutcomeRow]:
        """Return outcomes behind a position of the log, oldest first."""
        ...

    def change_state(self, encoder: str, change: Callable[[bytes | None], bytes], time_s: float) -> None:
        """Keep what tables taught, made from the latest state for an encoder; nobody changes it in between.

        `change` must not use the store.
        """
        ...

    def latest_state(self, encoder: str) -> bytes | None:
        """Return what tables taught, for an encoder."""
        ...

    def feedback_of(self, encoder: str) -> int:
        """Count the feedback to decisions whose vectors an encoder made."""
        ...

    def exploring_draws(self) -> Mapping[str, int]:
        """Count the exploring draws of each candidate."""
        ...

    def choices(self) -> Mapping[str, int]:
        """Count the decisions for each candidate."""
        ...

    def counts(self) -> StoreCounts:
        """Count what the log holds."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


@dataclass(frozen=True, kw_only=True)
class LabelChange:
    """What a reward does to the label of its decision."""

    status: FeedbackStatus
    before: float | None
    after: float


def change_label(rewards: Mapping[str, float], key: str, reward: float) -> LabelChange:
    """Work out what a reward changes.

    Parameters
    ----------
    rewards : mapping of str to float
        The decision's latest reward under each key so far.
    key : str
        Whose judgement it is.
    reward : float
        The new value.

    Examples
    --------
    >>> change_label({"user": 1.0}, "judge", 0.5)
    LabelChange(status='applied', before=1.0, after=0.75)
    >>> change_label({"user": 1.0}, "user", 1.0).status
    'duplicate'
    """
    before = fmean(rewards.values()) if rewards else None
    after = fmean({**rewards, key: reward}.values())
    if key not in rewards:
        return LabelChange(status="applied", before=before, after=after)
    status: FeedbackStatus = "duplicate" if rewards[key] == reward else "replaced"
    return LabelChange(status=status, before=before, after=after)


def credited_candidate(chosen: str, outcomes: Sequence[Outcome]) -> str:
    """Return who answered: the last candidate without an error, else the one that was chosen."""
    return next((outcome.candidate for outcome in reversed(outcomes) if outcome.error is None), chosen)


def unknown_decision(decision_id: str) -> str:
    """Return the message of an `UnknownDecisionError`."""
    return (
        f"no decision {decision_id!r} in this store: take the id from the answer's metadata, and open the store in "
        "which the decision was made"
    )
