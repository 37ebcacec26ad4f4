"""What every store keeps and how it is asked: an append-only log from which the learned state is a fold.

Feedback rows carry the label of their decision before and after, so that folding a row is one addition to the sums and
the order of rows does not matter. What is no sum, the policy of `learning.feedback_network`, is folded in the order of
the log and has to know between whom a decision chose: a row carries that too. The label of a decision is the weighted
mean of the latest reward under each key. It belongs to who had answered when the first of these came, also where
another candidate answers later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mixllm_engine.types import Decision, FeedbackReceipt, FeedbackStatus, Label, Outcome

StoredEmbedding = npt.NDArray[np.float16]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionRecord:
    """A decision with what is needed to learn from it later.

    Attributes
    ----------
    decision : Decision
        The choice and its scores.
    embedding : array of shape (d,), float16
        The query's embedding, and behind it the surface of its text; see `encoding.context.Context`.
    encoder : str
        Name of its vector space; see `encoding.surface.vector_space`.
    policy : str
        Version of the learned state that decided.
    prompt_tokens : int
        Length of the prompt as it was estimated.
    prompt : str, optional
        The prompt, where the settings ask to keep it.
    """

    decision: Decision
    embedding: StoredEmbedding
    encoder: str
    policy: str
    prompt_tokens: int
    prompt: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackRow:
    """A change of one decision's label: from `before` (``None``: there was none) to `after`.

    `ranking` names the candidates between which the decision chose, `propensity` and `reason` are the decision's.
    """

    sequence: int
    decision_id: str
    candidate: str
    before: Label | None
    after: Label
    ranking: tuple[str, ...]
    propensity: float
    reason: str
    embedding: StoredEmbedding
    encoder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeRow:
    """One attempt's outcome with the query that it answered."""

    sequence: int
    decision_id: str
    outcome: Outcome
    embedding: StoredEmbedding
    encoder: str


class StoredState(NamedTuple):
    """What the log begins with, for an encoder: what tables taught, and what rows taught that were dropped since.

    `number` rises with each change.
    """

    number: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Surplus:
    """What may be dropped: decisions made before `before_s`, and all but the newest `most`; ``None`` = no limit."""

    encoder: str
    before_s: float | None
    most: int | None


class Pruned(NamedTuple):
    """How many decisions were dropped, and the number of the state that knows them."""

    decisions: int
    state_number: int


Fold = Callable[[StoredState | None, Sequence[FeedbackRow], Sequence[OutcomeRow]], bytes | None]
"""The present state, and the rows that are to be dropped -> a state that knows them; ``None`` keeps everything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRow:
    """What a worker tells the others.

    Attributes
    ----------
    name : str
        The worker.
    beat : int
        How often it has told so far.
    time_s : float
        When, by its own clock.
    data : str
        What; see `mixllm_engine.workers`.
    """

    name: str
    beat: int
    time_s: float
    data: str


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

    @property
    def shared(self) -> bool:
        """Whether other processes may write to it."""
        ...

    @property
    def written(self) -> int:
        """Grows whenever this process has written something to learn from, before whoever gave it is told so."""
        ...

    @property
    def unwritten(self) -> int:
        """Number of entries that wait to be written."""
        ...

    @property
    def lost(self) -> int:
        """Number of entries that this process had to give up."""
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

    def link(self, decision_id: str, names: Sequence[str]) -> None:
        """Let names, such as the ids of a framework's runs, lead to a decision, or raise `UnknownDecisionError`."""
        ...

    def linked(self, name: str) -> Sequence[str]:
        """Return the ids of the decisions to which a name leads, in the order in which they were made."""
        ...

    def linked_since(self, time_s: float) -> Sequence[str]:
        """Return the names that lead to decisions made at a time or later."""
        ...

    def add_feedback(self, decision_id: str, key: str, label: Label, time_s: float) -> FeedbackReceipt:
        """Keep feedback durably, credited to the candidate that answered, or raise `UnknownDecisionError`."""
        ...

    def feedback_after(self, sequence: int, limit: int) -> Sequence[FeedbackRow]:
        """Return label changes behind a position of the log, oldest first."""
        ...

    def outcomes_after(self, sequence: int, limit: int) -> Sequence[OutcomeRow]:
        """Return outcomes behind a position of the log, oldest first."""
        ...

    def change_state(self, encoder: str, change: Callable[[StoredState | None], bytes], time_s: float) -> int:
        """Keep a state made from the present one for an encoder, which nobody changes in between; returns its number.

        `change` must not use the store.
        """
        ...

    def state(self, encoder: str) -> StoredState | None:
        """Return the present state for an encoder."""
        ...

    def state_number(self, encoder: str) -> int:
        """Return the number of the present state for an encoder; 0 where there is none."""
        ...

    def prune(self, surplus: Surplus, fold: Fold, limit: int, time_s: float) -> Pruned | None:
        """Drop decisions with all that belongs to them, oldest first, in exchange for a state that knows them.

        `fold` must not use the store. Returns ``None`` where nothing was dropped.
        """
        ...

    def forget_prompts(self, before_s: float) -> int:
        """Drop the texts of prompts of decisions made before a time; returns their number."""
        ...

    def exchange(self, own: WorkerRow) -> Sequence[WorkerRow]:
        """Keep a worker's row in place of its older one, and return those of all others."""
        ...

    def forget_workers(self, names: Sequence[str]) -> None:
        """Take the rows of workers away."""
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
    before: Label | None
    after: Label


@dataclass(kw_only=True, slots=True)
class Judged:
    """What has been said of one decision's answer.

    Attributes
    ----------
    candidate : str
        Who is judged.
    label : Label, optional
        What was learned of it; ``None``: nothing yet.
    given : dict of str to Label
        The latest judgement under each key.

    Examples
    --------
    >>> judged = Judged(candidate="a")
    >>> judged.judge("user", Label(1.0, 1.0)).status, judged.judge("user", Label(1.0, 1.0)).status
    ('applied', 'duplicate')
    >>> judged.judge("judge", Label(0.5, 1.0)).after
    Label(value=0.75, weight=1.0)
    """

    candidate: str
    label: Label | None = None
    given: dict[str, Label] = field(default_factory=dict)

    def judge(self, key: str, new: Label) -> LabelChange:
        """Take a judgement; returns what it changes."""
        status: FeedbackStatus = "applied" if key not in self.given else "replaced"
        if self.given.get(key) == new:
            status = "duplicate"
        before = self.label
        value, weight = _together({**self.given, key: new}.values()) if self.given else (new.value, new.weight)
        # What was learned at some weight keeps it: older labels may since have faded, and can't be taken away in full.
        after = Label(value, max(weight, before.weight if before else 0.0))
        if status != "duplicate":
            self.given[key], self.label = new, after
        return LabelChange(status=status, before=before, after=after)


def _together(labels: Collection[Label]) -> Label:
    """Return the weighted mean; several judgements of one answer never weigh more than one that is certain."""
    total, start = fsum(label.weight for label in labels), next(iter(labels)).value  # exact where all are alike
    return Label(start + fsum(label.weight * (label.value - start) for label in labels) / total, min(total, 1.0))


def credited_candidate(chosen: str, outcomes: Sequence[Outcome]) -> str:
    """Return who answered: the last candidate without an error, else the one that was chosen."""
    return next((outcome.candidate for outcome in reversed(outcomes) if outcome.error is None), chosen)


def unknown_decision(decision_id: str) -> str:
    """Return the message of an `UnknownDecisionError`."""
    return (
        f"no decision {decision_id!r} in this store: take the id from the answer's metadata, and open the store in "
        "which the decision was made"
    )
