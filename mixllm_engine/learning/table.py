"""A table of outcomes -> arrays. Wide (one row per query) or long (one row per query and candidate).

Accepted are pandas data frames, Arrow tables, mappings of columns, and paths of parquet or CSV files. Values that are
missing stay missing: each candidate is taught by the rows that it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from mixllm_engine.errors import TableError
from mixllm_engine.types import Matrix, Vector

_KINDS = ("quality", "cost_usd", "prompt_tokens", "response_tokens")
_LONG = ("candidate", "quality")


@dataclass(frozen=True, kw_only=True)
class OutcomeTable:
    """Outcomes of n queries and K candidates; NaN = not known.

    Attributes
    ----------
    texts : tuple of str
        The queries.
    candidates : tuple of str
        Names, in the order of the columns below.
    quality : array of shape (n, K)
        In [0, 1].
    cost_usd, response_tokens : array of shape (n, K)
        Cost and length of each answer.
    prompt_tokens : array of shape (n,)
        Length of each prompt.
    ignored : tuple of str
        Candidates of the table that are not in the pool.
    """

    texts: tuple[str, ...]
    candidates: tuple[str, ...]
    quality: Matrix
    cost_usd: Matrix
    response_tokens: Matrix
    prompt_tokens: Vector
    ignored: tuple[str, ...] = ()


def read_table(source: Any, *, text: str, known: Sequence[str]) -> OutcomeTable:
    """Read and check a table.

    Parameters
    ----------
    source : data frame, Arrow table, mapping of columns, or path
        The table.
    text : str
        Name of the column that holds the queries; in long form it also tells which rows belong together.
    known : sequence of str
        Names of the pool's candidates; others are ignored.

    Raises
    ------
    TableError
        If columns are missing or values can't be right; the message names the first bad row.
    """
    columns = _columns(source)
    if text not in columns:
        raise TableError(f"the table has no column {text!r} for the queries; it has {_some(columns)}; say text=...")
    table = _wide(columns, text, known) if _is_wide(columns) else _long(columns, text, known)
    _check(table)
    return table


def _is_wide(columns: Mapping[str, Sequence[Any]]) -> bool:
    if any(name.endswith("|quality") for name in columns):
        return True
    if all(name in columns for name in _LONG):
        return False
    raise TableError(
        "the table is neither wide (columns like 'gpt-4o|quality', 'gpt-4o|cost_usd') nor long (columns 'candidate', "
        f"'quality', ...); it has {_some(columns)}"
    )


def _columns(source: Any) -> dict[str, Sequence[Any]]:
    if isinstance(source, str | PathLike):
        source = _read_file(Path(fspath(source)))
    if isinstance(source, Mapping):
        return {str(name): list(values) for name, values in source.items()}
    if hasattr(source, "column_names"):  # Arrow
        return {name: source.column(name).to_pylist() for name in source.column_names}
    if hasattr(source, "columns") and hasattr(source, "to_dict"):  # pandas
        return {str(name): source[name].tolist() for name in source.columns}
    raise TableError(
        f"a table is a pandas data frame, an Arrow table, a mapping of columns or a path, not {type(source).__name__}"
    )


def _read_file(path: Path) -> Any:
    try:
        from pyarrow import ArrowException, csv, parquet
    except ImportError as error:
        raise TableError('reading files needs pyarrow: pip install "mixllm[evaluate]"') from error
    readers = {".parquet": parquet.read_table, ".csv": csv.read_csv}
    if path.suffix.lower() not in readers:
        raise TableError(f"{path.name!r}: a table's file ends in {' or '.join(readers)}")
    try:
        return readers[path.suffix.lower()](path)
    except (OSError, ArrowException) as error:
        raise TableError(f"{path.name!r} can't be read as a table: {error}") from error


def _wide(columns: Mapping[str, Sequence[Any]], text: str, known: Sequence[str]) -> OutcomeTable:
    texts = tuple(str(value) for value in columns[text])
    named = [name.removesuffix("|quality") for name in columns if name.endswith("|quality")]
    present = tuple(name for name in known if name in named)
    if not present:
        raise TableError(
            f"no candidate of the pool ({_some(known)}) has a '|quality' column; the table has {_some(named)}"
        )
    values = {kind: _stack(columns, present, kind, len(texts)) for kind in _KINDS}
    shared = _find(columns, "prompt_tokens")
    prompts = (
        np.nanmean(values["prompt_tokens"], axis=1) if np.isfinite(values["prompt_tokens"]).any(axis=1).all() else None
    )
    if prompts is None:
        prompts = _numbers(columns[shared], shared) if shared else np.full(len(texts), np.nan)
    return OutcomeTable(
        texts=texts,
        candidates=present,
        quality=values["quality"],
        cost_usd=values["cost_usd"],
        response_tokens=values["response_tokens"],
        prompt_tokens=prompts,
        ignored=tuple(name for name in named if name not in known),
    )


def _stack(columns: Mapping[str, Sequence[Any]], names: Sequence[str], kind: str, rows: int) -> Matrix:
    """Put the columns of one kind side by side, NaN where a candidate has none."""
    found = [_find(columns, f"{name}|{kind}") for name in names]
    return np.stack([_numbers(columns[c], c) if c else np.full(rows, np.nan) for c in found], axis=1)


def _find(columns: Iterable[str], name: str) -> str | None:
    """Find a column by its name, or by its name with a suffix that says which tokenizer counted."""
    names = list(columns)
    if name in names:
        return name
    return next(
        (c for c in names if name.endswith("_tokens") and c.startswith(f"{name}_") and "|" not in c[len(name) :]), None
    )


def _long(columns: Mapping[str, Sequence[Any]], text: str, known: Sequence[str]) -> OutcomeTable:
    names = [str(value) for value in columns["candidate"]]
    present = tuple(name for name in known if name in set(names))
    if not present:
        raise TableError(
            f"no candidate of the pool ({_some(known)}) occurs in the table; it has {_some(sorted(set(names)))}"
        )
    queries = [str(value) for value in columns[text]]
    row_of = {query: row for row, query in enumerate(dict.fromkeys(queries))}
    column_of = {name: column for column, name in enumerate(present)}
    grids = {kind: np.full((len(row_of), len(present)), np.nan) for kind in _KINDS}
    for kind, grid in grids.items():
        source = _find(columns, kind)
        values = _numbers(columns[source], source) if source else np.full(len(queries), np.nan)
        for query, name, value in zip(queries, names, values, strict=True):
            if name in column_of:
                grid[row_of[query], column_of[name]] = value
    prompts = grids["prompt_tokens"]
    counted = np.isfinite(prompts)
    mean = np.where(counted, prompts, 0.0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return OutcomeTable(
        texts=tuple(row_of),
        candidates=present,
        quality=grids["quality"],
        cost_usd=grids["cost_usd"],
        response_tokens=grids["response_tokens"],
        prompt_tokens=np.where(counted.any(axis=1), mean, np.nan),
        ignored=tuple(sorted(set(names) - set(known))),
    )


def _numbers(values: Sequence[Any], column: str) -> Vector:
    try:
        return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TableError(f"column {column!r} must hold numbers: {error}") from error


def _check(table: OutcomeTable) -> None:
    if not table.texts:
        raise TableError("the table has no rows")
    for row, query in enumerate(table.texts):
        if not query.strip():
            raise TableError(f"row {row}: the query is empty")
    with np.errstate(invalid="ignore"):
        _refuse(
            table,
            table.quality,
            (table.quality < 0) | (table.quality > 1) | np.isinf(table.quality),
            "quality",
            "in [0, 1]",
        )
        for name in ("cost_usd", "response_tokens"):
            values: Matrix = getattr(table, name)
            _refuse(table, values, (values < 0) | np.isinf(values), name, "finite and at least 0")
        prompts = table.prompt_tokens
        _refuse(table, prompts, (prompts < 0) | np.isinf(prompts), "prompt_tokens", "finite and at least 0")
    silent = [n for n, column in zip(table.candidates, table.quality.T, strict=True) if np.isnan(column).all()]
    if silent:
        raise TableError(f"no quality at all is known for {_some(silent)}; leave the column out or fill it")


def _refuse(table: OutcomeTable, values: Vector | Matrix, bad: Any, name: str, allowed: str) -> None:
    if bad.any():
        where = np.argwhere(bad)[0]
        who = f" of {table.candidates[where[1]]!r}" if len(where) > 1 else ""
        found = f"row {where[0]}: {name}{who} is {float(values[tuple(where)])!r}"
        raise TableError(f"{found}, it must be {allowed} ({int(bad.sum())} such values)")


def _some(names: Iterable[str], most: int = 8) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
