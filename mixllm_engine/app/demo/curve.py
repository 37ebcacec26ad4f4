"""Cost and quality on held-out rows: what the router reaches at every willingness to pay, beside each LLM alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mixllm_engine.decision.score import trade_weights
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.router import Router
from mixllm_engine.types import Decision, Vector

_GRID: Final = (0.0, *np.logspace(-2, 4, 49).tolist())
_LEAST_USD: Final = 1e-12


@dataclass(frozen=True, kw_only=True)
class Point:
    """A mean cost in dollars per query, and a mean quality."""

    cost_usd: float
    quality: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Where the router, and every LLM alone, stand on held-out rows.

    Attributes
    ----------
    routed : tuple of Point
        By rising willingness to pay.
    singles : tuple of (str, Point)
        Every LLM with recorded outcomes.
    present : Point or None
        At the willingness to pay of the latest decision.
    rows : int
        How many queries.
    """

    routed: tuple[Point, ...]
    singles: tuple[tuple[str, Point], ...]
    present: Point | None
    rows: int


def measure(router: Router, held_out: FullFeedback, decision: Decision | None) -> Curve | None:
    """Sweep lambda over held-out rows by expected quality and cost alone: nothing is decided, logged or learned.

    Parameters
    ----------
    router : Router
        Whose expectations count.
    held_out : FullFeedback
        Recorded rows that nobody learned from.
    decision : Decision or None
        The latest one.

    Returns
    -------
    Curve or None
        ``None`` where fewer than two LLMs of the pool have recorded outcomes.
    """
    expected = router.predict(held_out.texts)
    names = [name for name in expected.candidates if name in held_out.names]
    if len(names) < 2:
        return None
    own = [expected.candidates.index(name) for name in names]
    there = [held_out.column(name) for name in names]
    quality, cost_usd = held_out.quality[:, there], held_out.cost_usd[:, there]
    unit_usd = (decision and cost_unit_usd(decision)) or float(expected.cost_usd.mean(axis=0).max())
    rows = np.arange(len(held_out))

    def at(willingness_to_pay: float) -> Point:
        on_quality, on_cost = trade_weights(willingness_to_pay)
        worth = on_quality * expected.quality[:, own] - on_cost / unit_usd * expected.cost_usd[:, own]
        chosen = worth.argmax(axis=1)
        return _point(cost_usd[rows, chosen], quality[rows, chosen])

    return Curve(
        routed=tuple(at(willingness) for willingness in _GRID),
        singles=tuple((name, _point(cost_usd[:, k], quality[:, k])) for k, name in enumerate(names)),
        present=None if decision is None else at(decision.willingness_to_pay),
        rows=len(held_out),
    )


def cost_unit_usd(decision: Decision) -> float | None:
    """Return the unit of cost in a decision's scores, from trade = w p - v c / unit; ``None`` where cost has no weight.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> decision = tiny_router().decide("hello", willingness_to_pay=3.0)
    >>> unit, score = cost_unit_usd(decision), decision.scores["cheap"]
    >>> abs((3.0 * score.quality - score.cost_usd / unit) / 4.0 - score.trade) < 1e-12
    True
    """
    on_quality, on_cost = trade_weights(decision.willingness_to_pay)
    dearest = max(decision.scores.values(), key=lambda score: score.cost_usd)
    lost = on_quality * dearest.quality - dearest.trade
    return on_cost * dearest.cost_usd / lost if lost > _LEAST_USD else None


def _point(cost_usd: Vector, quality: Vector) -> Point:
    return Point(cost_usd=float(cost_usd.mean()), quality=float(quality.mean()))
