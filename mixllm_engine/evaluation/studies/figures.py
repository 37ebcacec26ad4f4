"""The rows that studies return, and how they are printed and written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

# What one seed measured: (setting, system, measure) -> value. A measure that begins with "[" is for files only.
Measured = dict[tuple[str, str, str], float]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes
    ----------
    study, pool, setting, system, measure : str
        What was measured, on which data, under which circumstances, of whom.
    values : tuple of float
        One for each seed in which it was defined, in the order of the seeds.
    """

    study: str
    pool: str
    setting: str
    system: str
    measure: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.values))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; NaN for a single seed."""
        count = len(self.values)
        return float(np.std(self.values, ddof=1) / math.sqrt(count)) if count > 1 else math.nan

    def __str__(self) -> str:
        """Format mean and standard error with digits that fit the size."""
        digits = 1 if abs(self.mean) >= 10 else 2 if abs(self.mean) >= 1 else 4
        spread = "" if math.isnan(self.standard_error) else f" ± {self.standard_error:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


def collect(study: str, pool: str, by_seed: Sequence[Measured]) -> list[Figure]:
    """Turn what every seed measured into figures, in the order in which they were first measured."""
    keys = list(dict.fromkeys(key for measured in by_seed for key in measured))
    return [
        Figure(
            study=study,
            pool=pool,
            setting=setting,
            system=system,
            measure=measure,
            values=tuple(m[setting, system, measure] for m in by_seed if (setting, system, measure) in m),
        )
        for setting, system, measure in keys
    ]


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print tables: systems down, measures across, mean ± standard error; settings with the same measures together."""
    for study, pool in dict.fromkeys((figure.study, figure.pool) for figure in figures):
        own = [f for f in figures if (f.study, f.pool) == (study, pool) and not f.measure.startswith("[")]
        groups: dict[tuple[str, ...], list[Figure]] = {}
        for setting in dict.fromkeys(figure.setting for figure in own):
            here = [figure for figure in own if figure.setting == setting]
            groups.setdefault(tuple(dict.fromkeys(figure.measure for figure in here)), []).extend(here)
        for measures, group in groups.items():
            seeds = max(len(figure.values) for figure in group)
            title = f"{study} on {pool}, mean ± standard error of {seeds} seeds"
            console.print(_table(title, measures, group))


def _table(title: str, measures: Sequence[str], group: Sequence[Figure]) -> Table:
    table = Table(title=title)
    for heading in ("setting", "system"):
        table.add_column(heading)
    for measure in measures:
        table.add_column(measure, justify="right")
    cells = {(figure.setting, figure.system, figure.measure): str(figure) for figure in group}
    for setting, system in dict.fromkeys((figure.setting, figure.system) for figure in group):
        table.add_row(setting, system, *(cells.get((setting, system, measure), "") for measure in measures))
    return table


def write(figures: Iterable[Figure], path: str | PathLike[str], **about: Any) -> None:
    """Write figures to a JSON file, with a few words about how they were made."""
    rows = [
        {
            "study": figure.study,
            "pool": figure.pool,
            "setting": figure.setting,
            "system": figure.system,
            "measure": figure.measure,
            "mean": figure.mean,
            "standard_error": None if math.isnan(figure.standard_error) else figure.standard_error,
            "values": list(figure.values),
        }
        for figure in figures
    ]
    Path(path).write_text(json.dumps({**about, "figures": rows}, indent=1, allow_nan=False) + "\n", encoding="utf-8")
