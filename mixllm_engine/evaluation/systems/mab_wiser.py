"""MABWiser's LinUCB, the installed package as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mixllm_engine.decision.score import trade_weights
from mixllm_engine.evaluation.contest.policy import Answer
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.systems.linear_arms import components
from mixllm_engine.types import Matrix

# It fits the same regressions anew with every call, so that it gets answers in parcels,
_PARCEL = 50
# and plays every other lambda only.
_EVERY = 2


class MabWiser:
    """LinUCB with the package's own settings, alpha = 1 and a penalty of 1.

    It knows rewards only, no costs: the reward is (lambda q - c) / (lambda + 1), with the cost c that was billed, in
    units of the dearest LLM's mean. It is fitted on the table's outcomes of all LLMs, on the features of `LinUCB`, and
    learns online from every 50 answers.

    References
    ----------
    Strong, Kleynhans and Kadioglu (2019), "MABWiser: A Parallelizable Contextual Multi-Armed Bandit Library for
    Python", ICTAI, pp. 909-914. The package is `mabwiser`.
    """

    def __init__(self) -> None:
        try:
            import mabwiser  # noqa: F401
        except ImportError as error:
            raise ImportError('this rival needs mabwiser: pip install "mixllm[evaluate]"') from error

    def policies(self, task: Task) -> Iterator[_Fitted]:
        """Yield a policy for every other lambda, from nearly the cheapest to the best alone."""
        known, asked = components(task)
        for willingness in task.grid[::-_EVERY][::-1]:
            worth, _ = trade_weights(float(willingness))
            yield _Fitted(task, known, asked, worth)


class _Fitted:
    def __init__(self, task: Task, known: Matrix, asked: Matrix, worth: float) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        self._asked, self._worth, self._price = asked, worth, (1.0 - worth) / task.reference_cost_usd
        self._bandit: Any = MAB(list(range(len(task.train.names))), LearningPolicy.LinUCB(), seed=task.seed)
        queries, candidates = task.train.quality.shape
        rewards = worth * task.train.quality - self._price * task.train.cost_usd
        self._bandit.fit(np.tile(np.arange(candidates), queries), rewards.ravel(), np.repeat(known, candidates, axis=0))
        self._parcel: list[tuple[int, int, float]] = []

    def choose(self, row: int, now_s: float) -> Sequence[int]:
        """Ask the bandit."""
        return [int(self._bandit.predict(self._asked[[row]]))]

    def finish(self, row: int, answer: Answer, now_s: float) -> None:
        """Learn the reward, once there are enough of them; a late answer had no quality, but its cost."""
        reward = self._worth * answer.value - self._price * answer.cost_usd
        self._parcel.append((row, answer.column, reward))
        if len(self._parcel) == _PARCEL:
            rows, columns, rewards = (np.array(part) for part in zip(*self._parcel, strict=True))
            self._bandit.partial_fit(columns, rewards, self._asked[rows])
            self._parcel.clear()
