"""MetaLLM: a linear bandit on the whole embedding whose reward has the price in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mixllm_engine.decision.score import trade_weights
from mixllm_engine.evaluation.contest.policy import Answer
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.systems.linear_arms import Ground, LinearArms, with_constant
from mixllm_engine.types import Vector

# The regularisation of the authors' published program.
_PENALTY = 12.94


class MetaLLM:
    """Regress the reward q - p c on the embedding, and take the LLM with the highest upper bound.

    The price c of an LLM is one number, its mean cost in the table in units of the dearest LLM's, and p = 1 / lambda.
    Rewards are divided by 1 + p, which changes no choice but lets p be infinite. It is fitted on the table, and learns
    online. Unlike in the authors' program a constant belongs to the features (without it, it is worse on all pools at
    hand), the embeddings are those of all systems instead of a large model's, and `alpha` is not 0.

    Parameters
    ----------
    alpha : float
        How much uncertainty counts.

    References
    ----------
    Nguyen et al. (2024), "MetaLLM: A High-performant and Cost-efficient Dynamic Framework for Wrapping LLMs",
    arXiv 2407.10834.
    """

    def __init__(self, alpha: float = 0.1) -> None:
        self._alpha = alpha

    def policies(self, task: Task) -> Iterator[_Wrapper]:
        """Yield a policy for each lambda."""
        ground = Ground.of(with_constant(task.known), with_constant(task.asked), penalty=_PENALTY)
        price = task.train.cost_usd.mean(axis=0) / task.reference_cost_usd
        for willingness in task.grid:
            worth, _ = trade_weights(float(willingness))
            toll = (1.0 - worth) * price
            yield _Wrapper(LinearArms(ground, worth * task.train.quality - toll), worth, toll, self._alpha)


class _Wrapper:
    def __init__(self, arms: LinearArms, worth: float, toll: Vector, alpha: float) -> None:
        self._arms, self._worth, self._toll, self._alpha = arms, worth, toll, alpha

    def choose(self, row: int, now_s: float) -> Sequence[int]:
        """Take the highest upper bound."""
        bound = self._arms.mean[row] + self._alpha * self._worth * self._arms.deviation(row)
        return [int(bound.argmax())]

    def finish(self, row: int, answer: Answer, now_s: float) -> None:
        """Learn the reward; a late answer had no quality, but its price."""
        self._arms.learn(row, answer.column, self._worth * answer.value - float(self._toll[answer.column]))
