"""The oracle: it knows every outcome beforehand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task


class Oracle:
    """Take the best by lambda q - c with the true quality and cost: the bound for all others without load."""

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each lambda."""
        quality, cost = task.stream.quality, task.stream.cost_usd / task.reference_cost_usd
        for willingness in task.grid:
            # among the equally good ones the cheapest, also where cost doesn't count
            total = (1e9 if np.isinf(willingness) else willingness) * quality - cost
            yield Planned(total.argmax(axis=1))
