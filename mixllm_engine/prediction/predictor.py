"""Context -> expected quality, response length, cost and uncertainty of every candidate (paper, equations 4 to 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from mixllm_engine.candidates import Pool
from mixllm_engine.config import PredictionConfig
from mixllm_engine.prediction.heads import HeadBank, HeadStatistics
from mixllm_engine.prediction.mlp import Networks
from mixllm_engine.prediction.priors import prior_log_length, prior_quality
from mixllm_engine.prediction.shared_rows import in_blocks
from mixllm_engine.types import Label, Matrix, Vector

# Log lengths are kept where exp() makes sense: one token to about three million.
_MAX_LOG_LENGTH = 15.0
_PRIOR_LENGTH_VARIANCE = 0.5
_VARIANCE_STRENGTH = 10.0
# An array, since numpy would make one of a float anew in every decision.
_LOWEST = np.array(0.0)


class Prediction(NamedTuple):
    """Predictions for one query, each of shape (K,) in the order of the pool.

    Attributes
    ----------
    quality : array
        p-hat, in [0, 1].
    log_length, length_deviation : array
        Mean and standard deviation of log response length.
    response_tokens : array
        Expected length, exp(mean + variance / 2), within the candidate's output limit.
    cost_usd : array
        c-hat.
    leverage : array
        x' A^-1 x of the quality head.
    """

    quality: Vector
    log_length: Vector
    length_deviation: Vector
    response_tokens: Vector
    cost_usd: Vector
    leverage: Vector


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions for n queries; arrays of shape (n, K), columns as in `candidates`.

    Attributes
    ----------
    candidates : tuple of str
        Names, in the order of the columns.
    quality, cost_usd, response_tokens : array
        Expected quality in [0, 1], dollars, and length.
    uncertainty : array
        Width of the quality estimate, in the form that the configuration chose.
    """

    candidates: tuple[str, ...]
    quality: Matrix
    cost_usd: Matrix
    response_tokens: Matrix
    uncertainty: Matrix


class Predictor:
    """The two heads of every candidate and its prices.

    Parameters
    ----------
    pool : Pool
        Candidates; their order is the order of every array.
    dimension : int
        Length of a context.
    config : PredictionConfig
        Shrinkage and strength of the priors.
    """

    def __init__(self, pool: Pool, dimension: int, config: PredictionConfig) -> None:
        self.pool = pool
        self.config = config
        # of both banks: those of quality first, and zeros behind
        self._weights = np.zeros((in_blocks(2 * len(pool)), dimension))
        self._highest = np.repeat([1.0, _MAX_LOG_LENGTH], len(pool))
        size = (len(pool), dimension)
        quality, length = np.zeros(size), np.zeros(size)
        quality[:, 0] = [prior_quality(candidate) for candidate in pool.candidates]
        length[:, 0] = [prior_log_length(candidate) for candidate in pool.candidates]
        of_quality, of_length = np.split(self._weights[: 2 * len(pool)], 2)
        strength = config.prior_strength
        self.quality = HeadBank(quality, shrinkage=config.quality_shrinkage, strength=strength, weights=of_quality)
        self.length = HeadBank(length, shrinkage=config.length_shrinkage, strength=strength, weights=of_length)
        self._refresh_length_variance()

    @property
    def dimension(self) -> int:
        """Length of a context."""
        return self.quality.dimension

    def expected(self, contexts: Matrix) -> Matrix:
        """Return the means of quality and log length before they are bounded, those of quality first.

        Shape (2 K,) for one context, (n, 2 K) for contexts of shape (n, d).
        """
        means: Matrix = contexts.dot(self._weights.T)  # on short vectors half the time of `@`
        return means[..., : 2 * len(self.pool)]

    def predict(self, context: Vector, prompt_tokens: float, input_price: Vector | None = None) -> Prediction:
        """Predict for one query.

        Parameters
        ----------
        context : array of shape (d,)
            phi(q).
        prompt_tokens : float
            Length of the prompt that will be billed.
        input_price : array of shape (K,), optional
            Dollars per prompt token; lower than the list price where a session's prefix is cached.
        """
        pool = self.pool
        bounded = self._bounded(context)
        quality, log_length = bounded[: len(pool)], bounded[len(pool) :]
        tokens = np.minimum(np.exp(log_length + self._half_variance), pool.longest_answer)
        cost_usd = prompt_tokens * (pool.input_price if input_price is None else input_price)
        cost_usd += tokens * pool.output_price
        return Prediction(quality, log_length, self._length_deviation, tokens, cost_usd, self.quality.leverage(context))

    def predict_many(self, contexts: Matrix, prompt_tokens: Vector) -> tuple[Matrix, Matrix, Matrix]:
        """Return quality, cost in dollars and response tokens, each of shape (n, K), for contexts of shape (n, d)."""
        quality, log_length = np.split(self._bounded(contexts), 2, axis=1)
        tokens = np.minimum(np.exp(log_length + self._half_variance), self.pool.longest_answer)
        cost = np.outer(prompt_tokens, self.pool.input_price) + tokens * self.pool.output_price
        return quality, cost, tokens

    def leverage_many(self, contexts: Matrix) -> Matrix:
        """Return x' A^-1 x of the quality heads, shape (n, K), for contexts of shape (n, d)."""
        return np.array([self.quality.leverage(context) for context in contexts]).reshape(len(contexts), len(self.pool))

    def describe(self, contexts: Matrix, prompt_tokens: Vector, form: Literal["width", "square"]) -> Predictions:
        """Return all predictions for contexts of shape (n, d), with the uncertainty in one of its two forms."""
        quality, cost, tokens = self.predict_many(contexts, prompt_tokens)
        leverage = self.leverage_many(contexts)
        return Predictions(
            candidates=self.pool.names,
            quality=quality,
            cost_usd=cost,
            response_tokens=tokens,
            uncertainty=leverage if form == "square" else np.sqrt(leverage),
        )

    def learn_length(self, position: int, context: Vector, response_tokens: float) -> None:
        """Learn the true length of one answer."""
        self.length.update(position, context, math.log(max(response_tokens, 1.0)))
        self._refresh_length_variance(position)

    def add(self, position: int, quality: HeadStatistics, length: HeadStatistics) -> None:
        """Add statistics to both heads of a candidate."""
        self.quality.add(position, quality)
        self.length.add(position, length)
        self._refresh_length_variance(position)

    def fade_quality(self, position: int, count: float) -> None:
        """Let what was learned of a candidate's quality weigh no more than so many labels."""
        self.quality.fade(position, count)

    def adopt(self, older: Predictor) -> None:
        """Take over what an older predictor learned, for every candidate of the same name."""
        for name, position in self.pool.index.items():
            source = older.pool.index.get(name)
            if source is not None:
                self.quality.copy_head(position, older.quality, source)
                self.length.copy_head(position, older.length, source)
        self._refresh_length_variance()

    def imitate(self, position: int, sibling: int) -> None:
        """Expect of a candidate that was never observed what is expected of a sibling."""
        self.quality.set_prior(position, self.quality.weights[sibling])
        self.length.set_prior(position, self.length.weights[sibling])
        self._refresh_length_variance(position)

    # -- for what learns by gradient; see `prediction.neural` ---------------------------------------------------------

    def step_quality(self, name: str, context: Vector, after: Label, before: Label | None = None) -> None:
        """Learn a label, or its change, apart from the sums; here the sums are all."""

    def step_length(self, name: str, context: Vector, response_tokens: float) -> None:
        """Learn the length of an answer apart from the sums."""

    def networks(self) -> Networks:
        """Return what was learned apart from the sums, to store it: networks by target and name."""
        return {}

    def restore(self, networks: Networks) -> None:
        """Begin with what was stored."""

    def _bounded(self, contexts: Matrix) -> Matrix:
        """Return what is expected within its bounds; on short vectors this takes a third of the time of `clip`."""
        bounded: Matrix = np.minimum(np.maximum(self.expected(contexts), _LOWEST), self._highest)
        return bounded

    def _refresh_length_variance(self, position: int | None = None) -> None:
        if position is None:
            variance = self.length.residual_variance(_PRIOR_LENGTH_VARIANCE, _VARIANCE_STRENGTH)
            self._half_variance, self._length_deviation = variance / 2.0, np.sqrt(variance)
            return
        one = float(self.length.residual_variance(_PRIOR_LENGTH_VARIANCE, _VARIANCE_STRENGTH, position)[0])
        self._half_variance[position], self._length_deviation[position] = one / 2.0, math.sqrt(one)
