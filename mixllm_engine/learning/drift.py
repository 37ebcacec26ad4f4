"""Has a candidate's quality shifted? A two-sided CUSUM test on the residuals of its online labels.

With z = (label - prediction before the label was learned) / sigma, sigma the running deviation of the residuals, and s
the share of it that counts::

    up   <- max(0, up   + s z - k)        a shift to the better
    down <- max(0, down - s z - k)        a shift to the worse

Either sum measures, in standard errors of one label, what has gathered beyond the slack k; an alert stands while one
of them is above the threshold. Page's argument: a sum that last was 0 before label j makes j the likeliest beginning
of the change. Since the sums are bounded at twice the threshold, an alert goes away by itself when predictions are
right again, because the heads have learned the change or because the candidate recovered.

A prediction for a query unlike those that the candidate answered before is no more than a guess, and that it was wrong
says little: s = min(1, 2 / r)^2, with r the novelty of the query (`HeadBank.novelty`), which is 0.6 to 1.6 for queries
of known kinds and 3 to 9 for others. Without it, the first queries of a kind that is hard for all LLMs look as if one
LLM after the other had become worse.

Where an alert begins, the learner lets what it knew of the candidate's quality weigh no more than a few labels
(`LearningConfig.drift_memory`), so that it follows at once.

Where nothing but f_df learns from feedback, predictions stay those of the offline fit, and an alert says that a
candidate's quality online is another one than the table's. The sums follow the order of the log. Labels that only
change are no new evidence and are left out, and so are those of candidates outside the pool.

References
----------
Page (1954), "Continuous inspection schemes", Biometrika 41. Siegmund (1985), "Sequential analysis" (run lengths).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np

from mixllm_engine.errors import StateError
from mixllm_engine.types import Vector

# Shifts smaller than twice this many deviations are not worth an alert.
_SLACK: Final = 0.25
# Variance of a residual before any was seen, a coin's, and how many labels that is worth. It never counts as less than
# the floor: a candidate that hardly ever fails would alert at a few failures in a row.
_PRIOR_VARIANCE: Final = 0.25
_PRIOR_STRENGTH: Final = 20.0
_LEAST_VARIANCE: Final = 0.12
# Up to this novelty a query is of a known kind.
_KNOWN_KIND: Final = 2.0


@dataclass
class _Side:
    """One of the two sums, with the labels and residuals since it last was 0."""

    statistic: float = 0.0
    labels: float = 0.0
    residuals: float = 0.0

    def add(self, step: float, residual: float, bound: float) -> None:
        self.statistic = min(self.statistic + step, bound)
        if self.statistic <= 0.0:
            self.statistic = self.labels = self.residuals = 0.0
        else:
            self.labels += 1.0
            self.residuals += residual


class DriftTest:
    """The test of one candidate.

    Parameters
    ----------
    threshold : float
        Standard errors at which it alerts.

    Examples
    --------
    >>> test = DriftTest(10.0)
    >>> for _ in range(30):
    ...     test.add(-0.5)
    >>> test.alert()
    {'shift': -0.5, 'labels': 30}
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._count = self._squares = 0.0
        self._up, self._down = _Side(), _Side()

    def add(self, residual: float, novelty: float = 1.0) -> None:
        """Take in the residual of one new label, for a query of some novelty."""
        variance = (self._squares + _PRIOR_STRENGTH * _PRIOR_VARIANCE) / (self._count + _PRIOR_STRENGTH)
        share = (_KNOWN_KIND / max(novelty, _KNOWN_KIND)) ** 2
        step, bound = share * residual / math.sqrt(max(variance, _LEAST_VARIANCE)), 2.0 * self.threshold
        self._up.add(step - _SLACK, residual, bound)
        self._down.add(-step - _SLACK, residual, bound)
        self._count += 1.0
        self._squares += residual * residual

    @property
    def alerts(self) -> bool:
        """Whether the level has shifted."""
        return self._up.statistic > self.threshold or self._down.statistic > self.threshold

    def alert(self) -> dict[str, float] | None:
        """Return the shift, as mean residual since it began, and how many labels ago that was; or ``None``."""
        if not self.alerts:
            return None
        side = self._up if self._up.statistic >= self._down.statistic else self._down
        return {"shift": side.residuals / side.labels, "labels": int(side.labels)}

    def numbers(self) -> Vector:
        """Return where the test stands, to store it."""
        return np.array([self._count, self._squares, *astuple(self._up), *astuple(self._down)])

    @classmethod
    def restore(cls, numbers: Vector, threshold: float) -> DriftTest:
        """Go on where a test stood, or raise `StateError`."""
        test = cls(threshold)
        values = [float(number) for number in checked_numbers(numbers)]
        test._count, test._squares = values[:2]
        test._up, test._down = _Side(*values[2:5]), _Side(*values[5:])
        return test


def checked_numbers(numbers: Vector) -> Vector:
    """Return where a test stands, or raise `StateError` if no test can stand there."""
    if numbers.shape != (8,):
        raise StateError("the numbers of a drift test don't fit; the state is damaged")
    sides = numbers[2:].reshape(2, 3)  # statistic, labels and residuals
    if not (numbers[:2] >= 0).all() or not (sides[:, :2] >= 0).all() or ((sides[:, 0] > 0) & (sides[:, 1] < 1)).any():
        raise StateError("the numbers of a drift test can't be right; the state is damaged")
    return numbers


class DriftTests:
    """The tests of all candidates, by name.

    Parameters
    ----------
    threshold : float
        Standard errors at which a candidate alerts.
    state : mapping of str to array
        Where the tests stood.
    """

    def __init__(self, threshold: float, state: Mapping[str, Vector]) -> None:
        self.threshold = threshold
        self._tests = {name: DriftTest.restore(numbers, threshold) for name, numbers in state.items()}

    def add(self, name: str, residual: float, novelty: float = 1.0) -> bool:
        """Take in one new label of a candidate; tell whether an alert begins with it.

        Parameters
        ----------
        name : str
            The candidate.
        residual : float
            Label minus prediction.
        novelty : float
            How much less is known of such queries than of others: 1 = as much.
        """
        test = self._tests.get(name)
        if test is None:
            test = self._tests[name] = DriftTest(self.threshold)
        stood = test.alerts
        test.add(residual, novelty)
        return test.alerts and not stood

    def alerts(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return the alerts that stand for some candidates: ``candidate``, ``shift`` and ``labels`` since it began."""
        found = [(name, self._tests[name].alert()) for name in names if name in self._tests]
        return [{"candidate": name, **alert} for name, alert in found if alert is not None]

    def state(self) -> dict[str, Vector]:
        """Return where the tests stand."""
        return {name: test.numbers() for name, test in self._tests.items()}
