"""Paired bootstrap: how much of a difference between two systems is luck of the queries.

The queries of each stream are drawn anew, with replacement, the same ones for both systems and for the single LLMs that
they are measured against; splits are averaged within a draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mixllm_engine.evaluation.frontier import against_singles
from mixllm_engine.types import Matrix

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
    """

    quality: Matrix
    cost_usd: Matrix
    single_quality: Matrix
    single_cost_usd: Matrix

    def measure(self, name: str, shares: Matrix) -> float:
        """Return a measure of `frontier.against_singles` with each query weighing its share; shares add up to 1."""
        points = np.stack([self.cost_usd @ shares, self.quality @ shares], axis=1)
        return against_singles(points, shares @ self.single_cost_usd, shares @ self.single_quality)[name]


def paired(
    ones: Sequence[Outcomes], others: Sequence[Outcomes], measure: str, *, seed: int, resamples: int = _RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % interval of the difference (one - other) of a measure.

    Parameters
    ----------
    ones, others : sequence of Outcomes
        Two systems on the same streams, one for each split.
    measure : str
        A measure of `frontier.against_singles`.
    seed : int
        Of the draws.
    resamples : int
        How many draws.

    References
    ----------
    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13 (percentile intervals).
    """
    return _percentiles(
        [
            [
                one.measure(measure, w) - other.measure(measure, w)
                for one, other, w in zip(ones, others, drawn, strict=True)
            ]
            for drawn in _draws(ones, seed, resamples)
        ]
    )


def single(ones: Sequence[Outcomes], measure: str, *, seed: int, resamples: int = _RESAMPLES) -> tuple[float, float]:
    """Return the 95 % interval of a measure of one system; see `paired`."""
    return _percentiles(
        [
            [one.measure(measure, shares) for one, shares in zip(ones, drawn, strict=True)]
            for drawn in _draws(ones, seed, resamples)
        ]
    )


def _draws(ones: Sequence[Outcomes], seed: int, resamples: int) -> list[list[Matrix]]:
    rng = np.random.default_rng(seed)
    sizes = [one.quality.shape[1] for one in ones]
    return [[rng.multinomial(size, np.full(size, 1.0 / size)) / size for size in sizes] for _ in range(resamples)]


def _percentiles(by_draw: Sequence[Sequence[float]]) -> tuple[float, float]:
    low, high = np.percentile(np.mean(by_draw, axis=1), [2.5, 97.5])
    return float(low), float(high)
