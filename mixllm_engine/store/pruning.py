"""What is old is dropped, once a state knows what it taught. All of it is one transaction.

A decision goes with its outcomes, labels, links and prompt. Whoever drops holds the lock of the states, and the rows of
the decisions, so that nothing is added to them meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from mixllm_engine.store import schema, statements
from mixllm_engine.store.base import Fold, Pruned, Surplus
from mixllm_engine.store.reading import feedback_row, outcome_row, present_state
from mixllm_engine.store.statements import statements_for

# What refers to a decision.
_PARTS: Final = (schema.links, schema.prompts, schema.feedback, schema.feedback_log, schema.outcomes)
_AT_ONCE: Final = 500  # ids in one statement: databases bound the number of parameters


def lock_states(connection: sa.Connection) -> None:
    """Let one transaction at a time change a state."""
    # One row that always exists is locked (on SQLite: the whole file); a state's own row may not exist yet.
    connection.execute(sa.select(schema.meta).where(schema.meta.c.name == "identity").with_for_update())


def put_state(connection: sa.Connection, encoder: str, data: bytes, time_s: float) -> int:
    """Keep a state in place of the present one; returns its number."""
    table = schema.states
    row = {"encoder": encoder, "data": data, "time_s": time_s}
    added = connection.execute(sa.insert(table).returning(table.c.sequence), row).scalar_one()
    connection.execute(sa.delete(table).where(table.c.encoder == encoder, table.c.sequence < added))
    return int(added)


def prune(connection: sa.Connection, surplus: Surplus, fold: Fold, limit: int, time_s: float) -> Pruned | None:
    """Drop decisions, oldest first, in exchange for a state; see `store.base.Store.prune`."""
    lock_states(connection)
    decisions = _surplus(connection, surplus, limit)
    ids = [row.decision_id for row in decisions]
    if not ids:
        return None
    judged = _rows(connection, statements.FEEDBACK, schema.feedback_log, ids)
    answered = _rows(connection, statements.OUTCOMES_WITH_QUERY, schema.outcomes, ids)
    before = present_state(connection, surplus.encoder)
    data = fold(before, [feedback_row(row) for row in judged], [outcome_row(row) for row in answered])
    if data is None:
        return None
    number = put_state(connection, surplus.encoder, data, time_s)
    _tally(connection, surplus.encoder, decisions, judged, answered, ids)
    for part in (*_PARTS, schema.decisions):
        for some in _some(ids):
            connection.execute(sa.delete(part).where(part.c.decision_id.in_(some)))
    return Pruned(len(ids), number)


def forget_prompts(connection: sa.Connection, before_s: float) -> int:
    """Drop the texts of prompts of decisions made before a time; returns their number."""
    decisions, prompts = schema.decisions, schema.prompts
    old = sa.select(decisions.c.decision_id).where(decisions.c.time_s < before_s)
    return connection.execute(sa.delete(prompts).where(prompts.c.decision_id.in_(old))).rowcount


def _surplus(connection: sa.Connection, surplus: Surplus, limit: int) -> Sequence[Any]:
    table = schema.decisions
    own = table.c.encoder == surplus.encoder
    many = 0
    if surplus.most is not None:
        many = max(0, connection.execute(sa.select(sa.func.count()).where(own)).scalar_one() - surplus.most)
    query = sa.select(table.c.decision_id, table.c.candidate, table.c.explored, table.c.time_s).where(own)
    query = query.order_by(table.c.time_s, table.c.decision_id).limit(limit).with_for_update()
    oldest = connection.execute(query).all()
    before_s = -float("inf") if surplus.before_s is None else surplus.before_s
    kept = _latest(connection)
    return [
        row for rank, row in enumerate(oldest) if (rank < many or row.time_s < before_s) and row.decision_id not in kept
    ]


def _latest(connection: sa.Connection) -> set[str]:
    """Return whose rows are the latest of the logs: SQLite would give their numbers to the next rows once more."""
    logs = (schema.feedback_log, schema.outcomes)
    queries = (sa.select(log.c.decision_id).order_by(log.c.sequence.desc()).limit(1) for log in logs)
    return {found for query in queries for found in connection.execute(query).scalars()}


def _rows(connection: sa.Connection, query: sa.Select[Any], table: sa.Table, ids: Sequence[str]) -> list[Any]:
    found = (connection.execute(query.where(table.c.decision_id.in_(some))) for some in _some(ids))
    return sorted((row for rows in found for row in rows), key=lambda row: row.sequence)


def _some(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]


def _tally(
    connection: sa.Connection,
    encoder: str,
    decisions: Sequence[Any],
    judged: Sequence[Any],
    answered: Sequence[Any],
    ids: Sequence[str],
) -> None:
    counted = Counter[tuple[str, str]]()
    counted.update((row.candidate, "decisions") for row in decisions)
    counted.update((row.candidate, "exploring_draws") for row in decisions if row.explored)
    counted.update((row.candidate, "outcomes") for row in answered)
    counted.update((row.candidate, "feedback_log") for row in judged)
    chosen = {row.decision_id: row.candidate for row in decisions}
    for some in _some(ids):
        table = schema.feedback
        keys = connection.execute(sa.select(table.c.decision_id).where(table.c.decision_id.in_(some))).scalars()
        counted.update((chosen[decision_id], "feedback") for decision_id in keys)
    rows = [
        {"encoder": encoder, "candidate": candidate, "name": name, "value": value}
        for (candidate, name), value in sorted(counted.items())
    ]
    statements_for(connection.dialect).tally.add(connection, rows)
