"""Curves of cost and quality: their non-decreasing convex hull, and the numbers that are read off it.

A point of the hull between two settings of a router is reached by using the one for some queries and the other for the
rest, so hulls are what is compared. RouterBench's AIQ divides by the widest range of the curves compared, and so
changes with the company; here the range of costs is fixed by the single LLMs of the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.types import Matrix, Vector

SHARES = (0.95, 0.9725, 0.99, 1.0)
# What a quality that is never reached counts as, in percent of the best single LLM's cost. Taking that LLM for all
# queries would reach it for 100, so a router that can't is worse than none.
NOT_REACHED_PERCENT = 150.0
_COMPARED_COSTS = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Frontier:
    """A non-decreasing convex hull; made by `Frontier.of`.

    Attributes
    ----------
    cost, quality : array of shape (m,)
        Corners, both strictly increasing, in dollars per query and mean quality.
    """

    cost: Vector
    quality: Vector

    @classmethod
    def of(cls, points: Matrix) -> Frontier:
        """Take the hull of points (cost, quality), shape (n, 2) with n >= 1.

        Examples
        --------
        >>> hull = Frontier.of(np.array([[1.0, 0.2], [2.0, 0.3], [3.0, 0.8], [4.0, 0.7]]))
        >>> hull.cost.tolist(), hull.quality.tolist()
        ([1.0, 3.0], [0.2, 0.8])
        """
        corners: list[tuple[float, float]] = []
        # at the same cost the better point comes first, and the others then add nothing
        for cost, quality in sorted(map(tuple, points.tolist()), key=lambda point: (point[0], -point[1])):
            if corners and quality <= corners[-1][1]:
                continue
            while len(corners) >= 2 and not _bends_down(corners[-2], corners[-1], (cost, quality)):
                corners.pop()
            corners.append((cost, quality))
        return cls(cost=np.array([c for c, _ in corners]), quality=np.array([q for _, q in corners]))

    def quality_at(self, cost: Vector) -> Vector:
        """Return the quality that costs buy: NaN before the first corner, and no more behind the last."""
        return np.interp(cost, self.cost, self.quality, left=np.nan)

    def cost_of(self, quality: float) -> float | None:
        """Return what a mean quality costs, or ``None`` where it is not reached."""
        if quality > self.quality[-1]:
            return None
        return float(np.interp(quality, self.quality, self.cost))

    def area(self, low: float, high: float) -> float:
        """Return the mean quality over a range of costs with ``low < high``; what can't be bought counts 0."""
        inside = self.cost[(self.cost > low) & (self.cost < high)]
        first = max(low, float(self.cost[0]))
        if first >= high:
            return 0.0
        corners = np.unique(np.concatenate([[first], inside, [high]]))
        heights = self.quality_at(corners)
        return float((heights[1:] + heights[:-1]) @ np.diff(corners) / 2.0 / (high - low))


def _bends_down(first: tuple[float, float], second: tuple[float, float], third: tuple[float, float]) -> bool:
    """Tell whether the slope falls at the second point."""
    rise = (second[1] - first[1]) * (third[0] - second[0])
    return rise > (third[1] - second[1]) * (second[0] - first[0])


def summary(points: Matrix, data: FullFeedback) -> dict[str, float]:
    """Sum up a curve against the single LLMs on the same queries; see `against_singles`.

    Parameters
    ----------
    points : array of shape (m, 2)
        Mean cost in dollars per query, and mean quality, at every setting.
    data : FullFeedback
        The queries on which they were measured.
    """
    worth = data.quality.mean(axis=0)
    return against_singles(points, data.cost_usd.mean(axis=0), worth, float(worth[data.cheapest]))


def against_singles(points: Matrix, spend_usd: Vector, worth: Vector, cheapest_worth: float) -> dict[str, float]:
    """Sum up a curve against the single LLMs.

    Parameters
    ----------
    points : array of shape (m, 2)
        Mean cost in dollars per query, and mean quality, at every setting.
    spend_usd, worth : array of shape (K,)
        Mean cost and mean quality of each LLM on the same queries.
    cheapest_worth : float
        What always the cheapest is worth under the circumstances of the curve: under load not what it is else.

    Returns
    -------
    dict of str to float
        ``cost@95`` to ``cost@100``: cost of that percentage of the best single LLM's quality, in percent of `unit_usd`,
        `NOT_REACHED_PERCENT` where it is not reached; ``missed@... %``: 100 where it is not reached, else 0; ``area``:
        mean quality between the mean costs of the cheapest and the dearest LLM, where the curve may be mixed with the
        cheapest one, as anybody could.
    """
    hull, best, cheapest = Frontier.of(points), int(worth.argmax()), int(spend_usd.argmin())
    unit, found = unit_usd(spend_usd, worth), {}
    for share in SHARES:
        cost = hull.cost_of(share * float(worth[best]))
        label = f"{100 * share:g}"
        found[f"cost@{label}"] = NOT_REACHED_PERCENT if cost is None else 100.0 * cost / unit
        found[f"missed@{label} %"] = 100.0 * (cost is None)
    mixed = Frontier.of(np.vstack([points, [spend_usd[cheapest], cheapest_worth]]))
    found["area"] = mixed.area(float(spend_usd.min()), float(spend_usd.max()))
    return found


def unit_usd(spend_usd: Vector, worth: Vector) -> float:
    """Return the mean cost of the best single LLM, of which costs are told in percent; where it is free, the dearest's.

    Parameters
    ----------
    spend_usd, worth : array of shape (K,)
        Mean cost and mean quality of each LLM.
    """
    # where all are free, costs are 0 in any unit
    return float(spend_usd[worth.argmax()]) or float(spend_usd.max()) or 1.0


def aiq(curves: Mapping[str, Matrix]) -> dict[str, float]:
    """Return RouterBench's average improvement in quality of every curve.

    It is the mean quality of the non-decreasing convex hull over the widest range of costs of the curves compared; a
    curve goes on flat behind its last point, and before its first it is mixed with no call at all (cost 0, quality 0).
    So it changes with the company; `against_singles` has the ``area``, which does not.

    Parameters
    ----------
    curves : mapping of str to array of shape (m, 2)
        Mean costs and mean qualities, by system.

    References
    ----------
    Hu et al. (2024), "RouterBench", arXiv 2403.12031, section 3.

    Examples
    --------
    >>> flat, ramp = np.array([[2.0, 0.5]]), np.array([[1.0, 0.4], [3.0, 0.8]])
    >>> {name: round(value, 4) for name, value in aiq({"flat": flat, "ramp": ramp}).items()}
    {'flat': 0.4375, 'ramp': 0.6}
    """
    low = min(float(points[:, 0].min()) for points in curves.values())
    high = max(float(points[:, 0].max()) for points in curves.values())
    if low == high:
        return {name: float(points[:, 1].max()) for name, points in curves.items()}
    return {name: Frontier.of(np.vstack([points, [0.0, 0.0]])).area(low, high) for name, points in curves.items()}


def gain_at_equal_cost(points: Matrix, base: Matrix) -> float:
    """Return by how many percent a curve's quality exceeds another's at equal cost, on average.

    The mean is over costs evenly spread on a logarithmic scale, from where both curves have begun to where both have
    ended; a curve that ended earlier goes on flat.

    Parameters
    ----------
    points, base : array of shape (m, 2)
        Costs and qualities of the two curves.

    Examples
    --------
    >>> base = np.array([[1.0, 0.5], [2.0, 0.8]])
    >>> round(gain_at_equal_cost(base * [1.0, 1.1], base), 6)
    10.0
    """
    one, other = Frontier.of(points), Frontier.of(base)
    low, high = max(one.cost[0], other.cost[0]), max(one.cost[-1], other.cost[-1])
    low = max(low, 1e-6 * high)  # LLMs may be free
    # rounding in exp(log(x)) must not fall in front of the first corner
    costs = np.clip(np.exp(np.linspace(np.log(low), np.log(high), _COMPARED_COSTS)), low, high)
    return float(100.0 * (one.quality_at(costs) / other.quality_at(costs) - 1.0).mean())
