"""OptLLM: bootstrapped forests, and a search for assignments of the whole batch that nothing dominates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.rivals.base import need_scikit_learn
from mixllm_engine.types import Matrix

Plan = npt.NDArray[np.intp]

# 100 and 100 as published, which takes many minutes.
_BOOTSTRAPS, _TREES = 20, 10
_DEPTH: Final = 10
# How many standard deviations an uncertain prediction is lowered.
_CAUTION: Final = 0.5
# In so many steps each search goes from one end to the other.
_STEPS: Final = 10


class OptLLM:
    """Predict quality with its uncertainty, then search from the cheapest assignment up and from the best one down.

    A step first destroys (it moves the queries that gain most quality, or save most cost, until a tenth of the way is
    done) and then reconstructs (it swaps while some query gains more quality per dollar than another one loses). The
    knob is the place in the resulting set of assignments, none of which dominates another one by its predictions.

    An advantage over systems that answer queries as they come: all queries of the stream are known before the first is
    assigned.

    Simplified: 20 bootstraps of 10 trees that predict all candidates at once; each bootstrap is weighted by its score
    on the rows that it left out; mean - 0.5 standard deviations serves both searches (the paper has a weight alpha,
    whose value we don't know, and the plain mean for one of them).

    References
    ----------
    Liu et al. (2024), "OptLLM: Optimal Assignment of Queries to Large Language Models", arXiv 2405.15130.
    """

    def __init__(self) -> None:
        need_scikit_learn()

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each assignment that was found."""
        mean, deviation = bootstrapped(task.known, task.train.quality, task.asked, seed=task.seed)
        search = Search(mean - _CAUTION * deviation, task.cost_usd / task.reference_cost_usd)
        for plan in search.front():
            yield Planned(plan)


def bootstrapped(known: Matrix, quality: Matrix, asked: Matrix, *, seed: int) -> tuple[Matrix, Matrix]:
    """Return the mean and the standard deviation over forests of the expected quality, each of shape (m, K)."""
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(seed)
    predictions, scores = [], []
    for number in range(_BOOTSTRAPS):
        rows = rng.integers(len(known), size=len(known))
        forest = RandomForestRegressor(
            n_estimators=_TREES, max_depth=_DEPTH, max_features="sqrt", random_state=seed + number
        ).fit(known[rows], quality[rows])
        predictions.append(np.asarray(forest.predict(asked), dtype=np.float64))
        left_out = np.setdiff1d(np.arange(len(known)), rows)
        right = 0.0
        if len(left_out) > 0:
            right = float((forest.predict(known[left_out]).round() == quality[left_out].round()).mean())
        scores.append(right + 1.0 / len(known))  # all of them may be wrong
    stacked = np.stack(predictions)
    return np.average(stacked, axis=0, weights=scores), stacked.std(axis=0)


class Search:
    """Destroy and reconstruct assignments.

    Parameters
    ----------
    quality, cost : array of shape (m, K)
        What each answer is expected to be worth and to cost.
    """

    def __init__(self, quality: Matrix, cost: Matrix) -> None:
        self._quality, self._cost, self._every = quality, cost, np.arange(len(quality))

    def front(self) -> list[Plan]:
        """Return assignments, each of shape (m,), none of which dominates another one, from cheap to dear."""
        cheapest = self._undominated(self._cost.argmin(axis=1))
        best = self._undominated(self._quality.argmax(axis=1))
        quality_gap = (self._worth(best) - self._worth(cheapest)) / _STEPS
        cost_gap = (self._spent(best) - self._spent(cheapest)) / _STEPS
        found = [cheapest, best]
        up, down = cheapest, best
        for _ in range(_STEPS - 1):
            up = self.reconstructed(self._moved(up, self._quality, quality_gap))
            down = self.reconstructed(self._moved(down, -self._cost, cost_gap))
            found += [up, down]
        kept: list[Plan] = []
        for plan in sorted(found, key=lambda plan: (self._spent(plan), -self._worth(plan))):
            if not kept or self._worth(plan) > self._worth(kept[-1]):
                kept.append(plan)
        return kept

    def reconstructed(self, plan: Plan) -> Plan:
        """Swap quality for cost between queries while both together gain."""
        plan = self._undominated(plan)
        gain, gain_to, loss, loss_to = self._slopes(plan, self._every)
        while True:
            up, down = int(gain.argmax()), int(loss.argmin())
            if gain[up] <= loss[down]:
                return plan
            plan[down] = loss_to[down]
            plan[up] = gain_to[up]  # where it is the same query, it goes up
            changed = np.array([up, down])
            gain[changed], gain_to[changed], loss[changed], loss_to[changed] = self._slopes(plan, changed)

    def _slopes(self, plan: Plan, rows: Plan) -> tuple[Matrix, Plan, Matrix, Plan]:
        """Return the most quality that a query gains per cost, the least that it loses per saved cost, and where."""
        at = plan[rows]
        quality = self._quality[rows] - self._quality[rows, at][:, None]
        cost = self._cost[rows] - self._cost[rows, at][:, None]
        slope = np.divide(quality, cost, out=np.zeros_like(cost), where=cost != 0)
        gain = np.where((quality > 0) & (cost > 0), slope, -np.inf)
        loss = np.where((quality < 0) & (cost < 0), slope, np.inf)
        return gain.max(axis=1), gain.argmax(axis=1), loss.min(axis=1), loss.argmin(axis=1)

    def _moved(self, plan: Plan, good: Matrix, gap: float) -> Plan:
        """Move the queries to which it does most good to where it does it, until the gap is closed."""
        gained = good.max(axis=1) - good[self._every, plan]
        order = np.argsort(-gained, kind="stable")
        count = int(np.searchsorted(gained[order].cumsum(), gap)) + 1
        moved = plan.copy()
        moved[order[:count]] = good[order[:count]].argmax(axis=1)
        return moved

    def _undominated(self, plan: Plan) -> Plan:
        """Take for every query the best that costs no more, and the cheapest of the equally good."""
        affordable = self._cost <= self._cost[self._every, plan][:, None]
        top = np.where(affordable, self._quality, -np.inf).max(axis=1, keepdims=True)
        chosen: Plan = np.where(affordable & (self._quality >= top), self._cost, np.inf).argmin(axis=1)
        return chosen

    def _worth(self, plan: Plan) -> float:
        return float(self._quality[self._every, plan].sum())

    def _spent(self, plan: Plan) -> float:
        return float(self._cost[self._every, plan].sum())
