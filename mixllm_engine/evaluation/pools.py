"""A pool of recorded outcomes: what every LLM answered to every query, so that any policy can be replayed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import TableError
from mixllm_engine.learning.columns import Columns
from mixllm_engine.learning.table import OutcomeTable, read_table
from mixllm_engine.types import Matrix, Query, Vector

Rows = Sequence[int] | npt.NDArray[np.integer[Any]]
_TEXT_COLUMNS = ("question", "query", "prompt")
_TOLD = ("quality", "cost_usd", "response_tokens")
_BY_ANSWER = (*_TOLD, "latency_s")
_FIELDS = (*_BY_ANSWER, "prompt_tokens")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the rows of a pool come from, and what may be done with them.

    Attributes
    ----------
    name : str
        What the data set is called.
    about : str
        Sentences: what was recorded, what is estimated.
    licence : str, optional
        SPDX identifier; ``None`` = not known.
    url : str, optional
        Where to read more.
    """

    name: str
    about: str
    licence: str | None = None
    url: str | None = None

    def __str__(self) -> str:
        parts = (f"{self.name}: {self.about}", f"Licence: {self.licence or 'not known'}.", self.url)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True, eq=False)
class FullFeedback:
    """Outcomes of n queries by K candidates without any gap.

    Attributes
    ----------
    name : str
        What to call the pool in tables.
    texts : tuple of str
        The queries.
    names : tuple of str
        The candidates, sorted: the order of all columns, and of a router's arrays.
    quality : array of shape (n, K)
        In [0, 1].
    cost_usd : array of shape (n, K)
        What each answer cost, in dollars.
    prompt_tokens : array of shape (n,)
        Length of each prompt as it was billed; NaN everywhere where the table has none.
    response_tokens : array of shape (n, K)
        Length of each answer; NaN everywhere where the table has none.
    latency_s : array of shape (n, K), optional
        How long each answer took; NaN for a candidate without any, ``None`` where the table has none.
    domains : tuple of str, optional
        Domain of each query.
    dropped : int
        Rows of the table that were left out because something was missing in them.
    source : Source, optional
        Where the rows come from.
    """

    name: str
    texts: tuple[str, ...]
    names: tuple[str, ...]
    quality: Matrix
    cost_usd: Matrix
    prompt_tokens: Vector
    response_tokens: Matrix
    latency_s: Matrix | None = None
    domains: tuple[str, ...] | None = None
    dropped: int = 0
    source: Source | None = None

    def __len__(self) -> int:
        """Count the queries."""
        return len(self.texts)

    # -- parts -------------------------------------------------------------------------------------------------------

    def take(self, rows: Rows) -> FullFeedback:
        """Return some rows, in the order in which they are given."""
        chosen = np.asarray(rows, dtype=np.intp)
        listed = chosen.tolist()
        return dataclasses.replace(
            self,
            texts=tuple(self.texts[row] for row in listed),
            domains=None if self.domains is None else tuple(self.domains[row] for row in listed),
            **{field: values[chosen] for field, values in self._arrays(_FIELDS).items()},
        )

    def joined(self, other: FullFeedback) -> FullFeedback:
        """Return the rows of this pool, then those of another one with the same candidates.

        Raises
        ------
        TableError
            If the candidates differ.
        """
        if self.names != other.names:
            raise TableError(f"pools of different candidates can't be joined: {self.names} and {other.names}")
        known = self.domains is not None and other.domains is not None
        own, others = self._arrays(_FIELDS), other._arrays(_FIELDS)
        arrays: dict[str, Any] = {
            field: np.concatenate([own[field], others[field]]) if field in own and field in others else None
            for field in _FIELDS
        }
        return dataclasses.replace(
            self,
            source=self.source if self.source == other.source else None,
            texts=self.texts + other.texts,
            domains=(self.domains or ()) + (other.domains or ()) if known else None,
            **arrays,
        )

    def split(self, share: float, seed: int) -> tuple[FullFeedback, FullFeedback]:
        """Return two random parts; the first has a share in (0, 1) of the rows, rounded down, but at least one.

        Raises
        ------
        TableError
            If a part would be empty.
        """
        first = max(int(share * len(self)), 1)
        if not 0.0 < share < 1.0 or first >= len(self):
            raise TableError(f"{len(self)} rows can't be split with a share of {share!r}; it must lie in (0, 1)")
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(order[:first]), self.take(order[first:])

    def by_domain(self) -> Iterator[tuple[str, FullFeedback, FullFeedback]]:
        """Leave one domain out after the other: yield its name, all other rows, its rows.

        Raises
        ------
        TableError
            If the table has fewer than two domains.
        """
        labels = np.array(self.domains if self.domains is not None else ())
        if len(set(labels.tolist())) < 2:
            raise TableError(f"the pool {self.name!r} has fewer than two domains; none can be left out")
        for domain in sorted(set(labels.tolist())):
            yield domain, self.take(np.flatnonzero(labels != domain)), self.take(np.flatnonzero(labels == domain))

    def restrict(self, names: Collection[str]) -> FullFeedback:
        """Keep some candidates.

        Raises
        ------
        TableError
            If one of them is not in the pool.
        """
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise TableError(f"unknown candidates {unknown}; the pool has {', '.join(map(repr, self.names))}")
        columns = [column for column, name in enumerate(self.names) if name in names]
        kept: dict[str, Any] = {field: values[:, columns] for field, values in self._arrays(_BY_ANSWER).items()}
        return dataclasses.replace(self, names=tuple(self.names[column] for column in columns), **kept)

    def spread(self, count: int) -> FullFeedback:
        """Keep at most `count` candidates, spread evenly over the order of mean cost, ends included."""
        if count >= len(self.names):
            return self
        order = np.argsort(self.cost_usd.mean(axis=0))
        places = np.linspace(0, len(order) - 1, count).astype(int)
        return self.restrict({self.names[column] for column in order[places]})

    def _arrays(self, fields: Iterable[str]) -> dict[str, Any]:
        """Return those arrays that the pool has."""
        named = {field: getattr(self, field) for field in fields}
        return {field: values for field, values in named.items() if values is not None}

    # -- the single LLMs ---------------------------------------------------------------------------------------------

    @property
    def best(self) -> int:
        """Column of the best single LLM by mean quality."""
        return int(self.quality.mean(axis=0).argmax())

    @property
    def cheapest(self) -> int:
        """Column of the cheapest single LLM by mean cost."""
        return int(self.cost_usd.mean(axis=0).argmin())

    @property
    def dearest(self) -> int:
        """Column of the dearest single LLM by mean cost."""
        return int(self.cost_usd.mean(axis=0).argmax())

    @property
    def reference_cost_usd(self) -> float:
        """Mean cost of the dearest single LLM: the unit of cost in which lambda is meant."""
        return float(self.cost_usd.mean(axis=0).max())

    def column(self, name: str) -> int:
        """Return a candidate's column."""
        return self.names.index(name)

    # -- for a router ------------------------------------------------------------------------------------------------

    def query(self, row: int) -> Query:
        """Return what a router is asked in a row, with the length of the prompt as it was billed where it is known."""
        return Query(text=self.texts[row], prompt_tokens=whole(float(self.prompt_tokens[row])))

    def table(self) -> dict[str, list[Any]]:
        """Return the wide table that `Router.fit` reads; the queries are in the column ``prompt``."""
        columns: dict[str, list[Any]] = {"prompt": list(self.texts), "prompt_tokens": self.prompt_tokens.tolist()}
        for place, name in enumerate(self.names):
            columns |= {f"{name}|{field}": getattr(self, field)[:, place].tolist() for field in _TOLD}
        return columns


def whole(tokens: float) -> int | None:
    """Return a length as a router is told of it: ``None`` for NaN, which is unknown."""
    return round(tokens) if math.isfinite(tokens) else None


def read_pool(source: Any, *, name: str | None = None, text: str | None = None) -> FullFeedback:
    """Read a table in which every candidate answered every query.

    Parameters
    ----------
    source : data frame, Arrow table, mapping of columns, or path of a parquet or CSV file
        Wide or long, as for `Router.fit`; a column ``domain`` is kept, and so are latencies: the columns
        ``<candidate>|latency_s`` of a wide table, ``latency_s`` of a long one.
    name : str, optional
        What to call the pool; the file's name where not given.
    text : str, optional
        Column with the queries; the first that the table has of ``question``, ``query`` and ``prompt``.

    Raises
    ------
    TableError
        If the table can't be read, or no row is complete.
    """
    columns = Columns.of(source)
    text = text or next((column for column in _TEXT_COLUMNS if column in columns), _TEXT_COLUMNS[-1])
    if name is None:
        name = Path(source).stem if isinstance(source, str | PathLike) else "pool"
    read = read_table(source, text=text, known=_candidates(columns))
    words = columns.words(text, "the query")
    whole = FullFeedback(
        name=name,
        texts=read.texts,
        names=read.candidates,
        quality=read.quality,
        cost_usd=read.cost_usd,
        prompt_tokens=read.prompt_tokens,
        response_tokens=read.response_tokens,
        latency_s=_latencies(columns, words, read),
        domains=_domains(columns, words, read),
    )
    return _complete(whole)


def _candidates(columns: Columns) -> list[str]:
    names = {column.removesuffix("|quality") for column in columns.names if column.endswith("|quality")}
    if not names and "candidate" in columns:
        names = set(columns.words("candidate", "the candidate"))
    return sorted(names)


def _domains(columns: Columns, words: Sequence[str], read: OutcomeTable) -> tuple[str, ...] | None:
    if "domain" not in columns:
        return None
    labels = columns.words("domain", "the domain")
    if tuple(words) == read.texts:  # row by row: the same query may stand in a wide table twice
        return tuple(labels)
    domain_of = dict(zip(words, labels, strict=True))
    return tuple(domain_of[query] for query in read.texts)


def _latencies(columns: Columns, words: Sequence[str], read: OutcomeTable) -> Matrix | None:
    """Read how long the answers took, which `read_table` leaves aside: a router learns speeds, not single times."""
    shape = (len(read.texts), len(read.candidates))
    wide = {place: f"{name}|latency_s" for place, name in enumerate(read.candidates)}
    if any(column in columns for column in wide.values()):
        grid = np.full(shape, np.nan)
        for place, column in wide.items():
            if column in columns:
                grid[:, place] = columns.numbers(column, len(words))
        return grid
    if "latency_s" not in columns or "candidate" not in columns:
        return None
    names = columns.words("candidate", "the candidate")
    row_of = {query: row for row, query in enumerate(read.texts)}
    place_of = {name: place for place, name in enumerate(read.candidates)}
    rows = np.array([row_of[query] for query in words])
    places = np.array([place_of[name] for name in names])
    seconds = columns.numbers("latency_s", len(words))
    known = np.isfinite(seconds)
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (rows[known], places[known]), seconds[known])
    np.add.at(count, (rows[known], places[known]), 1.0)
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def _complete(whole: FullFeedback) -> FullFeedback:
    """Drop the rows in which something is missing that the table has in other rows."""
    ok = np.isfinite(whole.quality).all(axis=1) & np.isfinite(whole.cost_usd).all(axis=1)
    if np.isfinite(whole.prompt_tokens).any():
        ok &= np.isfinite(whole.prompt_tokens)
    for grid in (whole.response_tokens, whole.latency_s):
        if grid is not None:
            known = np.isfinite(grid)
            ok &= known[:, known.any(axis=0)].all(axis=1)
    if not ok.any():
        raise TableError(f"no row of {whole.name!r} has the quality and the cost of every candidate")
    return dataclasses.replace(whole.take(np.flatnonzero(ok)), dropped=int((~ok).sum()))
