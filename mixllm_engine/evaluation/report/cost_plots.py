"""Drawings of cost and quality: all systems' hulls, and what MixLLM saves against single LLMs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from mixllm_engine.evaluation.report.drawing import Plot, Sheet, axes, legend, stroke
from mixllm_engine.evaluation.report.labels import Label, at_the_end, beside
from mixllm_engine.evaluation.report.model import OURS, Band, Contest, Contestant, Measure, Saving, Single
from mixllm_engine.evaluation.report.palette import Ink, light
from mixllm_engine.evaluation.report.verdict import ranked
from mixllm_engine.evaluation.report.wording import QUERIES, enumerated, number, short_names
from mixllm_engine.types import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COST: Final = "Cost of 1,000 queries in dollars (log scale)"
_QUALITY: Final = "Mean quality of the answers, 0 to 1"
_MARGIN: Final = 200.0
_FREE_BELOW: Final = 4.0  # how far left of the cheapest a free LLM stands, as a factor
_HEADLINE_PERCENT: Final = 99.0

Places = Callable[[Vector], Vector]
Points = list[tuple[float, float]]


def curves(name: str, contest: Contest, measures: Sequence[Measure], inks: Mapping[str, Ink]) -> Plot | None:
    """Draw the mean hull of every system, the important ones in colour; ``None`` without any."""
    shown = [(one, one.band) for one in ranked(contest, measures) if one.band is not None]
    if not shown:
        return None
    named = [one.name for one, _ in shown if inks[one.name].named]
    grey = len(shown) - len(named)
    return Plot(
        name=name,
        title="Cost and quality of all systems",
        caption="Up and to the left is better. Each line is what a system reaches by mixing its settings: the mean of "
        "its hulls over the splits, with a band of one standard error. Diamonds are single LLMs."
        + (f" The thin grey lines are {grey} other systems of the table." if grey else ""),
        alt=f"Mean quality over cost, lines for {enumerated(named)}" + (f", and {grey} in grey." if grey else "."),
        draw=partial(_curves, singles=contest.singles, shown=shown, inks=inks),
    )


def _curves(
    sheet: Sheet, *, singles: Sequence[Single], shown: Sequence[tuple[Contestant, Band]], inks: Mapping[str, Ink]
) -> Figure:
    short = short_names([one.name for one, _ in shown])
    named = [(one, band) for one, band in shown if inks[one.name].named]
    figure, made = axes(sheet, x=_COST, y=_QUALITY, right=_MARGIN, legend_rows=-(-len(named) // 2))
    place = _cost_axis(made, [one.cost_usd for one in singles], [band for _, band in shown])
    # the least important first, so that it lies below
    for depth, (one, band) in enumerate(reversed(shown)):
        ink = inks[one.name]
        _band(made, band, place, ink, zorder=2.0 + ink.named + depth / (2.0 * len(shown)))
    low, high = _close_up([band for one, band in named if one.role != "bound"], singles)
    made.set_ylim(low, high)
    rim = 0.02 * (high - low)
    _diamonds(made, [one for one in singles if low + rim < one.quality < high - rim], place, "muted")
    told = []
    for one, band in named:
        (x, y), text = _end(band, place), short[one.name]
        if y > high:  # a bound that is far above everybody
            y, text = high, f"{text}, up to {y:.2f}"
        told.append(Label(text=text, x=x, y=y, colour=inks[one.name].colour, bold=one.role == "ours"))
    if sheet.narrow:
        legend(figure, [(label.text, inks[one.name]) for label, (one, _) in zip(told, named, strict=True)])
    else:
        at_the_end(made, told)
    return figure


def hull(name: str, contest: Contest) -> Plot | None:
    """Draw what MixLLM was measured at, its hull, every LLM alone, and the saving at nearly the best one's quality."""
    band = next((one.band for one in contest.contestants if one.role == "ours"), None)
    if band is None or not contest.singles:
        return None
    reached = [one for one in contest.savings if one.missed_percent < 100 and one.quality_percent < 100]
    saving = min(reached, key=lambda one: abs(one.quality_percent - _HEADLINE_PERCENT), default=None)
    singles = sorted(contest.singles, key=lambda single: -single.quality)
    best = singles[0]
    return Plot(
        name=name,
        title=f"{OURS} and every LLM alone",
        caption=f"Dots are the measured settings of {OURS}'s budget, the line is their mean hull, diamonds are single "
        "LLMs."
        + (f" The arrow is the saving at {saving.quality_percent:g} % of the best LLM's quality." if saving else ""),
        alt=f"Mean quality over cost: {OURS}'s hull and {len(contest.singles)} single LLMs, of which {best.name} is "
        f"the best. {saving or ''}",
        draw=partial(_hull, band=band, singles=singles, saving=saving),
        key=tuple(one.name for one in singles),
    )


def _hull(sheet: Sheet, *, band: Band, singles: Sequence[Single], saving: Saving | None) -> Figure:
    figure, made = axes(sheet, x=_COST, y=_QUALITY)
    place = _cost_axis(made, [one.cost_usd for one in singles], [band])
    _band(made, band, place, Ink(colour="ours", width=2.4), zorder=3.0)
    across, up = place(band.settings[:, 0]), band.settings[:, 1]
    made.scatter(across, up, s=16, color=light("ours"), zorder=4)
    _diamonds(made, singles, place, "ink")
    made.margins(y=0.08)
    made.autoscale_view()
    made.set_ylim(made.get_ylim())
    blocked = [*zip(across.tolist(), up.tolist(), strict=True), *_along(place(band.cost_usd), band.quality)]
    short = short_names([one.name for one in singles], limit=30)
    where = place(np.array([one.cost_usd for one in singles]))
    labels = [
        Label(text=str(rank) if sheet.narrow else short[one.name], x=float(x), y=one.quality, bold=rank == 1)
        for rank, (one, x) in enumerate(zip(singles, where, strict=True), start=1)
    ]
    if saving is not None:
        label, points = _arrow(made, singles[0], saving, place)
        labels.append(label)
        blocked += points
    beside(made, labels, blocked)
    return figure


def _arrow(made: Axes, best: Single, saving: Saving, place: Places) -> tuple[Label, Points]:
    """Draw the saving from the best LLM's cost to what MixLLM takes; return its label, and the points where it is."""
    goal = best.quality * saving.quality_percent / 100.0
    start, end = place(best.cost_usd * np.array([1.0, saving.cost_percent.value / 100.0])).tolist()
    colour = light("rival-1")
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    made.annotate("", xy=(end, goal), xytext=(start, goal), arrowprops=style, zorder=5)
    made.plot([start, start], [goal, best.quality], color=colour, linewidth=1.0, zorder=2.4)
    text = f"{number(saving.cost_percent.value - 100.0, 0, sign=True)} % cost"
    middle = float(np.sqrt(start * end))
    label = Label(text=text, x=middle, y=goal, colour="rival-1", bold=True)
    return label, [(float(x), goal) for x in np.geomspace(end, start, 30)]


def _cost_axis(made: Axes, singles: Sequence[float], bands: Sequence[Band]) -> Places:
    """Make the x axis logarithmic, in dollars per 1,000 queries, and return what brings costs onto it."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    costs = QUERIES * np.concatenate([singles, *(band.cost_usd[np.isfinite(band.quality)] for band in bands)])
    positive = costs[costs > 0]
    least, most = (float(positive.min()), float(positive.max())) if len(positive) else (1.0, 10.0)
    # a logarithm has no place for LLMs that cost nothing
    free = [least / _FREE_BELOW] if (costs <= 0).any() else []
    low = min([least, *free])
    made.set_xscale("log")
    made.set_xlim(low / 1.2, max(most, 1.5 * low) * 1.1)
    made.xaxis.set_major_locator(FixedLocator([*free, *_ticks(least, most)]))
    made.xaxis.set_minor_locator(NullLocator())
    made.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "free" if value in free else f"${value:,.10g}"))
    return lambda usd: np.maximum(usd * QUERIES, low)


def _ticks(low: float, high: float) -> list[float]:
    """Return round amounts within a range, at least four where there are."""
    powers = [10.0**power for power in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)]
    found: list[float] = []
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        found = [step * power for power in powers for step in steps if low <= step * power <= high]
        if len(found) >= 4:
            break
    return found or [low]


def _band(made: Axes, band: Band, place: Places, ink: Ink, zorder: float) -> None:
    across = place(band.cost_usd)
    made.plot(across, band.quality, zorder=zorder, **stroke(ink))
    if ink.named and np.isfinite(band.standard_error).any():
        low, high = band.quality - band.standard_error, band.quality + band.standard_error
        made.fill_between(across, low, high, color=light(ink.colour), alpha=0.15, linewidth=0, zorder=zorder - 0.5)


def _diamonds(made: Axes, singles: Sequence[Single], place: Places, colour: str) -> None:
    across = place(np.array([one.cost_usd for one in singles]))
    up = [one.quality for one in singles]
    face, edge = light("page"), light(colour)
    made.scatter(across, up, marker="D", s=22, facecolor=face, edgecolor=edge, linewidth=1.1, zorder=2.5)


def _close_up(bands: Sequence[Band], singles: Sequence[Single]) -> tuple[float, float]:
    """Return the heights that hold some lines and the best LLM; what is far from them is off the drawing."""
    best = [max(one.quality for one in singles)] if singles else []
    heights = np.concatenate([best, *(band.quality[np.isfinite(band.quality)] for band in bands)])
    if not len(heights):
        return 0.0, 1.0
    slack = 0.06 * max(float(np.ptp(heights)), 0.01)
    return float(heights.min()) - slack, float(heights.max()) + slack


def _end(band: Band, place: Places) -> tuple[float, float]:
    """Return where a line ends; at the last cost and 0 if it never began."""
    known = np.flatnonzero(np.isfinite(band.quality))
    last = known[-1] if len(known) else len(band.quality) - 1
    return float(place(band.cost_usd)[last]), float(np.nan_to_num(band.quality[last]))


def _along(across: Vector, up: Vector) -> Points:
    """Return points on a line, close enough together for labels to keep clear of it."""
    known = np.isfinite(up)
    if not known.any():
        return []
    logs = np.log(across[known])
    fine = np.linspace(logs[0], logs[-1], 150)
    return list(zip(np.exp(fine).tolist(), np.interp(fine, logs, up[known]).tolist(), strict=True))
