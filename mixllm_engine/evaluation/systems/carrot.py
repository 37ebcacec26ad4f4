"""CARROT: predict the cost and the quality of every answer, and take the best trade-off."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.rivals.base import Rival


class Carrot:
    """A plug-in of two regressions, argmax of (1 - mu) quality - mu cost; here mu = 1 / (1 + lambda).

    It learns costs from what answers in the table cost, and knows neither prices nor the prompt's length.

    Parameters
    ----------
    quality, cost : Rival
        Regressions of quality, and of cost in units of the dearest LLM's mean cost. The paper has nearest neighbours
        for both (`Neighbours`) or a fine-tuned encoder with linear heads for both, whose nearest relative on frozen
        features is `Ridge`.

    References
    ----------
    Somerstep et al. (2025), "CARROT: A Cost Aware Rate Optimal Router", arXiv 2502.03261.
    """

    def __init__(self, quality: Rival, cost: Rival) -> None:
        self._quality, self._cost = quality, cost

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each lambda."""
        train, domains = task.train, task.stream.domains
        self._quality.fit(task.known, train.quality, train.domains)
        self._cost.fit(task.known, train.cost_usd / task.reference_cost_usd, train.domains)
        quality = self._quality.predict(task.asked, domains)
        # a line through small costs may go below zero, but no answer brings money
        cost_usd = self._cost.predict(task.asked, domains).clip(min=0.0) * task.reference_cost_usd
        own = dataclasses.replace(task, cost_usd=cost_usd)
        for willingness in task.grid:
            yield Planned(own.best_by(quality, float(willingness)))
