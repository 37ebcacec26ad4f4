"""Yardsticks that look at no query: one LLM for all, any LLM at random, and RouterBench's Zero router."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.frontier import Frontier

# Steps between two LLMs of the hull where there is load: half of the queries is less than half of the waiting.
_STEPS_UNDER_LOAD = 4


class BestSingle:
    """Always the LLM that is best on average in the table."""

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield the only policy."""
        yield Planned(np.full(len(task.stream), task.train.best))


class Cheapest:
    """Always the LLM that is cheapest on average in the table."""

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield the only policy."""
        yield Planned(np.full(len(task.stream), task.train.cheapest))


class Random:
    """Any LLM, each as often as the others."""

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield the only policy."""
        rng = np.random.default_rng(task.seed)
        yield Planned(rng.integers(len(task.stream.names), size=len(task.stream)))


class ZeroMix:
    """The best query-blind mix: RouterBench's Zero router.

    Without load it has one policy for each LLM on the hull of the single ones, by mean cost and quality in the table:
    whoever mixes two of them at random reaches the line between their points, in expectation, and that line is what
    `Frontier` draws. Under load the waiting for a mix isn't the mix of the waitings, so that mixes of neighbours are
    played as well, drawn at random.

    References
    ----------
    Hu et al. (2024), "RouterBench", arXiv 2403.12031.
    """

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each LLM on the hull, from cheap to dear, and under load for mixes between them."""
        corners, steps = _hull(task), 1 if task.traffic is None else _STEPS_UNDER_LOAD
        for cheap, dear in zip(corners, corners[1:], strict=False):
            for step in range(steps):
                chance = np.random.default_rng(task.seed).random(len(task.stream))
                yield Planned(np.where(chance < step / steps, dear, cheap))
        yield Planned(np.full(len(task.stream), corners[-1]))


def _hull(task: Task) -> list[int]:
    """Return the columns on the non-decreasing hull of the single LLMs, from cheap to dear."""
    points = np.stack([task.train.cost_usd.mean(axis=0), task.train.quality.mean(axis=0)], axis=1)
    hull = Frontier.of(points)
    return [int((points == corner).all(axis=1).argmax()) for corner in zip(hull.cost, hull.quality, strict=True)]
