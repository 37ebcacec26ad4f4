"""A pool of recorded outcomes: what every LLM answered to every query, so that any policy can be replayed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import TableError
from mixllm_engine.learning.columns import Columns
from mixllm_engine.learning.table import OutcomeTable, read_table
from mixllm_engine.types import Matrix, Vector

Rows = Sequence[int] | npt.NDArray[np.integer[Any]]
_TEXT_COLUMNS = ("question", "prompt")
_BY_ANSWER = ("quality", "cost_usd", "response_tokens")
_FIELDS = (*_BY_ANSWER, "prompt_tokens")


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
    domains : tuple of str, optional
        Domain of each query.
    dropped : int
        Rows of the table that were left out because something was missing in them.
    """

    name: str
    texts: tuple[str, ...]
    names: tuple[str, ...]
    quality: Matrix
    cost_usd: Matrix
    prompt_tokens: Vector
    response_tokens: Matrix
    domains: tuple[str, ...] | None = None
    dropped: int = 0

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
            **{field: getattr(self, field)[chosen] for field in _FIELDS},
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
        arrays: dict[str, Any] = {
            field: np.concatenate([getattr(self, field), getattr(other, field)]) for field in _FIELDS
        }
        return dataclasses.replace(
            self,
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
        kept = {field: getattr(self, field)[:, columns] for field in _BY_ANSWER}
        return dataclasses.replace(self, names=tuple(self.names[column] for column in columns), **kept)

    def spread(self, count: int) -> FullFeedback:
        """Keep at most `count` candidates, spread evenly over the order of mean cost, ends included."""
        if count >= len(self.names):
            return self
        order = np.argsort(self.cost_usd.mean(axis=0))
        places = np.linspace(0, len(order) - 1, count).astype(int)
        return self.restrict({self.names[column] for column in order[places]})

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

    def table(self) -> dict[str, list[Any]]:
        """Return the wide table that `Router.fit` reads; the queries are in the column ``prompt``."""
        columns: dict[str, list[Any]] = {"prompt": list(self.texts), "prompt_tokens": self.prompt_tokens.tolist()}
        for place, name in enumerate(self.names):
            columns |= {f"{name}|{field}": getattr(self, field)[:, place].tolist() for field in _BY_ANSWER}
        return columns


def read_pool(source: Any, *, name: str | None = None, text: str | None = None) -> FullFeedback:
    """Read a table in which every candidate answered every query.

    Parameters
    ----------
    source : data frame, Arrow table, mapping of columns, or path of a parquet or CSV file
        Wide or long, as for `Router.fit`; a column ``domain`` is kept.
    name : str, optional
        What to call the pool; the file's name where not given.
    text : str, optional
        Column with the queries; ``question`` where the table has it, else ``prompt``.

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
    domains = None
    if "domain" in columns:
        labels = columns.words("domain", "the domain")
        domain_of = dict(zip(columns.words(text, "the query"), labels, strict=True))
        domains = tuple(domain_of[query] for query in read.texts)
    whole = FullFeedback(
        name=name,
        texts=read.texts,
        names=read.candidates,
        quality=read.quality,
        cost_usd=read.cost_usd,
        prompt_tokens=read.prompt_tokens,
        response_tokens=read.response_tokens,
        domains=domains,
    )
    return _complete(whole, read)


def _candidates(columns: Columns) -> list[str]:
    names = {column.removesuffix("|quality") for column in columns.names if column.endswith("|quality")}
    if not names and "candidate" in columns:
        names = set(columns.words("candidate", "the candidate"))
    return sorted(names)


def _complete(whole: FullFeedback, read: OutcomeTable) -> FullFeedback:
    """Drop the rows in which something is missing that the table has in other rows."""
    ok = np.isfinite(read.quality).all(axis=1) & np.isfinite(read.cost_usd).all(axis=1)
    if np.isfinite(read.prompt_tokens).any():
        ok &= np.isfinite(read.prompt_tokens)
    known = np.isfinite(read.response_tokens)
    ok &= known[:, known.any(axis=0)].all(axis=1)
    if not ok.any():
        raise TableError(f"no row of {whole.name!r} has the quality and the cost of every candidate")
    return dataclasses.replace(whole.take(np.flatnonzero(ok)), dropped=int((~ok).sum()))
