"""Linear Thompson sampling: act on one draw from what may be true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mixllm_engine.evaluation.contest.policy import Answer
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.systems.linear_arms import Ground, LinearArms
from mixllm_engine.evaluation.workbench import best_by
from mixllm_engine.types import Matrix


class Thompson:
    """Draw theta of every LLM from N(A^-1 b, v^2 A^-1), take the best by lambda x^T theta - c, learn from the answer.

    A draw is used for one query only, so that x^T theta is drawn instead, from N(x^T A^-1 b, v^2 x^T A^-1 x): the same
    distribution at the cost of one number. Published with one theta for all arms, here with one for each LLM.
    Features, warm start and reward are those of `LinUCB`.

    Parameters
    ----------
    scale : float
        v. The theory wants it far larger than anybody uses; the noise of 0/1 grades would be 0.5, which explores so
        much that it is worse on all pools at hand.

    References
    ----------
    Agrawal and Goyal (2013), "Thompson Sampling for Contextual Bandits with Linear Payoffs", ICML, arXiv 1209.3352,
    algorithm 1.
    """

    def __init__(self, scale: float = 0.1) -> None:
        self._scale = scale

    def policies(self, task: Task) -> Iterator[_Sampler]:
        """Yield a policy for each lambda; all of them draw the same numbers."""
        ground, cost = Ground.on_components(task), task.cost_usd / task.reference_cost_usd
        for willingness in task.grid:
            rng = np.random.default_rng(task.seed)
            yield _Sampler(LinearArms(ground, task.train.quality), cost, float(willingness), self._scale, rng)


class _Sampler:
    def __init__(
        self, arms: LinearArms, cost: Matrix, willingness_to_pay: float, scale: float, rng: np.random.Generator
    ) -> None:
        self._arms, self._cost, self._willingness, self._scale, self._rng = arms, cost, willingness_to_pay, scale, rng

    def choose(self, row: int, now_s: float) -> Sequence[int]:
        """Take the best of a draw."""
        spread = self._scale * self._arms.deviation(row)
        drawn = self._arms.mean[row] + spread * self._rng.standard_normal(len(spread))
        return [int(best_by(drawn, self._cost[row], self._willingness))]

    def finish(self, row: int, answer: Answer, now_s: float) -> None:
        """Learn the quality; a late answer had none."""
        self._arms.learn(row, answer.column, answer.value)
