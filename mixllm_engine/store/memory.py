"""The log in memory: for tests, notebooks, and services that don't mind forgetting. The oldest decisions make room."""

from __future__ import annotations

import secrets
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TypeVar

from mixllm_engine.errors import UnknownDecisionError
from mixllm_engine.store.base import (
    DecisionRecord,
    FeedbackRow,
    Fold,
    Judged,
    OutcomeRow,
    StoreCounts,
    StoredState,
    Surplus,
    WorkerRow,
    credited_candidate,
    unknown_decision,
)
from mixllm_engine.types import FeedbackReceipt, Label, Outcome

Row = TypeVar("Row", FeedbackRow, OutcomeRow)


class MemoryStore:
    """A store that ends with its process.

    Parameters
    ----------
    capacity : int
        Decisions that are held, with their scores some 2.5 kB each for ten candidates; feedback for older ones raises
        `UnknownDecisionError`. What they taught stays.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        self.identity = secrets.token_hex(16)
        self.shared, self.written, self.unwritten, self.lost = False, 0, 0, 0
        self.capacity = capacity
        self._lock = threading.Lock()
        self._decisions: OrderedDict[str, DecisionRecord] = OrderedDict()
        self._outcomes: dict[str, list[Outcome]] = {}
        self._judged: dict[str, Judged] = {}
        self._led_to: dict[str, list[str]] = {}  # decision ids by name ...
        self._names: dict[str, list[str]] = {}  # ... and names by decision id
        self._feedback_log: deque[FeedbackRow] = deque(maxlen=capacity)
        self._outcome_log: deque[OutcomeRow] = deque(maxlen=capacity)
        self._states: dict[str, StoredState] = {}
        self._workers: dict[str, WorkerRow] = {}
        self._draws: Counter[str] = Counter()
        self._choices: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._feedback_by_encoder: Counter[str] = Counter()

    def add_decision(self, record: DecisionRecord) -> None:
        """Keep a decision, but no prompt."""
        if record.prompt is not None:
            record = replace(record, prompt=None)
        decision = record.decision
        with self._lock:
            self._decisions[decision.decision_id] = record
            self._counts["decisions"] += 1
            self._choices[decision.candidate] += 1
            if decision.explored:
                self._draws[decision.candidate] += 1
            if len(self._decisions) > self.capacity:
                oldest, _ = self._decisions.popitem(last=False)
                self._outcomes.pop(oldest, None)
                self._judged.pop(oldest, None)
                for name in self._names.pop(oldest, ()):
                    self._led_to[name].remove(oldest)
                    if not self._led_to[name]:
                        del self._led_to[name]

    def decision(self, decision_id: str) -> DecisionRecord:
        """Return a decision, or raise `UnknownDecisionError`."""
        with self._lock:
            return self._known(decision_id)

    def add_outcome(self, decision_id: str, outcome: Outcome, time_s: float) -> None:
        """Keep an outcome, or raise `UnknownDecisionError`."""
        with self._lock:
            record = self._known(decision_id)
            self._outcomes.setdefault(decision_id, []).append(outcome)
            self._counts["outcomes"] += 1
            self._outcome_log.append(
                OutcomeRow(
                    sequence=self._counts["outcomes"],
                    decision_id=decision_id,
                    outcome=outcome,
                    embedding=record.embedding,
                    encoder=record.encoder,
                )
            )

    def outcomes(self, decision_id: str) -> Sequence[Outcome]:
        """Return the outcomes of a decision in the order of the attempts."""
        with self._lock:
            return tuple(self._outcomes.get(decision_id, ()))

    def link(self, decision_id: str, names: Sequence[str]) -> None:
        """Let names lead to a decision, or raise `UnknownDecisionError`."""
        with self._lock:
            self._known(decision_id)
            for name in names:
                known = self._led_to.setdefault(name, [])
                if decision_id not in known:
                    known.append(decision_id)
                    self._names.setdefault(decision_id, []).append(name)

    def linked(self, name: str) -> Sequence[str]:
        """Return the ids of the decisions to which a name leads, in the order in which they were made."""
        with self._lock:
            return sorted(self._led_to.get(name, ()), key=lambda known: self._decisions[known].decision.time_s)

    def linked_since(self, time_s: float) -> Sequence[str]:
        """Return the names that lead to decisions made at a time or later."""
        with self._lock:
            made = {known for known, record in self._decisions.items() if record.decision.time_s >= time_s}
            return [name for name, led_to in self._led_to.items() if not made.isdisjoint(led_to)]

    def add_feedback(self, decision_id: str, key: str, label: Label, time_s: float) -> FeedbackReceipt:
        """Keep feedback, or raise `UnknownDecisionError`."""
        with self._lock:
            record = self._known(decision_id, counting_feedback=True)
            if decision_id not in self._judged:
                answered = credited_candidate(record.decision.candidate, self._outcomes.get(decision_id, ()))
                self._judged[decision_id] = Judged(candidate=answered)
            judged = self._judged[decision_id]
            change = judged.judge(key, label)
            receipt = FeedbackReceipt(
                decision_id=decision_id, candidate=judged.candidate, key=key, reward=label.value, status=change.status
            )
            if change.status == "duplicate":
                self._counts["feedback_duplicate"] += 1
                return receipt
            self._counts["feedback"] += change.status == "applied"
            self._feedback_by_encoder[record.encoder] += change.status == "applied"
            self._counts["feedback_log"] += 1
            self._feedback_log.append(
                FeedbackRow(
                    sequence=self._counts["feedback_log"],
                    decision_id=decision_id,
                    candidate=judged.candidate,
                    before=change.before,
                    after=change.after,
                    ranking=record.decision.ranking,
                    propensity=record.decision.propensity,
                    reason=record.decision.reason,
                    embedding=record.embedding,
                    encoder=record.encoder,
                )
            )
            return receipt

    def feedback_after(self, sequence: int, limit: int) -> Sequence[FeedbackRow]:
        """Return label changes behind a position of the log, oldest first."""
        with self._lock:
            return _behind(self._feedback_log, sequence, limit)

    def outcomes_after(self, sequence: int, limit: int) -> Sequence[OutcomeRow]:
        """Return outcomes behind a position of the log, oldest first."""
        with self._lock:
            return _behind(self._outcome_log, sequence, limit)

    def change_state(self, encoder: str, change: Callable[[StoredState | None], bytes], time_s: float) -> int:
        """Keep a state made from the present one for an encoder; returns its number."""
        with self._lock:
            before = self._states.get(encoder)
            after = StoredState(before.number + 1 if before else 1, change(before))
            self._states[encoder] = after
            return after.number

    def state(self, encoder: str) -> StoredState | None:
        """Return the present state for an encoder."""
        with self._lock:
            return self._states.get(encoder)

    def state_number(self, encoder: str) -> int:
        """Return the number of the present state for an encoder; 0 where there is none."""
        state = self.state(encoder)
        return state.number if state else 0

    def prune(self, surplus: Surplus, fold: Fold, limit: int, time_s: float) -> None:
        """Drop nothing: `capacity` says how much is held."""

    def forget_prompts(self, before_s: float) -> int:
        """Drop nothing: prompts are not kept here."""
        return 0

    def exchange(self, own: WorkerRow) -> Sequence[WorkerRow]:
        """Keep a worker's row in place of its older one, and return those of all others."""
        with self._lock:
            self._workers[own.name] = own
            return [row for name, row in self._workers.items() if name != own.name]

    def forget_workers(self, names: Sequence[str]) -> None:
        """Take the rows of workers away."""
        with self._lock:
            for name in names:
                self._workers.pop(name, None)

    def feedback_of(self, encoder: str) -> int:
        """Count the feedback to decisions whose vectors an encoder made."""
        with self._lock:
            return self._feedback_by_encoder[encoder]

    def exploring_draws(self) -> Mapping[str, int]:
        """Count the exploring draws of each candidate."""
        with self._lock:
            return dict(self._draws)

    def choices(self) -> Mapping[str, int]:
        """Count the decisions for each candidate."""
        with self._lock:
            return dict(self._choices)

    def counts(self) -> StoreCounts:
        """Count what the log holds."""
        with self._lock:
            names = StoreCounts.__dataclass_fields__
            return StoreCounts(**{name: self._counts[name] for name in names})

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def _known(self, decision_id: str, *, counting_feedback: bool = False) -> DecisionRecord:
        record = self._decisions.get(decision_id)
        if record is None:
            self._counts["feedback_unmatched"] += counting_feedback
            raise UnknownDecisionError(unknown_decision(decision_id))
        return record


def _behind(log: deque[Row], sequence: int, limit: int) -> list[Row]:
    """Walk from the newest row back to `sequence`: a follower asks for the few rows that are new."""
    rows = list(takewhile(lambda row: row.sequence > sequence, reversed(log)))
    return rows[::-1][:limit]
