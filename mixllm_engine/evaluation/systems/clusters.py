"""Avengers-Pro: a table of quality and cost by cluster of queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from mixllm_engine.encoding.clustering import spherical_kmeans
from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.types import Matrix, Vector

# Settings of its configuration in LLMRouterBench (arXiv 2601.07206).
_CLUSTERS: Final = 25
_NEAREST: Final = 3
_SHARPNESS: Final = 9.0
# Means of fewer queries say little, so that small tables get fewer clusters.
_QUERIES_PER_CLUSTER: Final = 10
# The weight of quality against cost.
_WEIGHTS: Final[Vector] = np.linspace(0.0, 1.0, 21)


class Clusters:
    """Score every candidate in every cluster, and route by the nearest clusters' mean score.

    Within a cluster, quality counts from the worst candidate (0) to the best (1), and cost in units of the dearest:
    score = alpha quality + (1 - alpha) (1 - cost). The nearest three clusters count by softmax(9 cosine).

    Simplified: k-means is spherical with one start in place of ten, on the features that all systems share.

    References
    ----------
    Zhang et al. (2025), "Beyond GPT-5: Making LLMs Cheaper and Better via Performance-Efficiency Optimized Routing"
    (Avengers-Pro), arXiv 2508.12631.
    """

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each alpha."""
        count = min(_CLUSTERS, max(1, len(task.known) // _QUERIES_PER_CLUSTER))
        centres = spherical_kmeans(task.known, count, task.seed)
        member = (task.known @ centres.T).argmax(axis=1)
        inhabited = np.unique(member)
        quality = np.stack([_from_worst_to_best(task.train.quality[member == one].mean(axis=0)) for one in inhabited])
        cost = np.stack([_of_dearest(task.train.cost_usd[member == one].mean(axis=0)) for one in inhabited])
        weight = _nearness(task.asked @ centres[inhabited].T)
        for alpha in _WEIGHTS:
            score = weight @ (alpha * quality + (1.0 - alpha) * (1.0 - cost))
            yield Planned(score.argmax(axis=1))


def _nearness(cosine: Matrix) -> Matrix:
    """Weigh the nearest clusters by softmax and the others by 0; shapes (m, clusters)."""
    count = min(_NEAREST, cosine.shape[1])
    bound = -np.partition(-cosine, count - 1, axis=1)[:, count - 1 : count]
    weight = np.where(cosine >= bound, np.exp(_SHARPNESS * (cosine - cosine.max(axis=1, keepdims=True))), 0.0)
    normalised: Matrix = weight / weight.sum(axis=1, keepdims=True)
    return normalised


def _from_worst_to_best(quality: Vector) -> Vector:
    span = float(np.ptp(quality))
    return (quality - quality.min()) / span if span > 0 else np.ones_like(quality)


def _of_dearest(cost: Vector) -> Vector:
    return cost / max(float(cost.max()), 1e-12)
