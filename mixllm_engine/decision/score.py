"""The meta decision maker: predictions -> scores (paper, section 3.3, equations 7 to 11).

    s  = lambda/(lambda+1) p - 1/(lambda+1) c + alpha u - beta pen
    s' = s + kappa s_df                                                where f_df learns from feedback (equation 15)

and, beyond the paper, the scores of newcomers and of the leader rise by lambda/(lambda+1) times the quality that they
are given in advance; see `decision.advance` and `decision.leader`.
`DecisionConfig` says which form each part takes; both presets run through the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from mixllm_engine.candidates import Pool
from mixllm_engine.config import DecisionConfig
from mixllm_engine.prediction.predictor import Prediction
from mixllm_engine.types import Score, Vector
from mixllm_engine.waiting.timing import Timing, log_tokens_within

# Numbers for whole arrays are arrays themselves where every decision needs them: numpy would make one of a float anew.
_HALF: Final = np.array(0.5)
_LINEAR, _CUBIC = np.array(0.5 * 1.5976), np.array(0.5 * 0.07056)
# exp() overflows a float64 beyond 709.8; two candidates so late are equally hopeless.
_MAX_EXPONENT = 700.0


class Scores(NamedTuple):
    """All parts of the score, each of shape (K,) in the order of the pool.

    No `feedback` means none was learned, no `optimism` that nobody is given anything in advance. `on_quality` is
    lambda/(lambda+1).
    """

    trade: Vector
    uncertainty: Vector
    penalty: Vector
    total: Vector
    on_quality: float
    feedback: Vector | None = None
    optimism: Vector | None = None

    @property
    def without_optimism(self) -> Vector:
        """The total of what is known alone."""
        return self.total if self.optimism is None else self.total - self.optimism


def score(
    prediction: Prediction,
    timing: Timing,
    config: DecisionConfig,
    *,
    willingness_to_pay: float,
    reference_cost_usd: float,
    max_wait_s: float | None,
    feedback: Vector | None = None,
    advance: Vector | None = None,
) -> Scores:
    """Score every candidate.

    Parameters
    ----------
    prediction : Prediction
        p-hat, c-hat, length and leverage.
    timing : Timing
        Waiting and speed.
    config : DecisionConfig
        alpha, beta, gamma, xi and the form of each part.
    willingness_to_pay : float
        lambda >= 0; 0 looks at cost alone, infinity at quality alone.
    reference_cost_usd : float
        What a typical call to the pool's dearest candidate costs: the unit of c under ``cost_scale="pool"``.
    max_wait_s : float or None
        tau; ``None`` = any wait will do.
    feedback : array of shape (K,), optional
        kappa s_df.
    advance : array of shape (K,), optional
        Quality that is given in advance; see `decision.advance` and `decision.leader`.
    """
    unit = reference_cost_usd if config.cost_scale == "pool" else 1.0
    on_quality, on_cost = trade_weights(willingness_to_pay)
    worth = on_quality * prediction.quality
    trade = worth - (on_cost / unit) * prediction.cost_usd
    square = config.uncertainty == "square"
    uncertainty = prediction.leverage if square else np.sqrt(prediction.leverage)
    penalty = _penalty(prediction, timing, config, max_wait_s, worth)
    total = trade + config.uncertainty_weight * uncertainty - config.penalty_weight * penalty
    if feedback is not None:
        total = total + feedback
    given = None if advance is None else on_quality * advance
    if given is not None:
        total = total + given
    return Scores(trade, uncertainty, penalty, total, on_quality, feedback, given)


def trade_weights(willingness_to_pay: float) -> tuple[float, float]:
    """Return lambda/(lambda+1) and 1/(lambda+1), also for an infinite lambda.

    Examples
    --------
    >>> trade_weights(3.0)
    (0.75, 0.25)
    >>> trade_weights(math.inf)
    (1.0, 0.0)
    """
    if math.isinf(willingness_to_pay):
        return 1.0, 0.0
    return willingness_to_pay / (willingness_to_pay + 1.0), 1.0 / (willingness_to_pay + 1.0)


def _penalty(
    prediction: Prediction, timing: Timing, config: DecisionConfig, max_wait_s: float | None, worth: Vector
) -> Vector:
    if max_wait_s is None or config.penalty == "none":
        return np.zeros_like(worth)
    if config.penalty == "exponential":  # paper, equation 11
        exponent = config.penalty_rate * (timing.waiting_s - config.tolerance * max_wait_s)
        late: Vector = np.exp(np.minimum(exponent, _MAX_EXPONENT))
        return late
    # A late answer is worth nothing, so the expected quality is p P(T <= tau); the penalty is what that takes away.
    return worth * lateness(prediction, timing, max_wait_s)


def lateness(prediction: Prediction, timing: Timing, max_wait_s: float) -> Vector:
    """Return P(T > tau), shape (K,), for T = wait + start-up + length / speed with a log-normal length."""
    beyond = prediction.log_length - log_tokens_within(timing, max_wait_s)
    return normal_distribution(beyond / prediction.length_deviation)


def normal_distribution(z: Vector) -> Vector:
    """Return the standard normal distribution function to 1.4e-4, in few vector operations.

    References
    ----------
    Bowling et al. (2009), "A logistic approximation to the cumulative normal distribution", JIEM 2(1).

    Examples
    --------
    >>> normal_distribution(np.array([-1.0, 0.0, 1.0])).round(3)
    array([0.159, 0.5  , 0.841])
    """
    # The logistic function of y is (1 + tanh(y / 2)) / 2, and tanh never overflows.
    probability: Vector = _HALF + _HALF * np.tanh(z * (_LINEAR + _CUBIC * (z * z)))
    return probability


class ScoreTable(Mapping[str, Score]):
    """The scores of a decision by name; a `Score` is made when it is asked for, since a pool may be large.

    A store in memory keeps many of them, so the numbers are copied into one array, and what else a prediction holds
    may go.
    """

    __slots__ = ("_feedback", "_numbers", "_optimism", "_pool", "_reasons", "_waiting_s")

    def __init__(
        self, pool: Pool, prediction: Prediction, timing: Timing, scores: Scores, reasons: Mapping[int, str]
    ) -> None:
        self._pool = pool
        self._reasons = reasons
        self._numbers = np.concatenate(
            (
                prediction.quality,
                prediction.response_tokens,
                prediction.cost_usd,
                scores.uncertainty,
                scores.trade,
                scores.penalty,
                scores.total,
            )
        )
        self._waiting_s = timing.waiting_s  # while nobody queues, the same for many decisions
        self._feedback = scores.feedback
        self._optimism = scores.optimism

    def __getitem__(self, name: str) -> Score:
        """Return one candidate's score."""
        return Score(**self._record(self._pool.index[name]))

    def records(self) -> dict[str, dict[str, Any]]:
        """Return all scores as plain mappings of their fields, for who writes them down."""
        return {name: self._record(position) for position, name in enumerate(self._pool.names)}

    def _record(self, position: int) -> dict[str, Any]:
        numbers = self._numbers[position :: len(self._pool)].tolist()
        quality, response_tokens, cost_usd, uncertainty, trade, penalty, total = numbers
        return {
            "quality": quality,
            "response_tokens": response_tokens,
            "cost_usd": cost_usd,
            "uncertainty": uncertainty,
            "waiting_s": float(self._waiting_s[position]),
            "trade": trade,
            "penalty": penalty,
            "total": total,
            "feedback": 0.0 if self._feedback is None else float(self._feedback[position]),
            "optimism": 0.0 if self._optimism is None else float(self._optimism[position]),
            "eligible": position not in self._reasons,
            "reason": self._reasons.get(position, ""),
        }

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in the order of the pool."""
        return iter(self._pool.names)

    def __len__(self) -> int:
        """Count the candidates."""
        return len(self._pool)
