"""Budget -> lambda, the willingness to pay.

A budget is a word, or dollars per query on average. Words mean a share of what always calling the dearest candidate
would cost; on data they are calibrated to that share, without data they take the values below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from mixllm_engine.config import BUDGET_WORDS, BudgetWord
from mixllm_engine.decision.score import trade_weights
from mixllm_engine.errors import ConfigError
from mixllm_engine.types import Matrix, Vector

Budget = BudgetWord | float

# lambda on the pool's own scale: how many calls to the dearest candidate one full point of quality is worth.
UNCALIBRATED: Mapping[BudgetWord, float] = {
    "very_low": 0.3,
    "low": 1.0,
    "medium": 3.0,
    "high": 10.0,
    "very_high": 100.0,
}
# Share of the dearest candidate's cost that a word stands for (the paper's demo publishes no numbers).
SPEND_SHARE: Mapping[BudgetWord, float] = {
    "very_low": 0.02,
    "low": 0.08,
    "medium": 0.20,
    "high": 0.45,
    "very_high": 1.0,
}

_GRID = np.logspace(-4, 4, 97)
# Means of the same costs differ in their last digits by the order of additions.
_ROUNDING = 1.0 + 1e-9
_LONGEST_S = 1e12  # longer waits are as long for everybody, and products of them may overflow


@dataclass(frozen=True, kw_only=True)
class SpendCurve:
    """Mean cost per query as a function of lambda, measured on a table of outcomes.

    Attributes
    ----------
    willingness_to_pay : array of shape (m,)
        lambda, rising, on the pool's own scale.
    cost_usd : array of shape (m,)
        Mean predicted cost of the choices, made non-decreasing.
    dearest_usd : float
        Mean cost of always calling the dearest candidate.
    """

    willingness_to_pay: Vector
    cost_usd: Vector
    dearest_usd: float

    @classmethod
    def measure(cls, quality: Matrix, cost_usd: Matrix, reference_cost_usd: float) -> SpendCurve:
        """Sweep lambda over predictions of shape (n, K)."""
        rows = np.arange(len(quality))
        spent = []
        for willingness in _GRID:
            on_quality, on_cost = trade_weights(float(willingness))
            chosen = np.argmax(on_quality * quality - on_cost * cost_usd / reference_cost_usd, axis=1)
            spent.append(cost_usd[rows, chosen].mean())
        return cls(
            willingness_to_pay=_GRID.copy(),
            cost_usd=np.maximum.accumulate(np.array(spent)),
            dearest_usd=float(cost_usd.mean(axis=0).max()),
        )

    @cached_property
    def by_word(self) -> Mapping[BudgetWord, float]:
        """What each word stands for: its lambda."""
        return {word: self.willingness_for(share * self.dearest_usd) for word, share in SPEND_SHARE.items()}

    def willingness_for(self, cost_usd: float) -> float:
        """Return the largest lambda whose mean cost stays within a number of dollars per query."""
        within = int(np.searchsorted(self.cost_usd, cost_usd * _ROUNDING, side="right")) - 1
        return float(self.willingness_to_pay[max(within, 0)])


def check_budget(budget: Budget) -> Budget:
    """Return a budget that is a known word or a positive number of dollars, or raise `ConfigError`."""
    if isinstance(budget, str):
        if budget not in BUDGET_WORDS:
            allowed = ", ".join(map(repr, BUDGET_WORDS))
            raise ConfigError(f"unknown budget {budget!r}; allowed: {allowed}, or dollars per query such as 0.002")
        return budget
    number = _number(budget, "budget")
    if number == 0:
        raise ConfigError(
            "budget=0 buys nothing; give dollars per query, or 'very_low' for the cheapest sensible choice"
        )
    return number


def check_willingness(willingness_to_pay: float) -> float:
    """Return a lambda of at least 0 (infinity is allowed: quality alone), or raise `ConfigError`."""
    if isinstance(willingness_to_pay, float) and math.isinf(willingness_to_pay) and willingness_to_pay > 0:
        return willingness_to_pay
    return _number(willingness_to_pay, "willingness_to_pay")


def check_wait(max_wait_s: float) -> float:
    """Return a longest wait above 0 (infinity is allowed: no matter how long), or raise `ConfigError`."""
    if isinstance(max_wait_s, float) and math.isinf(max_wait_s) and max_wait_s > 0:
        return max_wait_s
    number = _number(max_wait_s, "max_wait_s")
    if number == 0:
        raise ConfigError(f"max_wait_s={max_wait_s!r} must be above 0 seconds; leave it out for the default")
    return min(number, _LONGEST_S)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise ConfigError(f"{name}={value!r} must be a number")
    try:
        number = float(value)
    except OverflowError:  # of a huge int
        number = math.inf
    if not (math.isfinite(number) and number >= 0):
        raise ConfigError(f"{name}={value!r} must be finite and at least 0")
    return number


class Pace(NamedTuple):
    """How a dollar budget stands: the dual variable v, and the smoothed spend in dollars per query."""

    dual: float
    spend_usd: float


class Budgets:
    """Turn budgets into lambda, and keep dollar budgets on average (an online primal-dual pacer).

    For a budget of B dollars, lambda = lambda_0 exp(-v). The dual variable v rises while the smoothed spend is above B
    and falls while it is below: v <- clip(v + eta (spend / B - 1)), the pacer of ParetoBandit on a logarithmic scale.
    Not thread-safe: the router holds its lock.
    """

    _STEP = 0.05  # eta
    _SMOOTHING = 0.95
    _MAX_DUAL = 8.0
    _MOST = 100  # budgets that are paced: whoever names another one for every query keeps none of them

    def __init__(self) -> None:
        self.curve: SpendCurve | None = None
        self._paces: dict[float, Pace] = {}

    @property
    def paces(self) -> Mapping[float, Pace]:
        """How the dollar budgets stand that were used so far."""
        return dict(self._paces)

    def willingness(self, budget: Budget) -> float:
        """Return lambda on the pool's own scale for a checked budget."""
        if isinstance(budget, str):
            return (self.curve.by_word if self.curve else UNCALIBRATED)[budget]
        start = self.curve.willingness_for(budget) if self.curve else UNCALIBRATED["medium"]
        pace = self._paces.get(budget)
        return start * math.exp(-pace.dual) if pace else start

    def spent(self, budget: Budget, cost_usd: float) -> None:
        """Tell the pacer what one call under a dollar budget cost."""
        if isinstance(budget, str):
            return
        before = self._paces.get(budget) or Pace(0.0, budget)
        spend = self._SMOOTHING * before.spend_usd + (1.0 - self._SMOOTHING) * cost_usd
        dual = before.dual + self._STEP * (spend / budget - 1.0)
        self._paces[budget] = Pace(min(max(dual, -self._MAX_DUAL), self._MAX_DUAL), spend)
        if len(self._paces) > self._MOST:
            del self._paces[next(known for known in self._paces if known != budget)]

    def agree(self, spenders: Sequence[Mapping[float, Pace]]) -> None:
        """Take the mean of how a budget stands with all who spend from it; a budget that nobody names stays.

        Each of several workers keeps its own stream within the budget, so together they keep theirs; the mean lets one
        that has just begun, or sees few queries, know the lambda that the others have found.
        """
        for budget in {budget for paces in spenders for budget in paces}:
            known = [paces[budget] for paces in spenders if budget in paces]
            duals, spends = zip(*known, strict=True)
            self._paces[budget] = Pace(fmean(duals), fmean(spends))
