"""What the linear bandits share: principal components as features, and one ridge regression for each candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.types import Matrix, Vector

# ParetoBandit's number.
COMPONENTS: Final = 25
# Precision of the prior on the weight of a component. The published 1 learns tables of a thousand queries by heart: it
# is better on none of the pools at hand, and far worse on two of three.
_PENALTY = 10.0


def components(task: Task) -> tuple[Matrix, Matrix]:
    """Return the features of the table's queries and of the stream's: principal components of the table, and 1.

    There are 25 components, or as many as the table can tell apart.
    """
    centre = task.known.mean(axis=0)
    count = min(COMPONENTS, len(task.known) - 1, len(centre))
    directions = np.linalg.svd(task.known - centre, full_matrices=False)[2][:count].T
    return with_constant((task.known - centre) @ directions), with_constant((task.asked - centre) @ directions)


def with_constant(rows: Matrix) -> Matrix:
    """Append a column of ones."""
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """Everything about the regressions that the features alone decide: the same for all candidates and rewards.

    Attributes
    ----------
    known, asked : array of shape (n, d), (m, d)
        Features x of the table's queries, and of the stream's.
    inverse : array of shape (d, d)
        A^-1 after the table, where A is the prior's precision plus the sum of x x^T.
    variance : array of shape (m,)
        x^T A^-1 x.
    """

    known: Matrix
    asked: Matrix
    inverse: Matrix
    variance: Vector

    @classmethod
    def on_components(cls, task: Task) -> Ground:
        """Take principal components for features."""
        return cls.of(*components(task), penalty=_PENALTY)

    @classmethod
    def of(cls, known: Matrix, asked: Matrix, *, penalty: float) -> Ground:
        """Learn from the features of n known queries, shape (n, d), for m queries to come, shape (m, d).

        The last feature is constant; the prior's precision is 1 for it, and `penalty` for the others.
        """
        precision = np.append(np.full(known.shape[1] - 1, penalty), 1.0)
        inverse: Matrix = np.linalg.inv(known.T @ known + np.diag(precision)).astype(np.float64)
        variance: Vector = ((asked @ inverse) * asked).sum(axis=1)
        return cls(known=known, asked=asked, inverse=inverse, variance=variance)


class LinearArms:
    """A ridge regression of rewards for each of K candidates, with what it expects of every query of the stream.

    Expectations are kept for the whole stream, and all of them move with each reward, by the formula of Sherman and
    Morrison: that is the same as solving for theta and costs O(d (d + m)) for a reward and nothing for a choice.

    Parameters
    ----------
    ground : Ground
        What the features decide.
    rewards : array of shape (n, K)
        Rewards of all candidates in the table.

    Attributes
    ----------
    mean : array of shape (m, K)
        x^T theta.
    variance : array of shape (m, K)
        x^T A^-1 x: the variance of the mean in units of the noise.
    """

    def __init__(self, ground: Ground, rewards: Matrix) -> None:
        candidates = rewards.shape[1]
        self.mean: Matrix = ground.asked @ (ground.inverse @ (ground.known.T @ rewards))
        self.variance: Matrix = np.repeat(ground.variance[:, None], candidates, axis=1)
        self._asked = ground.asked
        self._inverse: list[Matrix] = [ground.inverse] * candidates

    def deviation(self, row: int) -> Vector:
        """Return the square root of the variance for one query, shape (K,)."""
        deviation: Vector = np.sqrt(np.maximum(self.variance[row], 0.0))  # rounding may have gone below 0
        return deviation

    def learn(self, row: int, column: int, reward: float) -> None:
        """Take in one reward."""
        turned = self._inverse[column] @ self._asked[row]
        shared = self._asked @ turned
        growth = 1.0 + shared[row]
        self.mean[:, column] += shared * ((reward - self.mean[row, column]) / growth)
        self.variance[:, column] -= shared**2 / growth
        self._inverse[column] = self._inverse[column] - np.outer(turned, turned / growth)
