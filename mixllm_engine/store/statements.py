"""The statements that every decision and feedback needs: to build one takes several times as long as to execute it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mixllm_engine.store import schema

_decisions, _outcomes = schema.decisions, schema.outcomes
_feedback, _changes = schema.feedback, schema.feedback_log
_given_ids: Final = sa.bindparam("decision_ids", expanding=True, type_=sa.String)


@dataclass(frozen=True, kw_only=True)
class Statements:
    """What appends to the log, for one kind of database.

    What is written again, because it was not known whether the first time succeeded, is there once: a decision by its
    id, a link by itself, feedback because the same judgement changes nothing.
    """

    add_decision: sa.Insert
    add_prompt: sa.Insert
    add_outcome: sa.Insert
    add_link: sa.Insert
    put_feedback: sa.Insert
    add_label_change: sa.Insert
    count: sa.Insert
    tally: sa.Insert
    put_worker: sa.Insert
    chosen: sa.Select[Any]
    chosen_and_locked: sa.Select[Any]
    labels: sa.Select[Any]


@cache
def statements_for(dialect: str) -> Statements:
    """Return the statements for ``"sqlite"`` or ``"postgresql"``."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    put, count, worker = insert(_feedback), insert(schema.counters), insert(schema.workers)
    said = {name: put.excluded[name] for name in ("reward", "weight", "time_s")}
    tally = insert(schema.tallies)
    tells = {name: worker.excluded[name] for name in ("beat", "time_s", "data")}
    more = {"value": schema.counters.c.value + count.excluded.value}
    chosen = sa.select(_decisions.c.decision_id, _decisions.c.candidate).where(_decisions.c.decision_id.in_(_given_ids))
    answered = _outcomes.c.decision_id == _decisions.c.decision_id
    last = sa.select(_outcomes.c.candidate).where(answered, _outcomes.c.error.is_(None))
    answered_by = last.order_by(_outcomes.c.sequence.desc()).limit(1).correlate(_decisions).scalar_subquery()
    changes_of = sa.select(sa.func.max(_changes.c.sequence)).where(_changes.c.decision_id == _feedback.c.decision_id)
    latest = _changes.c.sequence == changes_of.correlate(_feedback).scalar_subquery()
    given = (_feedback.c.decision_id, _feedback.c.key, _feedback.c.reward, _feedback.c.weight)
    standing = (_changes.c.candidate, _changes.c.after, _changes.c.after_weight)
    return Statements(
        add_decision=insert(_decisions).on_conflict_do_nothing(),
        add_prompt=insert(schema.prompts).on_conflict_do_nothing(),
        add_outcome=insert(_outcomes),
        add_link=insert(schema.links).on_conflict_do_nothing(),
        put_feedback=put.on_conflict_do_update(index_elements=["decision_id", "key"], set_=said),
        add_label_change=insert(_changes),
        count=count.on_conflict_do_update(index_elements=["name"], set_=more),
        tally=tally.on_conflict_do_update(
            index_elements=["encoder", "candidate", "name"],
            set_={"value": schema.tallies.c.value + tally.excluded.value},
        ),
        put_worker=worker.on_conflict_do_update(index_elements=["name"], set_=tells),
        chosen=chosen,
        # Rows that refer to the locked ones may be added meanwhile.
        chosen_and_locked=chosen.add_columns(answered_by.label("answered_by"))
        .order_by(_decisions.c.decision_id)
        .with_for_update(key_share=True, of=_decisions),
        labels=sa.select(*given, *standing).join(_changes, latest).where(_feedback.c.decision_id.in_(_given_ids)),
    )


OUTCOMES: Final = (
    sa.select(_outcomes)
    .where(_outcomes.c.decision_id == sa.bindparam("decision_id", type_=sa.String))
    .order_by(_outcomes.c.sequence)
)


def _with_query(log: sa.Table, *more: sa.Column[Any]) -> sa.Select[Any]:
    joined = sa.select(log, _decisions.c.embedding, _decisions.c.encoder, *more).join(
        _decisions, _decisions.c.decision_id == log.c.decision_id
    )
    return joined.order_by(log.c.sequence)


def _after(rows: sa.Select[Any], log: sa.Table) -> sa.Select[Any]:
    behind = rows.where(log.c.sequence > sa.bindparam("position", type_=sa.BigInteger))
    return behind.limit(sa.bindparam("limit", type_=sa.Integer))


FEEDBACK: Final = _with_query(_changes, _decisions.c.ranking, _decisions.c.propensity, _decisions.c.reason)
OUTCOMES_WITH_QUERY: Final = _with_query(_outcomes)
FEEDBACK_AFTER: Final = _after(FEEDBACK, _changes)
OUTCOMES_AFTER: Final = _after(OUTCOMES_WITH_QUERY, _outcomes)
