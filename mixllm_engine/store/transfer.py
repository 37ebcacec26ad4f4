"""A store <-> one file of JSON lines, to move a log from SQLite to PostgreSQL, or to keep a copy.

The first line says what the file is, each further one is a row, ``["mixllm_decisions", {...}]`` with bytes as base64,
and the last one holds the number of lines before it and their SHA-256. Sequences and the log's identity stay as they
were, so that a saved router that had read part of the log goes on where it was. Prompts are not in a store, hence not
in the file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, islice
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from mixllm_engine.errors import StoreError
from mixllm_engine.store import schema
from mixllm_engine.store.base import Store
from mixllm_engine.store.files import replacing
from mixllm_engine.store.sql import SqlStore
from mixllm_engine.store.transactions import wait_to_prepare
from mixllm_engine.types import Outcome, Score

_FORMAT: Final = "mixllm-log"
_BATCH: Final = 1000
# In this order no row refers to one that comes later.
_TABLES: Final[Mapping[str, sa.Table]] = {
    table.name: table
    for table in (
        schema.decisions,
        schema.outcomes,
        schema.links,
        schema.feedback,
        schema.feedback_log,
        schema.states,
        schema.tallies,
        schema.counters,
    )
}


def export_log(store: Store, path: str | PathLike[str]) -> dict[str, int]:
    """Write all that a store holds to a file, as it is at one moment, while workers go on.

    Returns
    -------
    dict of str to int
        Number of rows by table.

    Raises
    ------
    StoreError
        If the store is one in memory or can't be read, or the file can't be written; one that was there before is still
        there then.
    """
    rows = dict.fromkeys(_TABLES, 0)
    try:
        with replacing(Path(path)) as file, _durable(store).reading_at_one_moment() as connection:
            digest, lines = hashlib.sha256(), 0
            for line in _lines(connection, rows):
                digest.update(line)
                file.write(line)
                lines += 1
            file.write(_line({"lines": lines, "sha256": digest.hexdigest()}))
    except OSError as error:
        raise StoreError(f"the log can't be written to {str(path)!r}: {error.strerror}") from error
    return rows


def import_log(path: str | PathLike[str], store: Store) -> dict[str, int]:
    """Fill an empty store from a file; it takes all rows or none.

    Open routers only on the store that is written to from now on: two logs of one identity are not told apart.

    Returns
    -------
    dict of str to int
        Number of rows by table.

    Raises
    ------
    StoreError
        If the store is one in memory or not empty, or the file is damaged, incomplete, of another version, or something
        else.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise StoreError(f"{str(path)!r} is no regular file; a log is imported from one that was exported")
    try:
        with Path(path).open("rb") as file:
            lines = _checked_lines(file, str(path))
            file.seek(0)
            header = _checked_header(file.readline(), str(path))
            with _durable(store).writing() as connection:
                filled = _fill(
                    connection, str(header["identity"]), _rows(islice(file, lines - 1), str(path)), str(path)
                )
    except OSError as error:
        raise StoreError(f"the file {str(path)!r} can't be read: {error.strerror}") from error
    vars(store).pop("identity", None)  # it was another one until now
    return filled


def _durable(store: Store) -> SqlStore:
    if not isinstance(store, SqlStore):
        raise StoreError("only the log of a store in a database can be exported or imported, not one in memory")
    return store


# -- writing ---------------------------------------------------------------------------------------------------------


def _lines(connection: sa.Connection, rows: dict[str, int]) -> Iterator[bytes]:
    identity = connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.name == "identity")).scalar_one()
    yield _line({"format": _FORMAT, "version": schema.SCHEMA_VERSION, "identity": identity})
    for name, table in _TABLES.items():
        ordered = sa.select(table).order_by(*table.primary_key)
        for row in connection.execution_options(yield_per=_BATCH).execute(ordered).mappings():
            yield _line([name, {key: _plain(value) for key, value in row.items()}])
            rows[name] += 1


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


# -- reading ---------------------------------------------------------------------------------------------------------


def _checked_lines(file: Iterable[bytes], name: str) -> int:
    """Return the number of lines before the last one, which has to tell it, and their digest."""
    digest, lines, last = hashlib.sha256(), 0, b""
    for line in file:
        if last:
            digest.update(last)
            lines += 1
        last = line
    if lines == 0 or last != _line({"lines": lines, "sha256": digest.hexdigest()}):
        raise StoreError(f"{name!r} is not a log that MixLLM exported, or it is damaged or incomplete; export it again")
    return lines


def _checked_header(line: bytes, name: str) -> dict[str, Any]:
    header = _parsed(line, name)
    if not isinstance(header, dict) or header.get("format") != _FORMAT or "identity" not in header:
        raise StoreError(f"{name!r} holds something else than a log of MixLLM")
    if header.get("version") != schema.SCHEMA_VERSION:
        raise StoreError(
            f"{name!r} has schema version {header.get('version')!r}, this MixLLM imports version "
            f"{schema.SCHEMA_VERSION}: open the store with this MixLLM, then export it again"
        )
    return header


def _parsed(line: bytes, name: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{name!r} is damaged: a line is not JSON ({error})") from error


def _rows(lines: Iterable[bytes], name: str) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    lengths: dict[str, int] = {}  # of the embeddings, by encoder
    for line in lines:
        match _parsed(line, name):
            case [str(table), dict(row)] if table in _TABLES:
                checked = _checked_row(_TABLES[table], row, name)
                if table in _MEANT and not _MEANT[table](checked):
                    raise StoreError(f"{name!r} is damaged: a row of {table} holds what no decision or feedback can be")
                if table == schema.decisions.name:
                    length = len(checked["embedding"])
                    if lengths.setdefault(checked["encoder"], length) != length:
                        raise StoreError(f"{name!r} is damaged: one encoder made embeddings of several lengths")
                yield _TABLES[table], checked
            case _:
                raise StoreError(f"{name!r} is damaged: a line is not a row of a table")


def _checked_row(table: sa.Table, row: dict[str, Any], name: str) -> dict[str, Any]:
    if set(row) != set(table.columns.keys()):
        raise StoreError(f"{name!r} is damaged: a row of {table.name} has the columns {', '.join(map(repr, row))}")
    return {column.name: _checked_value(column, row[column.name], name) for column in table.columns}


def _checked_value(column: sa.Column[Any], value: Any, name: str) -> Any:
    if value is None and column.nullable:
        return None
    if isinstance(column.type, sa.LargeBinary) and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except ValueError as error:
            raise StoreError(f"{name!r} is damaged: {column} is not base64") from error
    if isinstance(column.type, sa.JSON) and isinstance(value, dict | list):
        return value
    if type(value) is (float if isinstance(column.type, sa.Float) else column.type.python_type):
        return value
    raise StoreError(f"{name!r} is damaged: {column} is of the type {type(value).__name__}")


def _is_decision(row: Mapping[str, Any]) -> bool:
    embedding, scores = row["embedding"], row["scores"]
    if not embedding or len(embedding) % 2 or not np.isfinite(np.frombuffer(embedding, dtype=np.float16)).all():
        return False
    if not isinstance(row["ranking"], list) or not all(isinstance(name, str) for name in row["ranking"]):
        return False
    if not isinstance(scores, dict) or not all(isinstance(score, dict) for score in scores.values()):
        return False
    return all(score.keys() <= _SCORE_FIELDS for score in scores.values()) and 0.0 <= row["propensity"] <= 1.0


def _is_outcome(row: Mapping[str, Any]) -> bool:
    try:
        Outcome(**{name: row[name] for name in _OUTCOME_FIELDS})
    except ValueError:
        return False
    return True


def _is_label(row: Mapping[str, Any]) -> bool:
    values = [row[name] for name in ("reward", "before", "after") if row.get(name) is not None]
    weights = [row[name] for name in ("weight", "before_weight", "after_weight") if row.get(name) is not None]
    paired = (row.get("before") is None) == (row.get("before_weight") is None)
    return paired and all(0.0 <= value <= 1.0 for value in values) and all(0.0 < weight <= 1.0 for weight in weights)


_SCORE_FIELDS: Final = Score.__dataclass_fields__.keys()
_OUTCOME_FIELDS: Final = tuple(Outcome.__dataclass_fields__)
_MEANT: Final[Mapping[str, Callable[[Mapping[str, Any]], bool]]] = {
    schema.decisions.name: _is_decision,
    schema.outcomes.name: _is_outcome,
    schema.feedback.name: _is_label,
    schema.feedback_log.name: _is_label,
}


def _fill(
    connection: sa.Connection, identity: str, rows: Iterable[tuple[sa.Table, dict[str, Any]]], name: str
) -> dict[str, int]:
    wait_to_prepare(connection)  # two imports into one store
    for table in _TABLES.values():
        if connection.execute(sa.select(sa.exists(table.select()))).scalar_one():
            raise StoreError(f"a log is imported into an empty store only, and this one has rows in {table.name}")
    connection.execute(sa.update(schema.meta).where(schema.meta.c.name == "identity").values(value=identity))
    filled = dict.fromkeys(_TABLES, 0)
    for table, group in groupby(rows, key=lambda pair: pair[0]):
        while batch := [row for _, row in islice(group, _BATCH)]:
            try:
                connection.execute(sa.insert(table), batch)
            except (OverflowError, UnicodeError) as error:  # the drivers' words for what they can't keep
                raise StoreError(f"{name!r} is damaged: {error}") from error
            filled[table.name] += len(batch)
        if connection.dialect.name == "postgresql" and "sequence" in table.columns:
            # The rows brought their numbers along; the next one must not begin from 1.
            following = sa.func.setval(
                sa.func.pg_get_serial_sequence(table.name, "sequence"), sa.func.max(table.c.sequence)
            )
            connection.execute(sa.select(following))
    return filled
