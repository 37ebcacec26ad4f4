"""Drawings of off-policy estimates: every way to choose, by three estimators with their intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.off_policy import Estimates
from mixllm_engine.evaluation.report.drawing import Plot, Sheet, axes, legend
from mixllm_engine.evaluation.report.model import LogReport
from mixllm_engine.evaluation.report.palette import Ink, light
from mixllm_engine.evaluation.report.wording import QUERIES, clipped, enumerated, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

YOURS: Final = "what you did"
# estimator, colour, marker, height above the middle of the row
_KINDS: Final = (("DR", "ours", "o", 0.08), ("SNIPS", "rival-1", "s", -0.1), ("IPS", "rival-2", "^", -0.28))
_ROW: Final = 52.0
_AROUND: Final = 100.0


def rewards(name: str, report: LogReport) -> Plot:
    """Draw the mean reward of every way to choose."""
    told = [(one.name, one.made.reward) for one in report.counterfactuals]
    return _plot(name, "Reward, by three estimators", "Mean reward, 0 to 1", told, 1.0)


def costs(name: str, report: LogReport) -> Plot | None:
    """Draw the mean cost of every way to choose; ``None`` where the log tells none."""
    told = [(one.name, one.made.cost_usd) for one in report.counterfactuals if one.made.cost_usd is not None]
    if not told:
        return None
    return _plot(name, "Cost, by three estimators", "Cost of 1,000 queries in dollars", told, float(QUERIES))


def _plot(name: str, title: str, x: str, told: Sequence[tuple[str, Estimates]], unit: float) -> Plot:
    values = [f"{way} {number(unit * made.dr.value, 3)}" for way, made in told]
    return Plot(
        name=name,
        title=title,
        caption="Points with 95 % intervals: doubly robust (DR), self-normalised (SNIPS) and plain inverse propensity "
        "scores (IPS). The dashed line is what your routing did. Where the three disagree, trust none of them.",
        alt=f"{x}, doubly robust: {enumerated(values)}; {YOURS}: {number(unit * told[0][1].logged.value, 3)}.",
        draw=partial(_intervals, x=x, told=told, unit=unit),
    )


def _intervals(sheet: Sheet, *, x: str, told: Sequence[tuple[str, Estimates]], unit: float) -> Figure:
    rows = len(told) + 1
    tall = dataclasses.replace(sheet, height=_AROUND + _ROW * rows)
    figure, made = axes(tall, x=x, y="Way to choose", legend_rows=1, legend_always=True)
    made.grid(visible=False, axis="y")
    made.grid(axis="x", color=light("faint"), linewidth=0.8)
    made.set_yticks([])
    logged = told[0][1].logged
    made.axvline(unit * logged.value, color=light("ink"), linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
    _point(made, logged, unit, float(rows - 1), "ink", "D")
    for height, (_, made_of) in zip(range(rows - 2, -1, -1), told, strict=True):
        for kind, colour, marker, above in _KINDS:
            _point(made, _READ[kind](made_of), unit, height + above, colour, marker)
    made.set_ylim(-0.6, rows - 0.4)
    for height, text in zip(range(rows - 1, -1, -1), [YOURS, *(clipped(way, 44) for way, _ in told)], strict=True):
        made.annotate(
            text,
            (0.0, height + 0.24),
            xycoords=("axes fraction", "data"),
            va="bottom",
            fontsize=10,
            color=light("ink"),
            bbox={"facecolor": light("page"), "edgecolor": "none", "pad": 1.0},
            zorder=5,
        )
    legend(figure, [(kind, Ink(colour=colour, width=2.0)) for kind, colour, *_ in _KINDS], columns=3)
    return figure


def _point(made: Axes, estimate: Estimate, unit: float, height: float, colour: str, marker: str) -> None:
    if not np.isfinite(estimate.value):
        return
    ink = light(colour)
    made.plot([unit * estimate.low, unit * estimate.high], [height, height], color=ink, linewidth=1.6, zorder=3)
    made.plot([unit * estimate.value], [height], marker=marker, color=ink, markersize=5.5, zorder=4)


_READ: Final[dict[str, Callable[[Estimates], Estimate]]] = {
    "DR": lambda made: made.dr,
    "SNIPS": lambda made: made.snips,
    "IPS": lambda made: made.ips,
}
