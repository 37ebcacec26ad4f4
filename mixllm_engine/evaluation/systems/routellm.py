"""RouteLLM with similarity-weighted ranking, and what its routers share: who beats whom, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.types import Matrix

# The paper's pair are GPT-4 and Mixtral, some hundred times cheaper; pools seldom have such a gap.
_WEAK_COST_SHARE: Final = 0.1
# Shares of the queries that go to the strong LLM.
_SHARES: Final = np.linspace(0.0, 1.0, 21)
_GAMMA: Final = 10.0
_BLOCK: Final = 1000
_ROUNDS: Final = 200
_TOLERANCE: Final = 1e-8


class SimilarityWeighted:
    """Rank the candidates anew for every query: a Bradley-Terry model in which similar queries' outcomes count more.

    A training query counts 10^(1 + s), where s is its cosine to the query in units of the greatest one (the paper's
    equation for omega, gamma = 10). The chance that a beats b is strength_a / (strength_a + strength_b).

    As published, two LLMs are left when a query comes, and the strong one gets it where its chance to beat the weak one
    reaches a threshold. Generalised to N, the chance to beat the best single LLM stands for the quality in
    lambda p - c; with two candidates that is the published threshold but for the query's cost.

    Simplified: the comparisons are those of recorded qualities instead of human preferences, a tie is half a win for
    both as in the published code, and candidates need no tiers since each answered every query.

    Parameters
    ----------
    two : bool
        Whether to route as published.

    References
    ----------
    Ong et al. (2024), "RouteLLM: Learning to Route LLMs with Preference Data", arXiv 2406.18665.
    """

    def __init__(self, *, two: bool = False) -> None:
        self._two = two

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each lambda, or for each threshold."""
        strong, table = task.train.best, duels(task.train.quality)
        asked = _chances(task.known, table, task.asked, strong)
        if self._two:
            return thresholds(task, _chances(task.known, table, task.known, strong), asked)
        return trade_offs(task, asked)


def duels(quality: Matrix) -> Matrix:
    """Return for every query which candidate beat which, shape (n, K, K): 1 a win, 0.5 a tie; 0 on the diagonal.

    Examples
    --------
    >>> duels(np.array([[1.0, 0.0, 1.0]]))[0].tolist()
    [[0.0, 1.0, 0.5], [0.0, 0.0, 0.0], [0.5, 1.0, 0.0]]
    """
    one, other = quality[:, :, None], quality[:, None, :]
    won: Matrix = np.where(one == other, 0.5, (one > other).astype(np.float64))
    won[:, np.arange(quality.shape[1]), np.arange(quality.shape[1])] = 0.0
    return won


def weak_beside(train: FullFeedback, strong: int) -> int:
    """Return the column of the weak LLM: the best of those that cost at most a tenth of the strong one.

    Where none is as cheap, it is the cheapest of the others.
    """
    cost, quality = train.cost_usd.mean(axis=0), train.quality.mean(axis=0)
    others = np.arange(len(train.names)) != strong
    cheap = others & (cost <= _WEAK_COST_SHARE * cost[strong])
    if cheap.any():
        return int(np.where(cheap, quality, -np.inf).argmax())
    return int(np.where(others, cost, np.inf).argmin())


def trade_offs(task: Task, chance: Matrix) -> Iterator[Planned]:
    """Yield a policy for each lambda, from the chance of each candidate to beat the best single one, shape (m, K)."""
    for willingness in task.grid:
        yield Planned(task.best_by(chance, float(willingness)))


def thresholds(task: Task, known: Matrix, asked: Matrix) -> Iterator[Planned]:
    """Yield a policy for each threshold, from the same chances for training queries and for the stream.

    Thresholds are set so that given shares of the training queries go to the strong LLM, as the published code
    calibrates them.
    """
    strong = task.train.best
    weak = weak_beside(task.train, strong)
    bounds = np.quantile(known[:, weak], _SHARES)
    bounds[0], bounds[-1] = -np.inf, np.inf
    for bound in bounds:
        yield Planned(np.where(asked[:, weak] <= bound, strong, weak))


def strengths(wins: Matrix) -> Matrix:
    """Fit Bradley-Terry models by minorisation and maximisation (Hunter 2004, equation 3).

    Parameters
    ----------
    wins : array of shape (m, K, K)
        Weights of the wins of row over column in each of m tables, positive but on the diagonal.

    Returns
    -------
    array of shape (m, K)
        Strengths, whose geometric mean is 1.
    """
    games, won = wins + wins.transpose(0, 2, 1), wins.sum(axis=2)
    found = np.ones(won.shape)
    for _ in range(_ROUNDS):
        updated = won / (games / (found[:, :, None] + found[:, None, :])).sum(axis=2)
        updated /= np.exp(np.log(updated).mean(axis=1, keepdims=True))
        settled = np.abs(np.log(updated / found)).max() < _TOLERANCE
        found = updated
        if settled:
            break
    return found


def _chances(known: Matrix, table: Matrix, asked: Matrix, strong: int) -> Matrix:
    """Return each candidate's chance to beat the strong one, shape (m, K)."""
    count, blocks = table.shape[1], []
    virtual = 0.5 * (1.0 - np.eye(count))  # one tie of each pair: who never won still has a strength
    for start in range(0, len(asked), _BLOCK):  # all weights at once may not fit into memory
        likeness = asked[start : start + _BLOCK] @ known.T
        greatest = np.maximum(likeness.max(axis=1, keepdims=True), 1e-12)
        weight = _GAMMA ** (1.0 + np.maximum(likeness / greatest, -1.0))
        wins = (weight @ table.reshape(len(table), -1)).reshape(-1, count, count)
        found = strengths(wins + weight.mean(axis=1)[:, None, None] * virtual)
        blocks.append(found / (found + found[:, [strong]]))
    return np.concatenate(blocks)
