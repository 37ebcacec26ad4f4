"""The drawing of the cost-quality curve. It takes long enough to be made after the rest of the page."""

from __future__ import annotations

import threading
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

import numpy as np

from mixllm_engine.app.demo.curve import Curve
from mixllm_engine.evaluation.report.drawing import Plot, Sheet, axes, stroke
from mixllm_engine.evaluation.report.labels import Label, beside
from mixllm_engine.evaluation.report.markup import Markup, element
from mixllm_engine.evaluation.report.palette import Ink, light
from mixllm_engine.evaluation.report.wording import enumerated, short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# One drawing for all screens, since it is made while somebody waits.
_SHEET: Final = Sheet(width=400.0, height=290.0, narrow=True)
_CENTS: Final = 100.0
_ALONG: Final = 120
_OURS: Final = Ink(colour="ours", width=2.4)
_drawing = threading.Lock()  # matplotlib's settings are global


@lru_cache(maxsize=64)  # a visitor goes back and forth between budgets
def curve(made: Curve | None) -> Markup:
    """Draw the router's curve, every LLM alone, and the present operating point."""
    if made is None:
        return element("p", "A curve needs two LLMs with recorded outcomes in the pool.", class_="hint")
    named = [f"{name} {point.quality:.2f} at {_CENTS * point.cost_usd:.3g} cents" for name, point in made.singles]
    now = made.present
    here = f" The present budget: {now.quality:.2f} at {_CENTS * now.cost_usd:.3g} cents." if now else ""
    return _figure(
        Plot(
            name="demo-curve",
            title="",
            caption=f"Recorded outcomes of {made.rows} held-out queries. Up and to the left is better. The line is the "
            "router at every willingness to pay, by expected quality and cost alone; diamonds are single LLMs; the dot "
            "is the present budget.",
            alt=f"Mean quality over mean cost. {enumerated(named)}.{here}",
            draw=partial(_curve, made=made),
        )
    )


def _figure(plot: Plot) -> Markup:
    with _drawing:
        svg = plot.svg(_SHEET)
    return element("figure", svg, element("figcaption", plot.caption), class_="plot")


def _curve(sheet: Sheet, *, made: Curve) -> Figure:
    figure, drawn = axes(sheet, x="Mean cost in US cents per query (log scale)", y="Mean quality, 0 to 1")
    drawn.set_xscale("log")
    costs = np.array([_CENTS * point.cost_usd for point in made.routed])
    heights = np.array([point.quality for point in made.routed])
    drawn.plot(costs, heights, zorder=3, **stroke(_OURS))
    singles = [(name, _CENTS * point.cost_usd, point.quality) for name, point in made.singles]
    across, up = [x for _, x, _ in singles], [y for _, _, y in singles]
    drawn.scatter(across, up, marker="D", s=26, facecolor=light("page"), edgecolor=light("ink"), zorder=4)
    short = short_names([name for name, _, _ in singles], limit=24)
    labels = [Label(text=short[name], x=x, y=y) for name, x, y in singles]
    if made.present is not None:
        x, y = _CENTS * made.present.cost_usd, made.present.quality
        drawn.scatter([x], [y], s=70, color=light("ours"), edgecolor=light("page"), linewidth=1.5, zorder=5)
        labels.append(Label(text="you are here", x=x, y=y, colour="ours", bold=True))
    _room(drawn, across, up, heights)
    beside(drawn, labels, _along(costs, heights))
    return figure


def _room(drawn: object, across: list[float], up: list[float], heights: np.ndarray) -> None:
    """Set limits that hold all points, and labels at round amounts."""
    from matplotlib.axes import Axes
    from matplotlib.ticker import FuncFormatter, NullLocator

    assert isinstance(drawn, Axes)
    drawn.set_xlim(min(across) / 2.0, max(across) * 2.5)
    low, high = min([*up, float(heights.min())]), max([*up, float(heights.max())])
    slack = 0.12 * max(high - low, 0.02)
    drawn.set_ylim(low - slack, high + slack)
    drawn.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    drawn.xaxis.set_minor_locator(NullLocator())


def _along(costs: np.ndarray, heights: np.ndarray) -> list[tuple[float, float]]:
    """Return points on the line, close enough for labels to keep clear of it."""
    order = np.argsort(costs, kind="stable")
    logs = np.log(costs[order])
    fine = np.linspace(logs[0], logs[-1], _ALONG)
    return list(zip(np.exp(fine).tolist(), np.interp(fine, logs, heights[order]).tolist(), strict=True))
