"""An empty or older database -> one with the tables of today. A crash in between leaves what was there before."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from mixllm_engine.errors import StoreError
from mixllm_engine.store import schema
from mixllm_engine.store.transactions import Transactions, wait_to_prepare

# What leads from a version to the next, besides tables that are new. All of it is one transaction.
_STEPS: Final[Mapping[int, tuple[str, ...]]] = {
    1: (
        "ALTER TABLE mixllm_feedback ADD COLUMN weight FLOAT NOT NULL DEFAULT 1",
        "ALTER TABLE mixllm_feedback_log ADD COLUMN weight FLOAT NOT NULL DEFAULT 1",
        "ALTER TABLE mixllm_feedback_log ADD COLUMN before_weight FLOAT",
        "ALTER TABLE mixllm_feedback_log ADD COLUMN after_weight FLOAT NOT NULL DEFAULT 1",
        "UPDATE mixllm_feedback_log SET before_weight = 1 WHERE before IS NOT NULL",
    ),
    2: (
        "CREATE INDEX IF NOT EXISTS ix_mixllm_decisions_time_s ON mixllm_decisions (time_s)",
        "ALTER TABLE mixllm_decisions ADD COLUMN uncertainty_weight FLOAT",
        "ALTER TABLE mixllm_decisions ADD COLUMN penalty_weight FLOAT",
    ),
}


def prepare(transactions: Transactions, name: str) -> None:
    """Make the tables, or bring those of an older version up to date; nothing is lost.

    Parameters
    ----------
    transactions : Transactions
        Of the database.
    name : str
        How errors call it, without its password.

    Raises
    ------
    StoreError
        If the database belongs to something else, or was written by a newer version.
    """
    with transactions.asking() as connection:
        tables = set(sa.inspect(connection).get_table_names())
    if tables and schema.meta.name not in tables:
        raise StoreError(
            f"{name} is a database of something else (tables {', '.join(sorted(tables)[:5])}); "
            "give MixLLM a file, a database or a schema of its own"
        )
    with transactions.writing() as connection:
        wait_to_prepare(connection)
        schema.metadata.create_all(connection)
        known = {row.name: row.value for row in connection.execute(sa.select(schema.meta))}
        if not known:
            known = {"schema_version": str(schema.SCHEMA_VERSION), "identity": secrets.token_hex(16)}
            connection.execute(sa.insert(schema.meta), [{"name": n, "value": v} for n, v in known.items()])
        _migrate(connection, known.get("schema_version"), name)


def _migrate(connection: sa.Connection, found: str | None, name: str) -> None:
    version = int(found) if found and found.isdigit() else 0
    if not 1 <= version <= schema.SCHEMA_VERSION:
        raise StoreError(
            f"{name} has schema version {found!r}, this MixLLM reads versions 1 to {schema.SCHEMA_VERSION}; open it "
            "with the version that wrote it"
        )
    for older in range(version, schema.SCHEMA_VERSION):
        for statement in _STEPS[older]:
            connection.execute(sa.text(statement))
    if version != schema.SCHEMA_VERSION:
        newest = sa.update(schema.meta).where(schema.meta.c.name == "schema_version")
        connection.execute(newest.values(value=str(schema.SCHEMA_VERSION)))
