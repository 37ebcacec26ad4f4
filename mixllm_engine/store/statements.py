"""The statements that every decision and feedback needs: to build one takes several times as long as to execute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mixllm_engine.store import schema

_decisions, _outcomes = schema.decisions, schema.outcomes
_feedback, _changes = schema.feedback, schema.feedback_log


class Insertion:
    """An INSERT in the driver's own words: through SQLAlchemy's types, each row takes three times as long.

    Parameters
    ----------
    statement : sqlalchemy.Insert
        What to do with a row.
    table : sqlalchemy.Table
        Every row gives all its columns, but those that the database numbers. Values of JSON columns are texts.
    dialect : sqlalchemy.Dialect
        Of the database and its driver.
    """

    def __init__(self, statement: sa.Insert, table: sa.Table, dialect: sa.Dialect) -> None:
        columns = [column.name for column in table.columns if column.autoincrement is not True]
        compiled: Any = statement.inline().compile(dialect=dialect, column_keys=columns)
        self._text = str(compiled)
        # Drivers take values by position or by name.
        self._values: Callable[[Mapping[str, Any]], Any] = (
            itemgetter(*compiled.positiontup) if compiled.positional else dict
        )

    def add(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert one or more rows."""
        connection.exec_driver_sql(self._text, [self._values(row) for row in rows])


@dataclass(frozen=True, kw_only=True)
class Statements:
    """What appends to the log, for one kind of database.

    What is written again, because it was not known whether the first time succeeded, is there once: a decision by its
    id, a link by itself, feedback because the same judgement changes nothing.
    """

    add_decision: Insertion
    add_prompt: Insertion
    add_outcome: Insertion
    add_link: Insertion
    put_feedback: Insertion
    add_label_change: Insertion
    count: Insertion
    tally: Insertion
    put_worker: Insertion
    chosen: sa.Select[Any]
    chosen_and_locked: sa.Select[Any]
    labels: sa.Select[Any]


_made: Final = WeakKeyDictionary[sa.Dialect, Statements]()


def statements_for(dialect: sa.Dialect) -> Statements:
    """Return the statements for SQLite or PostgreSQL; they are made once for each engine."""
    known = _made.get(dialect)
    if known is None:
        known = _made[dialect] = _make(dialect)
    return known


def _make(dialect: sa.Dialect) -> Statements:
    on_server = dialect.name == "postgresql"
    insert = postgresql.insert if on_server else sqlite.insert

    def insertion(statement: sa.Insert, table: sa.Table) -> Insertion:
        return Insertion(statement, table, dialect)

    def given(column: sa.Column[str]) -> sa.ColumnElement[bool]:
        # One parameter whatever the number of ids, so that the statement is always the same.
        if on_server:
            return column == sa.any_(sa.bindparam("decision_ids", type_=postgresql.ARRAY(sa.String)))
        ids = sa.func.json_each(sa.bindparam("decision_ids", type_=sa.JSON)).table_valued("value")
        return column.in_(sa.select(ids.c.value))

    put, count, worker = insert(_feedback), insert(schema.counters), insert(schema.workers)
    said = {name: put.excluded[name] for name in ("reward", "weight", "time_s")}
    tally = insert(schema.tallies)
    tells = {name: worker.excluded[name] for name in ("beat", "time_s", "data")}
    more = {"value": schema.counters.c.value + count.excluded.value}
    chosen = sa.select(_decisions.c.decision_id, _decisions.c.candidate).where(given(_decisions.c.decision_id))
    answered = _outcomes.c.decision_id == _decisions.c.decision_id
    last = sa.select(_outcomes.c.candidate).where(answered, _outcomes.c.error.is_(None))
    answered_by = last.order_by(_outcomes.c.sequence.desc()).limit(1).correlate(_decisions).scalar_subquery()
    changes_of = sa.select(sa.func.max(_changes.c.sequence)).where(_changes.c.decision_id == _feedback.c.decision_id)
    latest = _changes.c.sequence == changes_of.correlate(_feedback).scalar_subquery()
    latest_given = (_feedback.c.decision_id, _feedback.c.key, _feedback.c.reward, _feedback.c.weight)
    standing = (_changes.c.candidate, _changes.c.after, _changes.c.after_weight)
    return Statements(
        add_decision=insertion(insert(_decisions).on_conflict_do_nothing(), _decisions),
        add_prompt=insertion(insert(schema.prompts).on_conflict_do_nothing(), schema.prompts),
        add_outcome=insertion(insert(_outcomes), _outcomes),
        add_link=insertion(insert(schema.links).on_conflict_do_nothing(), schema.links),
        put_feedback=insertion(put.on_conflict_do_update(index_elements=["decision_id", "key"], set_=said), _feedback),
        add_label_change=insertion(insert(_changes), _changes),
        count=insertion(count.on_conflict_do_update(index_elements=["name"], set_=more), schema.counters),
        tally=insertion(
            tally.on_conflict_do_update(
                index_elements=["encoder", "candidate", "name"],
                set_={"value": schema.tallies.c.value + tally.excluded.value},
            ),
            schema.tallies,
        ),
        put_worker=insertion(worker.on_conflict_do_update(index_elements=["name"], set_=tells), schema.workers),
        chosen=chosen,
        # Rows that refer to the locked ones may be added meanwhile.
        chosen_and_locked=chosen.add_columns(answered_by.label("answered_by"))
        .order_by(_decisions.c.decision_id)
        .with_for_update(key_share=True, of=_decisions),
        labels=sa.select(*latest_given, *standing).join(_changes, latest).where(given(_feedback.c.decision_id)),
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
