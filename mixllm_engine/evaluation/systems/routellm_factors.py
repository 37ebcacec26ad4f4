"""RouteLLM with matrix factorisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.systems.routellm import duels, thresholds, trade_offs
from mixllm_engine.types import Matrix

# Settings of the published training script, but for the learning rate: here one step sees all pairs of 64 queries
# instead of 64 pairs, so there are fewer and surer steps.
_WIDTH: Final = 128
_BATCH: Final = 64
_PASSES: Final = 100
_NOISE: Final = 0.1
_WEIGHT_DECAY: Final = 1e-5
_LEARNING_RATE: Final = 3e-3
# Adam (Kingma and Ba 2015, algorithm 1).
_MOMENTUM, _SQUARES, _LEAST = 0.9, 0.999, 1e-8


class MatrixFactorisation:
    """Learn a bilinear score of LLM and query, whose difference is the log-odds that one LLM beats the other.

    score(l, q) = w2 . (v_l / |v_l| * W1 e_q), trained with noise on the embeddings. What follows from the scores is as
    in `SimilarityWeighted`.

    Simplified: the comparisons are those of recorded qualities instead of human preferences; ties, which the published
    script drops, count as half a win for both, since who is as good and cheaper matters here; embeddings get a constant
    feature, so that an LLM may be better whatever is asked.

    Parameters
    ----------
    two : bool
        Whether to route between two LLMs by a threshold, as published.

    References
    ----------
    Ong et al. (2024), "RouteLLM: Learning to Route LLMs with Preference Data", arXiv 2406.18665.
    """

    def __init__(self, *, two: bool = False) -> None:
        self._two = two

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each lambda, or for each threshold."""
        factors = Factors(task.known.shape[1], len(task.train.names), seed=task.seed)
        factors.fit(task.known, task.train.quality)
        asked = factors.chances(task.asked, task.train.best)
        if self._two:
            return thresholds(task, factors.chances(task.known, task.train.best), asked)
        return trade_offs(task, asked)


class Factors:
    """The bilinear model.

    Parameters
    ----------
    features, candidates : int
        Length of the embeddings, number of LLMs.
    seed : int
        Chance of the first weights, of the order of the queries and of the noise.
    """

    def __init__(self, features: int, candidates: int, *, seed: int) -> None:
        self._rng = rng = np.random.default_rng(seed)
        self._llms = rng.normal(size=(candidates, _WIDTH))  # v
        self._queries = rng.uniform(-1.0, 1.0, size=(_WIDTH, features + 1)) / np.sqrt(features + 1)  # W1
        self._weights = rng.uniform(-1.0, 1.0, size=_WIDTH) / np.sqrt(_WIDTH)  # w2

    def fit(self, embeddings: Matrix, quality: Matrix) -> None:
        """Minimise the mean log-loss over pairs, from embeddings of shape (n, d) and qualities of shape (n, K)."""
        rows, table = _with_constant(embeddings), duels(quality)
        parameters = [self._llms, self._queries, self._weights]
        adam = Adam(parameters)
        for _ in range(_PASSES):
            order = self._rng.permutation(len(rows))
            for start in range(0, len(order), _BATCH):
                chosen = order[start : start + _BATCH]
                noise = _NOISE * self._rng.normal(size=(len(chosen), rows.shape[1]))
                adam.step(self.gradients(rows[chosen] + noise, table[chosen]))

    def chances(self, embeddings: Matrix, strong: int) -> Matrix:
        """Return each candidate's chance to beat the strong one, shape (m, K)."""
        score = self._scores(_with_constant(embeddings))[0]
        return _logistic(score - score[:, [strong]])

    def loss(self, rows: Matrix, table: Matrix) -> float:
        """Return the mean log-loss over pairs of queries of shape (b, d + 1) with outcomes of shape (b, K, K)."""
        score = self._scores(rows)[0]
        odds = score[:, :, None] - score[:, None, :]
        return float((table * np.logaddexp(0.0, -odds)).sum() / table.sum())

    def gradients(self, rows: Matrix, table: Matrix) -> list[Matrix]:
        """Return the gradient of `loss` by v, W1 and w2."""
        score, projected, unit, norm = self._scores(rows)
        missed = table * _logistic(score[:, None, :] - score[:, :, None])  # the part of each win that wasn't foreseen
        by_score = (missed.sum(axis=1) - missed.sum(axis=2)) / table.sum()
        by_llm = by_score.T @ projected
        by_unit = by_llm * self._weights
        return [
            (by_unit - unit * (unit * by_unit).sum(axis=1, keepdims=True)) / norm,
            (by_score @ (unit * self._weights)).T @ rows,
            (by_llm * unit).sum(axis=0),
        ]

    def _scores(self, rows: Matrix) -> tuple[Matrix, Matrix, Matrix, Matrix]:
        norm = np.linalg.norm(self._llms, axis=1, keepdims=True)
        unit, projected = self._llms / norm, rows @ self._queries.T
        return projected @ (unit * self._weights).T, projected, unit, norm


class Adam:
    """Adam with the weight decay in the gradient, on arrays that it changes in place."""

    def __init__(self, parameters: list[Matrix]) -> None:
        self._parameters, self._steps = parameters, 0
        self._mean = [np.zeros_like(one) for one in parameters]
        self._square = [np.zeros_like(one) for one in parameters]

    def step(self, gradients: list[Matrix]) -> None:
        """Go one step."""
        self._steps += 1
        for one, gradient, mean, square in zip(self._parameters, gradients, self._mean, self._square, strict=True):
            whole = gradient + _WEIGHT_DECAY * one
            mean += (1.0 - _MOMENTUM) * (whole - mean)
            square += (1.0 - _SQUARES) * (whole**2 - square)
            deviation = np.sqrt(square / (1.0 - _SQUARES**self._steps)) + _LEAST
            one -= _LEARNING_RATE * mean / (1.0 - _MOMENTUM**self._steps) / deviation


def _with_constant(embeddings: Matrix) -> Matrix:
    return np.hstack([embeddings, np.ones((len(embeddings), 1))])


def _logistic(odds: Matrix) -> Matrix:
    chance: Matrix = 0.5 * (1.0 + np.tanh(0.5 * odds))
    return chance
