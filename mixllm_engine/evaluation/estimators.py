"""Importance weights -> estimates: IPS, self-normalised IPS and doubly robust, on plain arrays.

For n logged rows with context x, action a, outcome y and logged probability b(a|x), and a target policy pi::

    w     = pi(a|x) / b(a|x)
    IPS   = mean of w y
    SNIPS = sum of w y / sum of w
    DR    = mean of  sum_k pi(k|x) f(x, k)  +  w (y - f(x, a))

Where b gives every action of pi some chance, IPS and DR are unbiased for any f that has not seen its row's y, and SNIPS
is consistent. Standard errors are those of the influence functions, intervals are normal. No weight is ever clipped.

References
----------
Horvitz and Thompson (1952), "A generalization of sampling without replacement from a finite universe", JASA 47.
Swaminathan and Joachims (2015), "The self-normalized estimator for counterfactual learning", NeurIPS.
Dudik, Langford and Li (2011), "Doubly robust policy evaluation and learning", ICML.
Chernozhukov et al. (2018), "Double/debiased machine learning", The Econometrics Journal 21 (cross-fitting).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mixllm_engine.config import PredictionConfig
from mixllm_engine.prediction.heads import HeadBank, HeadStatistics
from mixllm_engine.types import Matrix, Vector


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its uncertainty; NaN where the log says nothing.

    Attributes
    ----------
    value : float
        The estimate.
    standard_error : float
        Its standard error.
    low, high : float
        Ends of the confidence interval.
    """

    value: float
    standard_error: float
    low: float
    high: float

    @classmethod
    def normal(cls, value: float, standard_error: float, level: float) -> Estimate:
        """Return an estimate with its normal interval at a confidence level in (0, 1)."""
        reach = NormalDist().inv_cdf(0.5 + level / 2.0) * standard_error
        return cls(value=value, standard_error=standard_error, low=value - reach, high=value + reach)

    def __str__(self) -> str:
        """Show value and interval."""
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def ips(weight: Vector, outcome: Vector, level: float) -> Estimate:
    """Return the inverse propensity score estimate; weight and outcome have shape (n,), n >= 2."""
    return _mean(weight * outcome, level)


def snips(weight: Vector, outcome: Vector, level: float) -> Estimate:
    """Return the self-normalised estimate: not unbiased, but within the range of the outcomes and steadier than IPS."""
    if not weight.any():
        return Estimate(value=np.nan, standard_error=np.nan, low=np.nan, high=np.nan)
    value = float(weight @ outcome / weight.sum())
    return _mean(value + weight * (outcome - value) / weight.mean(), level)


def doubly_robust(
    weight: Vector, outcome: Vector, target: Matrix, model: Matrix, chosen: npt.NDArray[np.intp], level: float
) -> Estimate:
    """Return the doubly robust estimate.

    Parameters
    ----------
    weight, outcome : array of shape (n,)
        w and y.
    target : array of shape (n, K)
        pi(k|x).
    model : array of shape (n, K)
        f(x, k); row i may not have learned from outcome i.
    chosen : array of shape (n,), int
        Column of the logged action.
    level : float
        Confidence level in (0, 1).
    """
    expected = (target * model).sum(axis=1)
    return _mean(expected + weight * (outcome - model[np.arange(len(chosen)), chosen]), level)


def _mean(influence: Vector, level: float) -> Estimate:
    error = float(influence.std(ddof=1) / np.sqrt(len(influence)))
    return Estimate.normal(float(influence.mean()), error, level)


def cross_fitted(
    contexts: Matrix,
    chosen: npt.NDArray[np.intp],
    outcome: Vector,
    candidates: int,
    *,
    config: PredictionConfig,
    folds: int,
    seed: int,
) -> Matrix:
    """Predict the outcome of every candidate for every row by the engine's heads, from the other folds alone.

    Parameters
    ----------
    contexts : array of shape (n, d)
        phi of the queries; the first column is 1.
    chosen : array of shape (n,), int
        Which candidate the outcome belongs to.
    outcome : array of shape (n,)
        What is predicted.
    candidates : int
        K; one that was never chosen is predicted at the mean over all.
    config : PredictionConfig
        Shrinkage and strength of the prior.
    folds : int
        Number of folds, at most n.
    seed : int
        Assigns rows to folds.

    Returns
    -------
    array of shape (n, K)
        Predictions within the range of the outcomes that they were learned from.
    """
    fold = np.random.default_rng(seed).permutation(len(outcome)) % min(folds, len(outcome))
    predicted = np.empty((len(outcome), candidates))
    for held_out in range(int(fold.max()) + 1):
        other = fold != held_out
        prior = np.zeros((candidates, contexts.shape[1]))
        prior[:, 0] = outcome[other].mean()
        bank = HeadBank(prior, shrinkage=config.quality_shrinkage, strength=config.prior_strength)
        for position in np.unique(chosen[other]).tolist():
            rows = other & (chosen == position)
            bank.add(position, HeadStatistics.of(contexts[rows], outcome[rows]))
        seen = bank.predict(contexts[~other])
        predicted[~other] = np.clip(seen, outcome[other].min(), outcome[other].max())
    return predicted
