"""Paired bootstrap: how much of a difference between two systems is luck of the queries.

The queries of each stream are drawn anew, with replacement: with the same seed the same ones for every system and for
the single LLMs that it is measured against. Splits are averaged within a draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.frontier import against_singles
from mixllm_engine.types import Matrix, Vector

_RESAMPLES = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """What is drawn from: one stream's queries.

    Attributes
    ----------
    quality, cost_usd : array of shape (s, m)
        Of a system, by setting and query.
    single_quality, single_cost_usd : array of shape (m, K)
        Of every LLM, by query.
    cheapest_quality : array of shape (m,)
        Of always the cheapest LLM under the same circumstances.
    """

    quality: Matrix
    cost_usd: Matrix
    single_quality: Matrix
    single_cost_usd: Matrix
    cheapest_quality: Vector

    def measures(self, share: Vector) -> dict[str, float]:
        """Return `frontier.against_singles` with each query weighing its share, shape (m,); shares add up to 1."""
        points = np.stack([self.cost_usd @ share, self.quality @ share], axis=1)
        spend, worth = share @ self.single_cost_usd, share @ self.single_quality
        return against_singles(points, spend, worth, float(share @ self.cheapest_quality))


def resampled(splits: Sequence[Outcomes], *, seed: int, resamples: int = _RESAMPLES) -> dict[str, Vector]:
    """Measure a system on queries that are drawn anew.

    Parameters
    ----------
    splits : sequence of Outcomes
        What it did, one for each split.
    seed : int
        Of the draws; the same one pairs systems.
    resamples : int
        How many draws.

    Returns
    -------
    dict of str to array of shape (resamples,)
        The measures of `frontier.against_singles`, averaged over the splits.

    References
    ----------
    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13 (percentile intervals).
    """
    rng = np.random.default_rng(seed)
    sizes = [one.quality.shape[1] for one in splits]
    draws = []
    for _ in range(resamples):
        shares = [rng.multinomial(size, np.full(size, 1.0 / size)) / size for size in sizes]
        draws.append([one.measures(share) for one, share in zip(splits, shares, strict=True)])
    return {name: np.array([[one[name] for one in draw] for draw in draws]).mean(axis=1) for name in draws[0][0]}


def interval(value: float, draws: Vector) -> Estimate:
    """Return a measured value, or difference, with the 95 % interval of its draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(value=value, standard_error=float(draws.std(ddof=1)), low=float(low), high=float(high))
