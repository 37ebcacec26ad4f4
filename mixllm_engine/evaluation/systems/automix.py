"""AutoMix: ask a cheap LLM first, let it check its own answer, and ask a dearer one where the check fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import ConfigError
from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.frontier import Frontier
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.types import Matrix, Vector

Votes = npt.NDArray[np.intp]

# The verifier is asked so many times; its confidence is the share of those that say "correct".
_VOTES: Final = 8
# At most as many LLMs as in the paper's longest cascade.
_DEPTH: Final = 3
# Votes side by side are smoothed by a Gaussian of this width, as the published code smooths its gains.
_SMOOTHING_VOTES: Final = 1.0
# Stands for a lambda of infinity: costs only break ties.
_QUALITY_ALONE: Final = 1e9


class AutoMix:
    """A cascade from cheap to dear; after each answer the verifier's votes decide whether it is good enough.

    The decision process is solved backwards on the training table: with so many votes for an answer, is the expected
    lambda q of keeping it more than that of asking the next LLM, less what the next LLM costs? It knows no query, only
    votes on answers.

    Simulated: no pool has verdicts of an LLM on its own answers. Each of the eight votes is right with probability
    `accuracy`, and votes on the same answer are correlated by 1/2, as they come from one LLM that reads one answer. An
    answer is good with probability q, its recorded quality, which is all that is read of the stream's outcomes, and of
    those LLMs only that were asked.

    Costs: verifying reads the prompt and the answer again, and counts as one more call of the same LLM, in money and in
    time. It is left out where its result would change nothing.

    Simplified: what remains of earlier answers is that they were rejected (the paper's belief also weighs the earlier
    votes). The cascade consists of the cheapest, the middle and the best LLM among those that are worth their price
    alone.

    Parameters
    ----------
    accuracy : float
        Share of right votes, in [0.5, 1).

    Raises
    ------
    ConfigError
        If `accuracy` is out of range.

    References
    ----------
    Aggarwal, Madaan et al. (2023), "AutoMix: Automatically Mixing Language Models", arXiv 2310.12963.
    """

    def __init__(self, accuracy: float = 0.75) -> None:
        if not 0.5 <= accuracy < 1.0:
            raise ConfigError(f"a verifier's accuracy must lie in [0.5, 1), not {accuracy!r}")
        self._accuracy = accuracy

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each lambda."""
        chain, rng = cascade(task.train), np.random.default_rng(task.seed)
        known = votes(task.train.quality[:, chain], self._accuracy, rng)
        asked = votes(task.stream.quality[:, chain], self._accuracy, rng)
        quality = task.train.quality[:, chain]
        cost = task.train.cost_usd[:, chain] / task.reference_cost_usd
        for willingness in task.grid:
            worth = (_QUALITY_ALONE if math.isinf(willingness) else float(willingness)) * quality
            rules = solved(worth, cost, known)
            yield Planned([_calls(chain, rules, row) for row in asked])


def cascade(train: FullFeedback) -> list[int]:
    """Return the columns of the LLMs to ask, from cheap to dear: corners of the hull of single LLMs."""
    cost, quality = train.cost_usd.mean(axis=0), train.quality.mean(axis=0)
    hull = Frontier.of(np.stack([cost, quality], axis=1))
    corners = [
        int(np.flatnonzero((cost == c) & (quality == q))[0]) for c, q in zip(hull.cost, hull.quality, strict=True)
    ]
    places = np.linspace(0, len(corners) - 1, min(_DEPTH, len(corners))).astype(int)
    return [corners[place] for place in places]


def votes(quality: Matrix, accuracy: float, rng: np.random.Generator) -> Votes:
    """Simulate how many verifications find each answer correct, shape as `quality`.

    The chance that a vote on an answer is right is drawn once for the answer, from the Beta distribution with mean
    `accuracy` whose parameters sum to 1.
    """
    good = rng.random(quality.shape) < quality
    right = rng.beta(accuracy, 1.0 - accuracy, size=quality.shape)
    return rng.binomial(_VOTES, np.where(good, right, 1.0 - right)).astype(np.intp)


def solved(worth: Matrix, cost: Matrix, votes: Votes) -> list[npt.NDArray[np.bool_]]:
    """Return for each LLM of the cascade but the last one whether to go on, by the number of votes for its answer.

    Parameters
    ----------
    worth, cost : array of shape (n, L)
        lambda q, and what a call costs in the same unit.
    votes : array of shape (n, L)
        Votes for the answers.
    """
    rules: list[npt.NDArray[np.bool_]] = []
    later = worth[:, -1]
    for stage in reversed(range(worth.shape[1] - 1)):
        stop, go = worth[:, stage], later - cost[:, stage + 1]
        rule = _summed(votes[:, stage], go - stop) > 0
        later = np.where(rule[votes[:, stage]], go, stop) - cost[:, stage]
        blind = go if go.sum() > stop.sum() else stop
        if blind.sum() >= later.sum():  # verifying isn't worth its cost
            rule, later = np.full(_VOTES + 1, blind is go), blind
        rules.insert(0, rule)
    return rules


def _summed(votes: Votes, advantage: Vector) -> Vector:
    """Sum by number of votes, smoothed; only the sign is of interest."""
    apart = np.subtract.outer(np.arange(_VOTES + 1), votes)
    sums: Vector = np.exp(-0.5 * (apart / _SMOOTHING_VOTES) ** 2) @ advantage
    return sums


def _calls(chain: Sequence[int], rules: Sequence[npt.NDArray[np.bool_]], votes: Votes) -> list[int]:
    """List the calls for one query; an LLM that verifies its answer is called twice."""
    calls: list[int] = []
    for column, rule, count in zip(chain, rules, votes, strict=False):
        calls += [column, column] if rule.any() and not rule.all() else [column]
        if not rule[count]:
            return calls
    return [*calls, chain[-1]]
