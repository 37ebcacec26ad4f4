"""Any predictor of quality as a system: take the best by lambda p - c."""

from __future__ import annotations

from collections.abc import Iterator

from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.rivals.base import Rival


class Predicting:
    """Predict the quality of every candidate with a rival's model, and trade it off against the expected cost.

    Parameters
    ----------
    rival : Rival
        Predicts quality.
    """

    def __init__(self, rival: Rival) -> None:
        self._rival = rival

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each lambda."""
        self._rival.fit(task.known, task.train.quality, task.train.domains)
        quality = self._rival.predict(task.asked, task.stream.domains)
        for willingness in task.grid:
            yield Planned(task.best_by(quality, float(willingness)))
