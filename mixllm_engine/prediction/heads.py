"""Closed-form Bayesian linear heads, one for each candidate, as sums over observations.

For candidate l with contexts x (rows of X) and targets y::

    A_l     = A0 + X'X                     precision; the paper's A_l (equation 14)
    theta_l = A_l^-1 (A0 m_l + X'y)        posterior mean; Bishop, PRML, equations 3.50 and 3.51
    width   = sqrt(x' A_l^-1 x)            LinUCB's width (Li et al. 2010, equation 4)

A0 is diagonal: barely anything on the bias, much on every other weight, so that a candidate of which little is known
is predicted at its own mean m_l. X'X, X'y, y'y and n are sums: the order of observations does not matter, a relabelled
observation is a difference, and the statistics of two workers are merged by adding them.

An observation of weight w adds w x x', w y x and w y^2, and counts as one. With geometric forgetting each new
observation first multiplies its candidate's sums (never the prior) by g < 1::

    X'X <- g X'X + x x',   X'y <- g X'y + y x,   y'y <- g y'y + y^2,   n <- n + 1

so that an observation m labels ago weighs g^m. Then, and only then, the sums depend on the order of the observations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import StateError
from mixllm_engine.prediction.shared_rows import SharedRows
from mixllm_engine.prediction.symmetric import Triangle, outer
from mixllm_engine.types import Matrix, Vector

# Rank-one updates of an inverse gather rounding errors; after this many the inverse is computed anew.
_REFRESH_EVERY = 500


@dataclass(frozen=True, kw_only=True)
class HeadStatistics:
    """The sums of one candidate: all that is learned, and all that is stored.

    Attributes
    ----------
    count : float
        Observations n.
    gram : array of shape (d, d)
        X'X.
    moment : array of shape (d,)
        X'y.
    square : float
        y'y.
    """

    count: float
    gram: Matrix
    moment: Vector
    square: float

    @classmethod
    def empty(cls, dimension: int) -> HeadStatistics:
        """Return the sums over no observation."""
        return cls(count=0.0, gram=np.zeros((dimension, dimension)), moment=np.zeros(dimension), square=0.0)

    @classmethod
    def of(cls, contexts: Matrix, targets: Vector) -> HeadStatistics:
        """Return the sums over observations: contexts of shape (n, d), targets of shape (n,)."""
        return cls(
            count=float(len(targets)),
            gram=contexts.T @ contexts,
            moment=contexts.T @ targets,
            square=float(targets @ targets),
        )

    @classmethod
    def one(cls, context: Vector, target: float, weight: float = 1.0) -> HeadStatistics:
        """Return the sums over one observation of some weight."""
        return cls.of(context[None, :], np.array([target])).weighted(weight)

    def weighted(self, weight: float) -> HeadStatistics:
        """Return the sums with every observation weighing `weight` of what it weighed, but counting as before."""
        return replace(self, gram=weight * self.gram, moment=weight * self.moment, square=weight * self.square)

    def __neg__(self) -> HeadStatistics:
        """Return what takes these observations away when it is added."""
        return replace(self.weighted(-1.0), count=-self.count)

    def __add__(self, other: HeadStatistics) -> HeadStatistics:
        """Merge two sets of observations."""
        return HeadStatistics(
            count=self.count + other.count,
            gram=self.gram + other.gram,
            moment=self.moment + other.moment,
            square=self.square + other.square,
        )


class HeadBank:
    """The heads of all candidates for one target, stacked, so that one product predicts for all of them.

    Parameters
    ----------
    prior_means : array of shape (K, d)
        m_l, the weights before any observation.
    shrinkage : float
        Prior precision of every weight but the bias.
    strength : float
        Prior precision of the bias: how many observations the prior mean is worth.
    statistics : sequence of HeadStatistics, optional
        What was learned before.
    weights : array of shape (K, d), optional
        Where to keep the weights: a part of a larger array, so that one product predicts for several banks.
    """

    def __init__(
        self,
        prior_means: npt.ArrayLike,
        *,
        shrinkage: float,
        strength: float,
        statistics: Sequence[HeadStatistics] | None = None,
        weights: Matrix | None = None,
    ) -> None:
        self.prior_means = np.array(prior_means, dtype=np.float64)
        candidates, dimension = self.prior_means.shape
        self.prior_precision = np.full(dimension, float(shrinkage))
        self.prior_precision[0] = strength
        self.gram = np.zeros((candidates, dimension, dimension))
        self._triangle = Triangle(dimension)
        self._inverses = SharedRows(candidates, self._triangle.pack(np.diag(1.0 / self.prior_precision)))
        self.moment = np.zeros((candidates, dimension))
        self.weights = np.empty_like(self.prior_means) if weights is None else weights
        self.weights[:] = self.prior_means
        self.square = np.zeros(candidates)
        self.count = np.zeros(candidates)
        self.changes = 0  # how often anything was learned, so that what follows from all heads can be kept
        self._updates = np.zeros(candidates, dtype=np.int64)
        for position, observed in enumerate(statistics or ()):
            self.add(position, observed)

    @property
    def dimension(self) -> int:
        """Length d of a context."""
        return int(self.prior_means.shape[1])

    @property
    def precision(self) -> Matrix:
        """A_l of every candidate, shape (K, d, d)."""
        return self.gram + np.diag(self.prior_precision)

    @property
    def inverse(self) -> Matrix:
        """A_l^-1 of every candidate, shape (K, d, d)."""
        return self._triangle.unpack(self._inverses.all())

    def predict(self, context: Vector) -> Vector:
        """Return x'theta_l for every candidate: shape (K,) for one context (d,), (n, K) for contexts (n, d)."""
        predictions: Vector = context.dot(self.weights.T)  # on short vectors half the time of `@`
        return predictions

    def leverage(self, context: Vector) -> Vector:
        """Return x' A_l^-1 x for every candidate, shape (K,): the paper's s_unc (equation 9)."""
        return np.maximum(self._inverses.dot(self._triangle.products(context)), 0.0)

    def novelty(self, position: int, context: Vector) -> float:
        """Return how many times as uncertain one head is of a context as it is, on average, of those that it learned.

        That is x' A_l^-1 x over its mean over the rows of X, tr(A_l^-1 X'X) / n; 1 where nothing was observed.
        """
        weight = self.weight(position)
        if weight <= 0.0:
            return 1.0
        inverse = self._inverse(position)
        usual = float(np.vdot(inverse, self.gram[position])) / weight
        return float(context.dot(inverse.dot(context))) / usual

    def update(self, position: int, context: Vector, target: float, *, weight: float = 1.0, keep: float = 1.0) -> None:
        """Learn one observation of some weight; `keep` is the share g of the older ones that stays.

        The cost is O(d^2) by the Sherman-Morrison formula. With forgetting it is O(d^3): the prior stays as it is, so
        that A0 + g X'X is no multiple of what was inverted before.
        """
        if keep < 1.0:
            self._weaken(position, keep)
            gram = self.gram[position]
            gram += weight * outer(context)
            inverse = self._invert(position)
        else:
            inverse = self._grow(position, context if weight == 1.0 else math.sqrt(weight) * context)
        self.moment[position] += weight * target * context
        self.square[position] += weight * target * target
        self.count[position] += 1.0
        self._solve(position, inverse)

    def relabel(
        self,
        position: int,
        context: Vector,
        before: float,
        after: float,
        *,
        weight: float = 1.0,
        new_weight: float | None = None,
    ) -> None:
        """Change the target of an observation that was learned before with some weight; that may grow, never fall."""
        new_weight = weight if new_weight is None else new_weight
        grows = new_weight > weight
        inverse = self._grow(position, math.sqrt(new_weight - weight) * context) if grows else self._inverse(position)
        self.moment[position] += (new_weight * after - weight * before) * context
        self.square[position] += new_weight * after * after - weight * before * before
        self._solve(position, inverse)

    def weight(self, position: int) -> float:
        """Return the sum of the weights of one head's observations: the bias is 1 in every context."""
        return float(self.gram[position, 0, 0])

    def fade(self, position: int, observations: float) -> None:
        """Let what one head has observed weigh no more than a number of observations.

        The prior stays as it is, and so does the count, which says how much was observed and not what it weighs.
        """
        keep = observations / max(self.weight(position), observations)
        if keep < 1.0:
            self._weaken(position, keep)
            self._solve(position, self._invert(position))

    def add(self, position: int, observed: HeadStatistics) -> None:
        """Learn many observations at once, or merge what another worker learned."""
        self.gram[position] += observed.gram
        self.moment[position] += observed.moment
        self.square[position] += observed.square
        self.count[position] += observed.count
        self._solve(position, self._invert(position))

    def statistics(self, position: int) -> HeadStatistics:
        """Return the sums of one candidate, without the prior."""
        return HeadStatistics(
            count=float(self.count[position]),
            gram=self.gram[position].copy(),
            moment=self.moment[position].copy(),
            square=float(self.square[position]),
        )

    def labels(self) -> list[tuple[float, float | None]]:
        """Return count and mean target of each head; the bias is 1 in every context, so its sums are those of y."""
        sums = zip(self.count.tolist(), self.gram[:, 0, 0].tolist(), self.moment[:, 0].tolist(), strict=True)
        return [(count, total / weight if weight else None) for count, weight, total in sums]

    def residual_variance(self, prior: float, strength: float, position: int | None = None) -> Vector:
        """Return the mean squared residual of every head, or of one, shrunk towards a prior variance."""
        positions = range(len(self.count)) if position is None else (position,)
        return np.array([self._residual_variance(each, prior, strength) for each in positions])

    def _residual_variance(self, position: int, prior: float, strength: float) -> float:
        # |y - X theta|^2 = y'y - 2 theta'X'y + theta'X'X theta
        weights = self.weights[position]
        residual = self.square[position] + weights.dot(self.gram[position].dot(weights) - 2.0 * self.moment[position])
        return float((max(residual, 0.0) + strength * prior) / (self.count[position] + strength))

    def label_variance(self, prior: float, strength: float) -> Vector:
        """Return the variance of every head's targets, shrunk towards a prior one that is worth so many of them."""
        weight, total = self.gram[:, 0, 0], self.moment[:, 0]
        squares = np.maximum(self.square - total * total / np.maximum(weight, 1.0), 0.0)
        variance: Vector = (squares + strength * prior) / (weight + strength)
        return variance

    def mean_context(self, chosen: npt.NDArray[np.bool_]) -> Vector:
        """Return the mean of all contexts that some heads have observed, shape (d,); the others change no bit of it."""
        total: Vector = self.gram[:, 0, :][chosen].sum(axis=0)  # the constant is 1 in every context
        total /= total[0]
        return total

    def copy_head(self, position: int, other: HeadBank, source: int) -> None:
        """Take over one head of another bank, bit by bit; also its prior mean."""
        self.changes += 1
        self._inverses.share(position, other._inverses[source])
        for name in ("prior_means", "gram", "moment", "weights", "square", "count", "_updates"):
            getattr(self, name)[position] = getattr(other, name)[source]

    def typical_prior(self, position: int) -> Vector:
        """Return a prior mean for a head: its own level at the mean context, the mean slopes of those that learned.

        What is hard for the others is likely to be hard for a newcomer too.
        """
        prior: Vector = self.prior_means[position].copy()
        weights = self.gram[:, 0, 0]
        learned = weights > 0
        if learned.any():
            slopes = self.weights[learned, 1:].mean(axis=0)
            prior[1:] += slopes
            prior[0] -= slopes @ (self.gram[learned, 0, 1:].sum(axis=0) / weights[learned].sum())
        return prior

    def set_prior(self, position: int, mean: Vector) -> None:
        """Replace the prior mean m_l of a head; what was observed stays."""
        self.prior_means[position] = mean
        self._solve(position, self._inverse(position))

    def _grow(self, position: int, context: Vector) -> Matrix:
        """Add an observation to a precision, and return its inverse, shape (d, d)."""
        # A += x x';  A^-1 -= (A^-1 x)(A^-1 x)' / (1 + x' A^-1 x)
        gram = self.gram[position]
        gram += outer(context)
        self._updates[position] += 1
        if self._updates[position] >= _REFRESH_EVERY:
            return self._invert(position)
        inverse = self._inverse(position)
        projected = inverse.dot(context)
        inverse -= outer(projected / math.sqrt(1.0 + context.dot(projected)))
        self._inverses.own(position, self._triangle.pack(inverse))
        return inverse

    def _weaken(self, position: int, keep: float) -> None:
        # all weights of observations times g, never the prior
        for sums in (self.gram, self.moment, self.square):
            sums[position] *= keep

    def _invert(self, position: int) -> Matrix:
        """Compute the inverse of a precision anew, and return it, shape (d, d)."""
        inverse = np.linalg.inv(self.gram[position] + np.diag(self.prior_precision))
        inverse = (inverse + inverse.T) / 2.0
        self._inverses.share(position, self._triangle.pack(inverse))
        self._updates[position] = 0
        return inverse

    def _inverse(self, position: int) -> Matrix:
        return self._triangle.unpack(self._inverses[position])

    def _solve(self, position: int, inverse: Matrix) -> None:
        # theta = A^-1 (A0 m + X'y)
        self.changes += 1
        observed = self.prior_precision * self.prior_means[position] + self.moment[position]
        self.weights[position] = inverse.dot(observed)

    def check(self) -> None:
        """Raise `StateError` if any number is not finite or a precision is not positive definite."""
        numbers = (self.gram, self._inverses.distinct, self.moment, self.weights, self.square, self.count)
        if not all(np.isfinite(array).all() for array in numbers) or (self.count < 0).any():
            raise StateError("the learned statistics hold numbers that are not finite; the state is damaged")
        if not (np.linalg.eigvalsh(self.precision)[:, 0] > 0).all():
            raise StateError("a learned precision is not positive definite; the state is damaged")
