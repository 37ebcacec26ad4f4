"""What the log is asked, in SQL. Nothing is written here."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import sqlalchemy as sa

from mixllm_engine.errors import UnknownDecisionError
from mixllm_engine.store import schema, statements
from mixllm_engine.store.base import (
    DecisionRecord,
    FeedbackRow,
    OutcomeRow,
    StoreCounts,
    StoredEmbedding,
    StoredState,
    unknown_decision,
)
from mixllm_engine.types import Decision, Label, Outcome, Score

_OUTCOME_FIELDS = tuple(Outcome.__dataclass_fields__)


class Reading(ABC):
    """The half of a store that reads."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sa.Connection]:
        """Begin a transaction that only reads, after what is to be written has been."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[sa.Connection]:
        """Give a connection for one statement that only reads what is there by now."""

    def meta(self, name: str) -> str:
        """Return what is noted of the log itself."""
        with self._asking() as connection:
            query = sa.select(schema.meta.c.value).where(schema.meta.c.name == name)
            return str(connection.execute(query).scalar_one())

    def decision(self, decision_id: str) -> DecisionRecord:
        """Return a decision, or raise `UnknownDecisionError`."""
        kept = schema.decisions.outerjoin(schema.prompts)
        query = sa.select(schema.decisions, schema.prompts.c.text.label("prompt")).select_from(kept)
        query = query.where(schema.decisions.c.decision_id == decision_id)
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise UnknownDecisionError(unknown_decision(decision_id))
        lambda_ = row.willingness_to_pay
        decision = Decision(
            decision_id=row.decision_id,
            candidate=row.candidate,
            ranking=tuple(row.ranking),
            propensity=row.propensity,
            explored=row.explored,
            scores={name: Score(**values) for name, values in row.scores.items()},
            reason=row.reason,
            willingness_to_pay=math.inf if lambda_ is None else lambda_,
            time_s=row.time_s,
            uncertainty_weight=row.uncertainty_weight,
            penalty_weight=row.penalty_weight,
        )
        return DecisionRecord(
            decision=decision,
            embedding=_embedding(row.embedding),
            encoder=row.encoder,
            policy=row.policy,
            prompt_tokens=row.prompt_tokens,
            prompt=row.prompt,
        )

    def outcomes(self, decision_id: str) -> Sequence[Outcome]:
        """Return the outcomes of a decision in the order of the attempts."""
        with self._reading() as connection:
            return self._outcomes(connection, decision_id)

    def linked(self, name: str) -> Sequence[str]:
        """Return the ids of the decisions to which a name leads, in the order in which they were made."""
        links, decisions = schema.links, schema.decisions
        query = (
            sa.select(links.c.decision_id)
            .join(decisions, decisions.c.decision_id == links.c.decision_id)
            .where(links.c.name == name)
            .order_by(decisions.c.time_s, decisions.c.decision_id)
        )
        with self._reading() as connection:
            return connection.execute(query).scalars().all()

    def linked_since(self, time_s: float) -> Sequence[str]:
        """Return the names that lead to decisions made at a time or later."""
        links, decisions = schema.links, schema.decisions
        joined = links.join(decisions, decisions.c.decision_id == links.c.decision_id)
        query = sa.select(links.c.name).distinct().select_from(joined).where(decisions.c.time_s >= time_s)
        with self._reading() as connection:
            return connection.execute(query).scalars().all()

    def feedback_after(self, sequence: int, limit: int) -> Sequence[FeedbackRow]:
        """Return label changes behind a position of the log, oldest first."""
        return [feedback_row(row) for row in self._after(statements.FEEDBACK_AFTER, sequence, limit)]

    def outcomes_after(self, sequence: int, limit: int) -> Sequence[OutcomeRow]:
        """Return outcomes behind a position of the log, oldest first."""
        return [outcome_row(row) for row in self._after(statements.OUTCOMES_AFTER, sequence, limit)]

    def _after(self, statement: sa.Select[Any], sequence: int, limit: int) -> Sequence[Any]:
        with self._asking() as connection:
            return connection.execute(statement, {"position": sequence, "limit": limit}).all()

    def state(self, encoder: str) -> StoredState | None:
        """Return the present state for an encoder."""
        with self._asking() as connection:
            return present_state(connection, encoder)

    def state_number(self, encoder: str) -> int:
        """Return the number of the present state for an encoder; 0 where there is none."""
        table = schema.states
        query = sa.select(sa.func.max(table.c.sequence)).where(table.c.encoder == encoder)
        with self._asking() as connection:
            return connection.execute(query).scalar_one() or 0

    def feedback_of(self, encoder: str) -> int:
        """Count the feedback to decisions whose vectors an encoder made."""
        feedback, decisions = schema.feedback, schema.decisions
        query = (
            sa.select(sa.func.count())
            .select_from(feedback.join(decisions, decisions.c.decision_id == feedback.c.decision_id))
            .where(decisions.c.encoder == encoder)
        )
        with self._reading() as connection:
            dropped = _tallied(connection, "feedback", schema.tallies.c.encoder == encoder)
            return int(connection.execute(query).scalar_one()) + dropped.total()

    def exploring_draws(self) -> Mapping[str, int]:
        """Count the exploring draws of each candidate."""
        return self._per_candidate(schema.decisions.c.explored, "exploring_draws")

    def choices(self) -> Mapping[str, int]:
        """Count the decisions for each candidate."""
        return self._per_candidate(sa.true(), "decisions")

    def _per_candidate(self, condition: sa.ColumnElement[bool], tally: str) -> Mapping[str, int]:
        candidate = schema.decisions.c.candidate
        query = sa.select(candidate, sa.func.count()).where(condition).group_by(candidate)
        with self._reading() as connection:
            present = Counter({name: count for name, count in connection.execute(query)})
            return present + _tallied(connection, tally, sa.true())

    def counts(self) -> StoreCounts:
        """Count what the log holds."""
        tables = {
            "decisions": schema.decisions,
            "outcomes": schema.outcomes,
            "feedback": schema.feedback,
            "feedback_log": schema.feedback_log,
        }
        with self._reading() as connection:
            sizes = {
                name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                + _tallied(connection, name, sa.true()).total()
                for name, table in tables.items()
            }
            noted = {row.name: row.value for row in connection.execute(sa.select(schema.counters))}
        return StoreCounts(
            **sizes,
            feedback_duplicate=noted.get("feedback_duplicate", 0),
            feedback_unmatched=noted.get("feedback_unmatched", 0),
        )

    @staticmethod
    def _outcomes(connection: sa.Connection, decision_id: str) -> Sequence[Outcome]:
        return [_outcome(row) for row in connection.execute(statements.OUTCOMES, {"decision_id": decision_id})]


def present_state(connection: sa.Connection, encoder: str) -> StoredState | None:
    """Return the present state for an encoder."""
    table = schema.states
    query = sa.select(table.c.sequence, table.c.data).where(table.c.encoder == encoder)
    row = connection.execute(query.order_by(table.c.sequence.desc()).limit(1)).one_or_none()
    return None if row is None else StoredState(row.sequence, row.data)


def feedback_row(row: Any) -> FeedbackRow:
    """Return a change of a label, from what `statements` selects of it."""
    return FeedbackRow(
        sequence=row.sequence,
        decision_id=row.decision_id,
        candidate=row.candidate,
        before=None if row.before is None else Label(row.before, row.before_weight),
        after=Label(row.after, row.after_weight),
        ranking=tuple(row.ranking),
        propensity=row.propensity,
        reason=row.reason,
        embedding=_embedding(row.embedding),
        encoder=row.encoder,
    )


def outcome_row(row: Any) -> OutcomeRow:
    """Return an outcome with its query, from what `statements` selects of it."""
    return OutcomeRow(
        sequence=row.sequence,
        decision_id=row.decision_id,
        outcome=_outcome(row),
        embedding=_embedding(row.embedding),
        encoder=row.encoder,
    )


def _tallied(connection: sa.Connection, name: str, condition: sa.ColumnElement[bool]) -> Counter[str]:
    """Return how much was dropped, by candidate."""
    table = schema.tallies
    query = sa.select(table.c.candidate, sa.func.sum(table.c.value)).where(table.c.name == name, condition)
    return Counter({row[0]: int(row[1]) for row in connection.execute(query.group_by(table.c.candidate))})


def _embedding(data: bytes) -> StoredEmbedding:
    return np.frombuffer(data, dtype=np.float16)


def _outcome(row: Any) -> Outcome:
    return Outcome(**{name: getattr(row, name) for name in _OUTCOME_FIELDS})
