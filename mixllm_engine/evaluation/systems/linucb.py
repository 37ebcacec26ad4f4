"""LinUCB with one regression for each LLM: optimism in the face of uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mixllm_engine.evaluation.contest.policy import Answer
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.systems.linear_arms import Ground, LinearArms
from mixllm_engine.evaluation.workbench import best_by
from mixllm_engine.types import Matrix


class LinUCB:
    """Take the best by lambda (x^T theta + alpha sqrt(x^T A^-1 x)) - c, and learn from every answer.

    The algorithm's reward is lambda q - c. Its cost is known well before the call, so that q alone is learned, and the
    expected cost, the same for all systems, is taken off; to learn both is no better on the pools at hand. The features
    x are 25 principal components of the embedding and a constant. It starts warm, from the table's outcomes of all
    LLMs; the published one starts with nothing.

    Parameters
    ----------
    alpha : float
        How much uncertainty counts.

    References
    ----------
    Li, Chu, Langford and Schapire (2010), "A Contextual-Bandit Approach to Personalized News Article Recommendation",
    WWW, arXiv 1003.0146, algorithm 1.
    """

    def __init__(self, alpha: float = 0.3) -> None:
        self._alpha = alpha

    def policies(self, task: Task) -> Iterator[_Optimist]:
        """Yield a policy for each lambda."""
        ground, cost = Ground.on_components(task), task.cost_usd / task.reference_cost_usd
        for willingness in task.grid:
            yield _Optimist(LinearArms(ground, task.train.quality), cost, float(willingness), self._alpha)


class _Optimist:
    def __init__(self, arms: LinearArms, cost: Matrix, willingness_to_pay: float, alpha: float) -> None:
        self._arms, self._cost, self._willingness, self._alpha = arms, cost, willingness_to_pay, alpha

    def choose(self, row: int, now_s: float) -> Sequence[int]:
        """Take the highest upper bound."""
        bound = self._arms.mean[row] + self._alpha * self._arms.deviation(row)
        return [int(best_by(bound, self._cost[row], self._willingness))]

    def finish(self, row: int, answer: Answer, now_s: float) -> None:
        """Learn the quality; a late answer had none."""
        self._arms.learn(row, answer.column, answer.value)
