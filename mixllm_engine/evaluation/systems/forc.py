"""FORC: a meta-model of all LLMs, and an integer program that assigns a whole batch within a budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import ConfigError
from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.rivals.base import need_scikit_learn
from mixllm_engine.types import Matrix, Vector

_COMPONENTS: Final = 32
# Small trees: a few hundred queries of 0 or 1 are mostly noise.
_LEAVES, _TREES, _LEARNING_RATE = 8, 200, 0.05
_BUDGETS: Final = 20
_HALVINGS: Final = 60


class Forc:
    """Predict quality with one model that is told which LLM it is about, then solve an integer program.

    It maximises sum_ij p_ij x_ij subject to sum_ij c_ij x_ij <= budget, sum_j x_ij = 1 and x_ij in {0, 1}. The knob is
    the budget of the whole batch in expected cost, from what the cheapest answers cost to what the best ones do, in
    even steps on a logarithmic scale.

    An advantage over systems that answer queries as they come: all queries of the stream are known before the first is
    assigned.

    Simplified: the meta-model is gradient boosting on 32 principal components of the shared features instead of a
    fine-tuned DistilBERT that reads the LLM's name as a token; the program is solved by Lagrangian relaxation.

    References
    ----------
    Sakota, Peyrard and West (2023), "Fly-Swat or Cannon? Cost-Effective Language Model Choice via Meta-Modeling",
    arXiv 2308.06077; the strategy that maximises performance within a budget.
    """

    def __init__(self) -> None:
        need_scikit_learn()

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each budget."""
        quality = meta_model(task.known, task.train.quality, task.asked, seed=task.seed)
        for budget_usd in budgets(quality, task.cost_usd):
            yield Planned(assign(quality, task.cost_usd, float(budget_usd)))


def meta_model(known: Matrix, quality: Matrix, asked: Matrix, *, seed: int) -> Matrix:
    """Return the expected quality of every candidate for the queries asked, shape (m, K), from a table of shape (n, K).

    Each (query, LLM) is one example; the LLM is a categorical feature.
    """
    from sklearn.decomposition import PCA
    from sklearn.ensemble import HistGradientBoostingRegressor

    count = quality.shape[1]
    reduced = PCA(min(_COMPONENTS, *known.shape), random_state=seed).fit(known)

    def examples(rows: Matrix) -> Matrix:
        identity = np.tile(np.arange(count), len(rows))[:, None]
        return np.hstack([np.repeat(reduced.transform(rows), count, axis=0), identity])

    boosting = HistGradientBoostingRegressor(
        max_iter=_TREES,
        max_leaf_nodes=_LEAVES,
        learning_rate=_LEARNING_RATE,
        categorical_features=[reduced.n_components_],
        early_stopping=False,
        random_state=seed,
    )
    boosting.fit(examples(known), quality.ravel())
    predicted: Matrix = np.asarray(boosting.predict(examples(asked)), dtype=np.float64).reshape(len(asked), count)
    return predicted


def budgets(quality: Matrix, cost_usd: Matrix) -> Vector:
    """Return total budgets in dollars, increasing."""
    least = float(cost_usd.min(axis=1).sum())
    best = quality == quality.max(axis=1, keepdims=True)
    most = float(np.where(best, cost_usd, np.inf).min(axis=1).sum())
    floor = 1e-6 * max(most, 1e-12)  # LLMs may be free, and 0 has no logarithm
    return np.maximum(np.geomspace(max(least, floor), max(most, floor), _BUDGETS), least)


def assign(quality: Matrix, cost_usd: Matrix, budget_usd: float) -> npt.NDArray[np.intp]:
    """Return the candidate of each query, shape (m,), that maximise the total quality within a budget.

    The budget's Lagrange multiplier is found by bisection. Without ties this misses the integer program's optimum by
    less than one query.

    Raises
    ------
    ConfigError
        If not even the cheapest answers fit the budget.

    Examples
    --------
    Two queries, and money for one dear answer: it goes where it helps more.

    >>> quality = np.array([[0.5, 0.6], [0.1, 0.9]])
    >>> assign(quality, np.array([[1.0, 3.0], [1.0, 3.0]]), 4.0).tolist()
    [0, 1]
    """
    every = np.arange(len(quality))

    def at(price: float) -> npt.NDArray[np.intp]:
        total = quality - price * cost_usd
        tied = total >= total.max(axis=1, keepdims=True)
        chosen: npt.NDArray[np.intp] = np.where(tied, cost_usd, np.inf).argmin(axis=1)
        return chosen

    def fits(chosen: npt.NDArray[np.intp]) -> bool:
        return float(cost_usd[every, chosen].sum()) <= budget_usd

    if fits(found := at(0.0)):
        return found
    if not fits(cost_usd.argmin(axis=1)):
        raise ConfigError(
            f"a budget of ${budget_usd:g} is too small: the cheapest answers to these {len(quality)} queries cost "
            f"${cost_usd.min(axis=1).sum():g}"
        )
    low, high = 0.0, 1.0 / max(float(cost_usd.mean()), 1e-300)
    while not fits(found := at(high)):
        low, high = high, 2.0 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        chosen = at(middle)
        if fits(chosen):
            high, found = middle, chosen
        else:
            low = middle
    return found
