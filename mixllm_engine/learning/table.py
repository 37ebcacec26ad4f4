"""A table of outcomes -> arrays. Wide (one row per query) or long (one row per query and candidate).

Values that are missing stay missing: each candidate is taught by the rows that it has. In a wide table every row
counts, also one whose query was there before. In a long one a query is known by its text: rows of the same query and
candidate are measurements of the same thing, and their mean counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import TableError
from mixllm_engine.learning.columns import Columns, some
from mixllm_engine.types import Matrix, Vector

# What is known of an answer, and the largest value that it may have.
_KINDS = {"quality": 1.0, "cost_usd": np.inf, "prompt_tokens": np.inf, "response_tokens": np.inf}


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
    repeated : int
        Rows of a long table that were averaged with an earlier one of the same query and candidate.
    """

    texts: tuple[str, ...]
    candidates: tuple[str, ...]
    quality: Matrix
    cost_usd: Matrix
    response_tokens: Matrix
    prompt_tokens: Vector
    ignored: tuple[str, ...] = ()
    repeated: int = 0


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
    columns = Columns.of(source)
    texts = _texts(columns, text)
    if _is_wide(columns):
        return _wide(columns, texts, known)
    if "candidate" in columns and "quality" in columns:
        return _long(columns, texts, columns.words("candidate", "the candidate"), known)
    raise TableError(
        "the table is neither wide (columns like 'gpt-4o|quality', 'gpt-4o|cost_usd') nor long (columns 'candidate', "
        f"'quality', ...); it has {some(columns.names)}"
    )


def read_labels(source: Any, *, text: str, name: str) -> OutcomeTable:
    """Read the outcomes of one candidate: a table as `read_table` takes it, or one without the candidate's name.

    Parameters
    ----------
    source : data frame, Arrow table, mapping of columns, or path
        The table; a column ``quality`` without a column ``candidate`` is that of `name`.
    text : str
        Name of the column that holds the queries.
    name : str
        The candidate; what the table says of others is ignored.

    Raises
    ------
    TableError
        As for `read_table`.
    """
    columns = Columns.of(source)
    if _is_wide(columns) or "candidate" in columns or "quality" not in columns:
        return read_table(source, text=text, known=(name,))
    texts = _texts(columns, text)
    return _long(columns, texts, [name] * len(texts), (name,))


def _is_wide(columns: Columns) -> bool:
    return any(name.endswith("|quality") for name in columns.names)


def _texts(columns: Columns, text: str) -> list[str]:
    if text not in columns:
        raise TableError(
            f"the table has no column {text!r} for the queries; it has {some(columns.names)}; say text=..."
        )
    texts = columns.words(text, "the query")
    if not texts:
        raise TableError("the table has no rows")
    return texts


def _wide(columns: Columns, texts: list[str], known: Sequence[str]) -> OutcomeTable:
    named = [name.removesuffix("|quality") for name in columns.names if name.endswith("|quality")]
    present = tuple(name for name in known if name in named)
    if not present:
        raise TableError(
            f"no candidate of the pool ({some(known)}) has a '|quality' column; the table has {some(named)}"
        )
    grids = {kind: np.full((len(texts), len(present)), np.nan) for kind in _KINDS}
    for kind, highest in _KINDS.items():
        for place, name in enumerate(present):
            source = columns.find(f"{name}|{kind}")
            if source is not None:
                grids[kind][:, place] = columns.numbers(source, len(texts), highest=highest)
    prompts = _row_means(grids["prompt_tokens"])
    shared = columns.find("prompt_tokens")
    if shared is not None:
        prompts = np.where(np.isfinite(prompts), prompts, columns.numbers(shared, len(texts)))
    ignored = tuple(name for name in named if name not in known)
    return _table(texts, present, grids, prompts, ignored=ignored)


def _long(columns: Columns, texts: list[str], names: list[str], known: Sequence[str]) -> OutcomeTable:
    occurring = set(names)
    present = tuple(name for name in known if name in occurring)
    if not present:
        raise TableError(
            f"no candidate of the pool ({some(known)}) occurs in the table; it has {some(sorted(occurring))}"
        )
    if len(names) != len(texts):
        raise TableError(f"column 'candidate' has {len(names)} values for {len(texts)} queries")
    place = {name: position for position, name in enumerate(present)}
    counted = np.array([name in place for name in names])
    row_of: dict[str, int] = {}
    cells = np.array(
        [
            row_of.setdefault(text, len(row_of)) * len(present) + place[name]
            for text, name in zip(texts, names, strict=True)
            if name in place
        ]
    )
    shape = (len(row_of), len(present))
    grids = {}
    for kind, highest in _KINDS.items():
        source = columns.find(kind)
        grids[kind] = np.full(shape, np.nan)
        if source is not None:
            values = columns.numbers(source, len(texts), highest=highest, counted=counted)
            grids[kind] = _cell_means(values[counted], cells, shape)
    return _table(
        list(row_of),
        present,
        grids,
        _row_means(grids["prompt_tokens"]),
        ignored=tuple(sorted(occurring - set(known))),
        repeated=len(cells) - len(np.unique(cells)),
    )


def _table(
    texts: list[str],
    present: tuple[str, ...],
    grids: dict[str, Matrix],
    prompts: Vector,
    *,
    ignored: tuple[str, ...],
    repeated: int = 0,
) -> OutcomeTable:
    silent = [n for n, column in zip(present, grids["quality"].T, strict=True) if np.isnan(column).all()]
    if silent:
        raise TableError(f"no quality at all is known for {some(silent)}; leave the column out or fill it")
    return OutcomeTable(
        texts=tuple(texts),
        candidates=present,
        quality=grids["quality"],
        cost_usd=grids["cost_usd"],
        response_tokens=grids["response_tokens"],
        prompt_tokens=prompts,
        ignored=ignored,
        repeated=repeated,
    )


def _cell_means(values: Vector, cells: npt.NDArray[np.intp], shape: tuple[int, int]) -> Matrix:
    """Average the known values of every cell; NaN where there is none."""
    known = np.isfinite(values)
    size = shape[0] * shape[1]
    total = np.bincount(cells[known], weights=values[known], minlength=size)
    count = np.bincount(cells[known], minlength=size)
    means: Matrix = np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(shape)
    return means


def _row_means(grid: Matrix) -> Vector:
    """Average the known values of every row; NaN where there is none."""
    known = np.isfinite(grid)
    means: Vector = np.where(known, grid, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known.any(axis=1), means, np.nan)
