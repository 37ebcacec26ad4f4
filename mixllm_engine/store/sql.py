"""The log in a database: SQLite in WAL mode, or PostgreSQL.

A transaction that returned is on disk (SQLite: ``synchronous=FULL``; PostgreSQL: as its server is set up), so what was
acknowledged survives ``kill -9``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite

from mixllm_engine.errors import StoreError, UnknownDecisionError
from mixllm_engine.store import schema, statements
from mixllm_engine.store.base import (
    DecisionRecord,
    FeedbackRow,
    OutcomeRow,
    StoreCounts,
    StoredEmbedding,
    change_label,
    credited_candidate,
    unknown_decision,
)
from mixllm_engine.store.engines import at_one_moment, make_engine, reading, wait_to_append
from mixllm_engine.store.preparing import prepare
from mixllm_engine.types import Decision, FeedbackReceipt, Label, Outcome, Score

_OUTCOME_FIELDS = tuple(Outcome.__dataclass_fields__)
_SCORE_FIELDS = tuple(Score.__dataclass_fields__)


class SqlStore:
    """A durable store.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        SQLAlchemy URL, such as ``sqlite:////var/lib/mixllm.db`` or ``postgresql+psycopg://user@host/name``. Its
        password is never shown.

    Raises
    ------
    StoreError
        If the database can't be reached, is damaged, belongs to something else, or has another schema version.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self._engine = make_engine(url)
        self._reader = reading(self._engine)
        self._name = repr(self._engine.url.render_as_string(hide_password=True))
        try:
            with self._guarded():
                prepare(self._engine, self._name)
        except StoreError:
            self.close()
            raise

    @cached_property
    def identity(self) -> str:
        """The random name of this log."""
        with self._reading() as connection:
            query = sa.select(schema.meta.c.value).where(schema.meta.c.name == "identity")
            return str(connection.execute(query).scalar_one())

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn the driver's errors into ours; they name the file, never the password or a statement's values."""
        try:
            yield
        except (exc.DBAPIError, exc.TimeoutError) as error:
            said = str(error.orig if isinstance(error, exc.DBAPIError) else error)
            first, _, _ = said.partition("\n")  # PostgreSQL's further lines repeat values
            raise StoreError(f"the store {self._name} can't be used: {first}") from error

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Begin a transaction; what it wrote is durable when it ends well, and undone when it does not."""
        with self._guarded(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading_at_one_moment(self) -> Iterator[sa.Connection]:
        """Begin a transaction that sees nothing of what others write meanwhile, and does not hinder them."""
        with self._guarded(), at_one_moment(self._engine).connect() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._guarded(), self._reader.connect() as connection:
            yield connection

    # -- writing -----------------------------------------------------------------------------------------------------

    def add_decision(self, record: DecisionRecord) -> None:
        """Keep a decision."""
        decision = record.decision
        lambda_ = decision.willingness_to_pay
        row = {
            "decision_id": decision.decision_id,
            "time_s": decision.time_s,
            "policy": record.policy,
            "encoder": record.encoder,
            "candidate": decision.candidate,
            "propensity": decision.propensity,
            "explored": decision.explored,
            "reason": decision.reason,
            "willingness_to_pay": lambda_ if math.isfinite(lambda_) else None,
            "prompt_tokens": record.prompt_tokens,
            "ranking": list(decision.ranking),
            "scores": {name: _fields(score, _SCORE_FIELDS) for name, score in decision.scores.items()},
            "embedding": record.embedding.tobytes(),
        }
        with self.writing() as connection:
            connection.execute(statements.ADD_DECISION, row)

    def add_outcome(self, decision_id: str, outcome: Outcome, time_s: float) -> None:
        """Keep an outcome, or raise `UnknownDecisionError`."""
        with self.writing() as connection:
            self._chosen(connection, decision_id)
            row = {"decision_id": decision_id, "time_s": time_s, **_fields(outcome, _OUTCOME_FIELDS)}
            wait_to_append(connection, schema.outcomes)
            connection.execute(statements.ADD_OUTCOME, row)

    def link(self, decision_id: str, names: Sequence[str]) -> None:
        """Let names lead to a decision, or raise `UnknownDecisionError`."""
        table = schema.links
        with self.writing() as connection:
            self._chosen(connection, decision_id, lock=True)
            known = connection.execute(sa.select(table.c.name).where(table.c.decision_id == decision_id)).scalars()
            new = dict.fromkeys(names).keys() - set(known)
            if new:
                connection.execute(sa.insert(table), [{"name": n, "decision_id": decision_id} for n in sorted(new)])

    def add_feedback(self, decision_id: str, key: str, label: Label, time_s: float) -> FeedbackReceipt:
        """Keep feedback, credited to the candidate that answered, or raise `UnknownDecisionError`."""
        try:
            with self.writing() as connection:
                return self._write_feedback(connection, decision_id, key, label, time_s)
        except UnknownDecisionError:
            self._count("feedback_unmatched")
            raise

    def _write_feedback(
        self, connection: sa.Connection, decision_id: str, key: str, label: Label, time_s: float
    ) -> FeedbackReceipt:
        # The decision's row is locked (on SQLite: the whole file), so that two workers can't both read the old label.
        chosen = self._chosen(connection, decision_id, lock=True)
        candidate = credited_candidate(chosen, self._outcomes(connection, decision_id))
        table = schema.feedback
        given = connection.execute(statements.LABELS, {"decision_id": decision_id})
        known = {row.key: Label(row.reward, row.weight) for row in given}
        change = change_label(known, key, label)
        where = {"decision_id": decision_id, "key": key}
        said = {"reward": label.value, "weight": label.weight, "time_s": time_s}
        if change.status == "applied":
            connection.execute(statements.ADD_FEEDBACK, {**where, **said})
        elif change.status == "replaced":
            chosen_row = (table.c.decision_id == decision_id) & (table.c.key == key)
            connection.execute(sa.update(table).where(chosen_row).values(said))
        if change.status == "duplicate":
            self._count("feedback_duplicate", connection)
        else:
            before, before_weight = change.before or (None, None)
            after, after_weight = change.after
            log = {"before": before, "before_weight": before_weight, "after": after, "after_weight": after_weight}
            wait_to_append(connection, schema.feedback_log)
            connection.execute(statements.ADD_LABEL_CHANGE, {**where, **said, "candidate": candidate, **log})
        return FeedbackReceipt(
            decision_id=decision_id, candidate=candidate, key=key, reward=label.value, status=change.status
        )

    def change_state(self, encoder: str, change: Callable[[bytes | None], bytes], time_s: float) -> None:
        """Keep what tables taught, made from the latest state for an encoder; nobody changes it in between."""
        with self.writing() as connection:
            # One row that always exists is locked (on SQLite: the whole file); a state's own row may not exist yet.
            connection.execute(sa.select(schema.meta).where(schema.meta.c.name == "identity").with_for_update())
            data = change(self._state(connection, encoder))
            connection.execute(sa.insert(schema.states), {"encoder": encoder, "data": data, "time_s": time_s})

    def _count(self, name: str, connection: sa.Connection | None = None) -> None:
        if connection is None:
            with self.writing() as own:
                return self._count(name, own)
        table = schema.counters
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        first = insert(table).values(name=name, value=1)
        connection.execute(first.on_conflict_do_update(index_elements=["name"], set_={"value": table.c.value + 1}))
        return None

    # -- reading -----------------------------------------------------------------------------------------------------

    def decision(self, decision_id: str) -> DecisionRecord:
        """Return a decision, or raise `UnknownDecisionError`."""
        query = sa.select(schema.decisions).where(schema.decisions.c.decision_id == decision_id)
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
        )
        return DecisionRecord(
            decision=decision,
            embedding=_embedding(row.embedding),
            encoder=row.encoder,
            policy=row.policy,
            prompt_tokens=row.prompt_tokens,
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
        return [
            FeedbackRow(
                sequence=row.sequence,
                decision_id=row.decision_id,
                candidate=row.candidate,
                before=None if row.before is None else Label(row.before, row.before_weight),
                after=Label(row.after, row.after_weight),
                ranking=tuple(row.ranking),
                embedding=_embedding(row.embedding),
                encoder=row.encoder,
            )
            for row in self._after(statements.FEEDBACK_AFTER, sequence, limit)
        ]

    def outcomes_after(self, sequence: int, limit: int) -> Sequence[OutcomeRow]:
        """Return outcomes behind a position of the log, oldest first."""
        return [
            OutcomeRow(
                sequence=row.sequence,
                decision_id=row.decision_id,
                outcome=_outcome(row),
                embedding=_embedding(row.embedding),
                encoder=row.encoder,
            )
            for row in self._after(statements.OUTCOMES_AFTER, sequence, limit)
        ]

    def _after(self, statement: sa.Select[Any], sequence: int, limit: int) -> Sequence[Any]:
        with self._reading() as connection:
            return connection.execute(statement, {"position": sequence, "limit": limit}).all()

    def latest_state(self, encoder: str) -> bytes | None:
        """Return what tables taught, for an encoder."""
        with self._reading() as connection:
            return self._state(connection, encoder)

    def feedback_of(self, encoder: str) -> int:
        """Count the feedback to decisions whose vectors an encoder made."""
        feedback, decisions = schema.feedback, schema.decisions
        query = (
            sa.select(sa.func.count())
            .select_from(feedback.join(decisions, decisions.c.decision_id == feedback.c.decision_id))
            .where(decisions.c.encoder == encoder)
        )
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def exploring_draws(self) -> Mapping[str, int]:
        """Count the exploring draws of each candidate."""
        return self._per_candidate(schema.decisions.c.explored)

    def choices(self) -> Mapping[str, int]:
        """Count the decisions for each candidate."""
        return self._per_candidate(sa.true())

    def _per_candidate(self, condition: sa.ColumnElement[bool]) -> Mapping[str, int]:
        candidate = schema.decisions.c.candidate
        query = sa.select(candidate, sa.func.count()).where(condition).group_by(candidate)
        with self._reading() as connection:
            return {name: count for name, count in connection.execute(query)}

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
                n: connection.execute(sa.select(sa.func.count()).select_from(t)).scalar_one() for n, t in tables.items()
            }
            noted = {row.name: row.value for row in connection.execute(sa.select(schema.counters))}
        return StoreCounts(
            **sizes,
            feedback_duplicate=noted.get("feedback_duplicate", 0),
            feedback_unmatched=noted.get("feedback_unmatched", 0),
        )

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @staticmethod
    def _state(connection: sa.Connection, encoder: str) -> bytes | None:
        table = schema.states
        query = sa.select(table.c.data).where(table.c.encoder == encoder).order_by(table.c.sequence.desc()).limit(1)
        data: bytes | None = connection.execute(query).scalar_one_or_none()
        return data

    @staticmethod
    def _chosen(connection: sa.Connection, decision_id: str, *, lock: bool = False) -> str:
        statement = statements.CHOSEN_AND_LOCKED if lock else statements.CHOSEN
        chosen = connection.execute(statement, {"decision_id": decision_id}).scalar_one_or_none()
        if chosen is None:
            raise UnknownDecisionError(unknown_decision(decision_id))
        return str(chosen)

    @staticmethod
    def _outcomes(connection: sa.Connection, decision_id: str) -> Sequence[Outcome]:
        return [_outcome(row) for row in connection.execute(statements.OUTCOMES, {"decision_id": decision_id})]


def _fields(value: Outcome | Score, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}  # `asdict` would copy what can't change


def _embedding(data: bytes) -> StoredEmbedding:
    return np.frombuffer(data, dtype=np.float16)


def _outcome(row: Any) -> Outcome:
    return Outcome(**{name: getattr(row, name) for name in _OUTCOME_FIELDS})
