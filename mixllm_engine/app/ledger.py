"""What a log says of its candidates without any learning: who was in the pool, who answered, and at what cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.encoding.surface import vector_space
from mixllm_engine.store import schema
from mixllm_engine.store.sql import SqlStore


@dataclass(frozen=True, kw_only=True)
class Account:
    """What came back from one candidate.

    Attributes
    ----------
    outcomes : int
        Attempts, those that were dropped from the log since included.
    kept : int
        Attempts that the log still holds; the following are of these.
    failures : int
        Attempts that brought an error.
    spend_usd : float
        What they cost, as far as that is known.
    unpriced : int
        Answers whose cost is not known.
    """

    outcomes: int = 0
    kept: int = 0
    failures: int = 0
    spend_usd: float = 0.0
    unpriced: int = 0


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The log at one moment.

    Attributes
    ----------
    encoder : str or None
        Fingerprint of the encoder that made the vectors: the packaged one's where any decision has it, else that of the
        newest decision; ``None`` where there is no decision.
    pool : tuple of str
        Who was in the pool of that encoder's newest decision.
    accounts : dict of str to Account
        By candidate.
    """

    encoder: str | None
    pool: tuple[str, ...]
    accounts: dict[str, Account]


def packaged_spaces() -> dict[str, bool]:
    """Name the vector spaces of the encoder that is part of this package, which is not loaded.

    Returns
    -------
    dict of str to bool
        Whether the surface of texts is in it; the default configuration's comes first.
    """
    return {vector_space(OnnxEncoder().fingerprint, surface=surface): surface for surface in (True, False)}


def read_ledger(store: SqlStore) -> Ledger:
    """Read what a log says, if possible of the decisions with the packaged encoder, or raise `StoreError`."""
    ours = schema.decisions.c.encoder.in_(packaged_spaces())
    with store.reading_at_one_moment() as connection:
        newest = _newest(connection, ours) or _newest(connection, sa.true())
        accounts = _accounts(connection)
    if newest is None:
        return Ledger(encoder=None, pool=(), accounts=accounts)
    return Ledger(encoder=newest.encoder, pool=tuple(sorted(newest.scores)), accounts=accounts)


def _newest(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> sa.Row[Any, Any] | None:
    table = schema.decisions
    query = sa.select(table.c.encoder, table.c.scores).where(condition).order_by(table.c.time_s.desc()).limit(1)
    return connection.execute(query).one_or_none()


def _accounts(connection: sa.Connection) -> dict[str, Account]:
    table, tallies = schema.outcomes, schema.tallies
    failed, unknown = table.c.error.is_not(None), table.c.cost_usd.is_(None)
    query = sa.select(
        table.c.candidate,
        sa.func.count(),
        sa.func.sum(sa.case((failed, 1), else_=0)),
        sa.func.sum(sa.func.coalesce(table.c.cost_usd, 0.0)),
        sa.func.sum(sa.case((~failed & unknown, 1), else_=0)),
    ).group_by(table.c.candidate)
    dropped_query = sa.select(tallies.c.candidate, tallies.c.value).where(tallies.c.name == "outcomes")
    dropped = Counter[str]()
    for name, value in connection.execute(dropped_query):
        dropped[name] += int(value)
    accounts = {name: Account(outcomes=value) for name, value in dropped.items()}
    for name, kept, failures, spend_usd, unpriced in connection.execute(query):
        accounts[name] = Account(
            outcomes=int(kept) + dropped[name],
            kept=int(kept),
            failures=int(failures),
            spend_usd=float(spend_usd),
            unpriced=int(unpriced),
        )
    return accounts
