"""What a benchmark found: rows, their budgets, and the machine that they were measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from rich.table import Table

from mixllm_engine.evaluation.bench.timing import Timed

Unit = Literal["us", "ms", "s", "MB", "calls/s"]
_PER_SECOND: dict[Unit, float] = {"us": 1e6, "ms": 1e3, "s": 1.0}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a row should reach.

    Attributes
    ----------
    of : str
        Which of the row's numbers it is about.
    limit : float
        In the row's unit; a ratio has none.
    at_least : bool
        Whether the number must not be below the limit, rather than not above it.
    """

    of: Literal["best", "p50", "ratio"]
    limit: float
    at_least: bool = False

    def holds(self, row: Row) -> bool | None:
        """Tell whether a row keeps to it; ``None`` where the number is not known."""
        value: float | None = getattr(row, self.of)
        if value is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        """Format the limit, without the unit."""
        return f"{self.of} {'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system under one setting.

    Attributes
    ----------
    part, setting, system : str
        What was measured, under which circumstances, of whom.
    unit : str
        Of `best`, `p50` and `p95`.
    best, p50, p95 : float, optional
        The best, median and 95th percentile of the measurements; all are ``None`` where there are none, and `note` says
        why.
    count : int
        Measurements.
    ratio : float, optional
        This system over the one that it is compared with: the median of what each pair of neighbouring blocks says, so
        that a machine that slows down for a while does not count.
    budget : Budget, optional
        What it should reach.
    note : str
        What a reader has to know.
    """

    part: str
    setting: str
    system: str
    unit: Unit
    best: float | None = None
    p50: float | None = None
    p95: float | None = None
    count: int = 0
    ratio: float | None = None
    budget: Budget | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the budget is kept; ``None`` where there is none, or nothing was measured."""
        return None if self.budget is None else self.budget.holds(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON takes it."""
        return {**asdict(self), "holds": self.holds}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the row that `as_dict` wrote."""
        given = {name: value for name, value in data.items() if name != "holds"}
        budget = given.pop("budget")
        return cls(**given, budget=None if budget is None else Budget(**budget))


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """All rows of a run.

    Attributes
    ----------
    rows : tuple of Row
        In the order of the table.
    about : mapping
        Versions, machine and time.
    """

    rows: tuple[Row, ...]
    about: Mapping[str, Any]

    @property
    def missed(self) -> tuple[Row, ...]:
        """The rows whose budget is not kept."""
        return tuple(row for row in self.rows if row.holds is False)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return {**self.about, "rows": [row.as_dict() for row in self.rows]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the report that `as_dict` wrote."""
        about = {name: value for name, value in data.items() if name != "rows"}
        return cls(rows=tuple(Row.from_dict(row) for row in data["rows"]), about=about)

    def tables(self) -> Iterator[Table]:
        """Yield a table for each part."""
        for part in dict.fromkeys(row.part for row in self.rows):
            yield _table(part, [row for row in self.rows if row.part == part])


def compared(
    measured: Mapping[str, Timed],
    *,
    part: str,
    setting: str,
    unit: Unit,
    against: str,
    budgets: Mapping[str, Budget] | None = None,
) -> list[Row]:
    """Return a row for each system, with its ratio to one of them.

    Parameters
    ----------
    measured : mapping of str to Timed
        By system.
    part, setting, unit : str
        As in `Row`.
    against : str
        The system that all are compared with. If it was not measured, there are no ratios.
    budgets : mapping of str to Budget, optional
        By system.
    """
    rows, reference = [], measured[against]
    for system, timed in measured.items():
        row = Row(part=part, setting=setting, system=system, unit=unit, note=timed.note)
        if timed.seconds.size:
            best, p50, p95 = np.percentile(timed.seconds * _PER_SECOND[unit], [0, 50, 95]).tolist()
            row = replace(row, best=best, p50=p50, p95=p95, count=timed.seconds.size)
        if timed.seconds.size and reference.seconds.size:
            row = replace(row, ratio=float(np.median(timed.by_block / reference.by_block)))
        rows.append(replace(row, budget=(budgets or {}).get(system)))
    return rows


def _table(part: str, rows: Sequence[Row]) -> Table:
    table = Table(title=part)
    for heading in ("setting", "system"):
        table.add_column(heading)
    for heading in ("best", "p50", "p95", "unit", "ratio"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    for heading in ("budget", "note"):
        table.add_column(heading)
    shown = ""
    for row in rows:
        if shown and row.setting != shown:
            table.add_section()
        setting, shown = "" if row.setting == shown else row.setting, row.setting
        numbers = [_number(row.best), _number(row.p50), _number(row.p95)]
        table.add_row(setting, row.system, *numbers, row.unit, _number(row.ratio), _verdict(row), row.note)
    return table


def _verdict(row: Row) -> str:
    if row.budget is None:
        return ""
    verdict = {True: "kept", False: "missed", None: "not measured"}[row.holds]
    return f"{row.budget}: {verdict}"


def _number(value: float | None) -> str:
    """Format a number with about three digits; what was not measured is a dash.

    Examples
    --------
    >>> [_number(value) for value in (None, 0.12345, 1.2345, 12.345, 1234.5)]
    ['-', '0.123', '1.23', '12.3', '1234']
    """
    if value is None:
        return "-"
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.{2 if size >= 1 else 3}f}"
