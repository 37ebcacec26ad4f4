"""Drawings over time: who answered, regret, waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from mixllm_engine.evaluation.report.drawing import Plot, Sheet, axes, grouped, legend, stroke
from mixllm_engine.evaluation.report.labels import Label, at_the_end
from mixllm_engine.evaluation.report.over_time import Regret, Shares, Waiting
from mixllm_engine.evaluation.report.palette import AREAS, OTHERS, Ink, light
from mixllm_engine.evaluation.report.wording import enumerated, number, short_names
from mixllm_engine.types import Matrix, Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARGIN: Final = 200.0
_LIMITS_SHOWN: Final = 3.0  # how much of the waiting times is shown, in time limits


def shares(name: str, told: Shares) -> Plot:
    """Draw who answered over time, as stacked areas; the rarest LLMs together."""
    order = np.argsort(-told.share.mean(axis=0), kind="stable")
    order = order[told.share[:, order].any(axis=0)]
    short = short_names(told.names)
    first, rest = order[:AREAS], order[AREAS:]
    names = [short[told.names[index]] for index in first]
    layers = told.share[:, first]
    if len(rest):
        names.append(f"{len(rest)} others" if len(rest) > 1 else short[told.names[rest[0]]])
        layers = np.column_stack([layers, told.share[:, rest].sum(axis=1)])
    most = [f"{told.names[index]} with {100 * told.share[:, index].mean():.0f} %" for index in first[:3]]
    return Plot(
        name=name,
        title="Who answered, over time",
        caption=f"Share of the queries that each LLM answered, at {told.setting}; the most frequent at the bottom.",
        alt=f"Stacked shares of LLMs over time. Most frequent on average: {enumerated(most)}.",
        draw=partial(_shares, position=told.position, layers=100.0 * layers, names=names),
    )


def _shares(sheet: Sheet, *, position: Vector, layers: Matrix, names: Sequence[str]) -> Figure:
    rows = -(-len(names) // 2)
    x, y = "Queries answered so far", "Share of the queries in %"
    figure, made = axes(sheet, x=x, y=y, right=_MARGIN, legend_rows=rows)
    colours = [f"area-{index + 1}" if index < AREAS else "others" for index in range(len(names))]
    tops = layers.cumsum(axis=1)
    for colour, low, high in zip(colours, (tops - layers).T, tops.T, strict=True):
        made.fill_between(
            position, low, high, facecolor=light(colour), edgecolor=light("page"), linewidth=0.8, zorder=2
        )
    made.set_xlim(float(position[0]), float(max(position[-1], position[0] + 1.0)))
    made.set_ylim(0.0, 100.0)
    grouped(made)
    if sheet.narrow:
        inks = [Ink(colour=colour, width=7.0) for colour in colours]
        legend(figure, list(zip(names, inks, strict=True)))
    else:
        middles = (tops - layers / 2.0)[-1]
        at_the_end(
            made,
            [
                Label(text=text, x=float(position[-1]), y=float(middle), swatch=colour)
                for text, middle, colour in zip(names, middles, colours, strict=True)
            ],
        )
    return figure


@dataclass(frozen=True, kw_only=True, eq=False)
class _Line:
    """Points of a system, with a standard error that may be NaN."""

    system: str
    across: Vector
    up: Vector
    error: Vector


@dataclass(frozen=True, kw_only=True)
class _Limit:
    """The time limit, and the axis that it lies on."""

    axis: Literal["x", "y"]
    seconds: float


def regret(name: str, told: Regret, inks: Mapping[str, Ink]) -> Plot:
    """Draw the cumulative regret of those who learn on the way."""
    finals = [f"{trace.system} {number(float(trace.value[-1]), 0)}" for trace in told.traces]
    lines = [
        _Line(system=trace.system, across=trace.position, up=trace.value, error=trace.standard_error)
        for trace in told.traces
    ]
    return Plot(
        name=name,
        title="Regret over time",
        caption=f"What was lost so far against {told.against}, at {told.setting}. A line that flattens has learned; "
        "bands are one standard error over the splits.",
        alt=f"Cumulative regret over queries. At the end: {enumerated(finals)}.",
        draw=partial(_lines, lines=lines, inks=inks, x="Queries answered so far", y=f"Cumulative regret, {told.unit}"),
    )


def waiting(name: str, told: Waiting, inks: Mapping[str, Ink]) -> Plot:
    """Draw the share of the answers that had come within a time."""
    shown_s = _LIMITS_SHOWN * told.max_wait_s
    lines = [
        _Line(
            system=one.system,
            across=np.append(one.latency_s, max(shown_s, float(one.latency_s[-1]))),
            up=100.0 * np.append(one.share, 1.0),
            error=np.full(len(one.share) + 1, np.nan),
        )
        for one in told.waits
    ]
    within = [f"{one.system} {100 * float((one.latency_s <= told.max_wait_s).mean()):.0f} %" for one in told.waits]
    return Plot(
        name=name,
        title="How long users waited",
        caption=f"Under load, at {told.setting}. Up and to the left is better; an answer after the limit of "
        f"{told.max_wait_s:g} s is worth nothing.",
        alt=f"Share of the answers over waiting time. Within {told.max_wait_s:g} s: {enumerated(within)}.",
        draw=partial(
            _lines,
            lines=lines,
            inks=inks,
            x="Seconds from query to answer",
            y="Answers that had come, in %",
            limit=_Limit(axis="x", seconds=told.max_wait_s),
            beside=False,
        ),
    )


def waiting_over_time(name: str, told: Waiting, inks: Mapping[str, Ink]) -> Plot:
    """Draw the 95th percentile of the waiting times over the time of arrival."""
    lines = [
        _Line(system=one.system, across=one.arrival_s, up=one.p95_s, error=np.full(len(one.p95_s), np.nan))
        for one in told.waits
    ]
    worst = [f"{one.system} {number(float(one.p95_s.max()), 1)} s" for one in told.waits]
    return Plot(
        name=name,
        title="Waiting over time",
        caption=f"One user in twenty waited longer than this, at {told.setting}. A line that climbs is a growing "
        "queue.",
        alt=f"95th percentile of waiting over the time of arrival. At most: {enumerated(worst)}.",
        draw=partial(
            _lines,
            lines=lines,
            inks=inks,
            x="Time of arrival in seconds",
            y="Waiting in seconds, 95th percentile",
            limit=_Limit(axis="y", seconds=told.max_wait_s),
        ),
    )


def _lines(
    sheet: Sheet,
    *,
    lines: Sequence[_Line],
    inks: Mapping[str, Ink],
    x: str,
    y: str,
    limit: _Limit | None = None,
    beside: bool = True,
) -> Figure:
    """Draw lines with their names beside their ends, or below where all lines end at the same place."""
    short = short_names([line.system for line in lines])
    columns = 2 if sheet.narrow else 4
    rows = -(-len(lines) // columns)
    figure, made = axes(sheet, x=x, y=y, right=_MARGIN if beside else 0.0, legend_rows=rows, legend_always=not beside)
    for depth, line in enumerate(reversed(lines)):
        ink = inks.get(line.system, OTHERS)
        made.plot(line.across, line.up, zorder=3 + depth / len(lines), **stroke(ink))
        low, high = line.up - line.error, line.up + line.error
        made.fill_between(line.across, low, high, color=light(ink.colour), alpha=0.15, linewidth=0)
    made.margins(x=0.0)
    made.set_ylim(bottom=min(0.0, *(float(line.up.min()) for line in lines)))
    if limit is not None:
        _draw_limit(made, limit)
    grouped(made)
    named = [(line, short[line.system], inks.get(line.system, OTHERS)) for line in lines]
    if sheet.narrow or not beside:
        legend(figure, [(text, ink) for _, text, ink in named], columns)
    else:
        at_the_end(
            made,
            [
                Label(
                    text=text,
                    x=float(line.across[-1]),
                    y=float(line.up[-1]),
                    colour=ink.colour if ink.named else "muted",
                    bold=ink.colour == "ours",
                )
                for line, text, ink in named
            ],
        )
    return figure


def _draw_limit(made: Axes, limit: _Limit) -> None:
    """Draw a dashed line across, inside the axes whatever they show, and name it."""
    text = f"limit {limit.seconds:g} s"
    style: dict[str, Any] = {"color": light("ink"), "linewidth": 0.9, "linestyle": (0, (4, 3))}
    kind: dict[str, Any] = {
        "textcoords": "offset points",
        "fontsize": 10,
        "color": light("muted"),
        "va": "bottom",
        "zorder": 6,
    }
    kind["bbox"] = {"facecolor": light("page"), "edgecolor": "none", "pad": 1.5}
    if limit.axis == "x":
        made.set_xlim(0.0, _LIMITS_SHOWN * limit.seconds)
        made.axvline(limit.seconds, zorder=2, **style)
        made.annotate(text, (limit.seconds, made.get_ylim()[0]), xytext=(-5, 5), ha="right", **kind)
    else:
        made.set_ylim(top=max(made.get_ylim()[1], 1.15 * limit.seconds))
        made.axhline(limit.seconds, zorder=2, **style)
        made.annotate(text, (made.get_xlim()[0], limit.seconds), xytext=(5, 4), ha="left", **kind)
