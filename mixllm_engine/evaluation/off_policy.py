"""What another policy would have earned and cost, from the log of the one that ran.

The log knows how probable each choice was, so its rows can be weighed as if the other policy had chosen. That needs a
log with some chance in it: `ExplorationConfig.mode` "thompson", or exploring draws. Without feedback a row says
nothing; if people judge the answers of some candidates more readily than those of others, every estimate is biased.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.config import FeatureConfig, PredictionConfig
from mixllm_engine.encoding.features import FeatureMap
from mixllm_engine.errors import ConfigError
from mixllm_engine.evaluation.estimators import Estimate, cross_fitted, doubly_robust, ips, snips
from mixllm_engine.evaluation.judged import JudgedLog, LeftOut, read_judged
from mixllm_engine.evaluation.policies import FrozenPolicy, Policy, probabilities
from mixllm_engine.router import Router
from mixllm_engine.store.base import Store
from mixllm_engine.types import Matrix, Vector

_FEATURE_ROWS: Final = 5000  # enough to learn domains and components from
_CERTAIN: Final = 1.0 - 1e-9
_NOTABLE: Final = 0.01
_FEW_ROWS: Final = 50.0


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """One quantity under the other policy, by three estimators.

    Attributes
    ----------
    ips, snips, dr : Estimate
        Inverse propensity score, self-normalised, doubly robust; see `mixllm_engine.evaluation.estimators`.
    logged : Estimate
        The same quantity under the policy that wrote the log: a plain mean.
    rows : int
        Rows that tell of it.
    """

    ips: Estimate
    snips: Estimate
    dr: Estimate
    logged: Estimate
    rows: int


@dataclass(frozen=True, kw_only=True)
class OffPolicyEstimate:
    """What a log says of another policy.

    Attributes
    ----------
    reward : Estimates
        Mean reward, in [0, 1] (IPS and DR may lie outside).
    cost_usd : Estimates or None
        Mean dollars per query, over the rows whose outcome tells a cost; ``None`` below two of them.
    left_out : LeftOut
        Decisions that don't count, by reason.
    effective_rows : float
        (sum w)^2 / sum w^2: how many rows of its own log the weighted ones are worth.
    largest_weight : float
        The largest weight.
    mean_weight : Estimate
        Mean weight. It estimates how much of the policy's choices the log could have made: less than 1 where some had
        no chance.
    unsupported : float
        Share of the policy's choices that surely had no chance: of a candidate that was not eligible, or of another one
        where the log's choice was certain. A lower bound, since the log doesn't tell the chances of the others.
    warnings : tuple of str
        What to know before believing it; empty where nothing is wrong.
    """

    reward: Estimates
    cost_usd: Estimates | None
    left_out: LeftOut
    effective_rows: float
    largest_weight: float
    mean_weight: Estimate
    unsupported: float
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        """Show the estimates, how much they rest on, and every warning."""
        lines = []
        for name, part in (("reward", self.reward), ("cost_usd", self.cost_usd)):
            if part is not None:
                lines += [f"{name}, {part.rows} rows: DR {part.dr}  SNIPS {part.snips}  IPS {part.ips}"]
                lines += [f"  in the log itself: {part.logged}"]
        lines += [f"worth {self.effective_rows:.0f} rows; largest weight {self.largest_weight:.3g}"]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def estimate(
    log: Router | Store | JudgedLog, policy: Policy, *, level: float = 0.95, folds: int = 5, seed: int = 0
) -> OffPolicyEstimate:
    """Estimate mean reward and mean cost of a policy from the log of another one.

    Parameters
    ----------
    log : Router, Store or JudgedLog
        Whose decisions and feedback are used. `read_judged` reads a store once for several estimates.
    policy : callable
        Takes a `JudgedLog`; returns a name for each row, or probabilities of shape (n, K). `frozen` makes one of a
        router, `always` one of a candidate.
    level : float
        Confidence level of the intervals, in (0, 1).
    folds : int
        Folds of the doubly robust estimate's model; no row is predicted by a model that saw its label.
    seed : int
        Assigns rows to folds.

    Raises
    ------
    ConfigError
        If `level` or `folds` make no sense, or the policy returns something else.
    TableError
        If fewer than two decisions can be used.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> from mixllm_engine.evaluation.policies import always
    >>> router = tiny_router()
    >>> for step in range(200):
    ...     decision = router.decide(f"question {step}", willingness_to_pay=30.0)
    ...     _ = router.feedback(decision, float(decision.candidate == "cheap"))
    >>> made = estimate(router, always("cheap"))
    >>> made.reward.snips.value
    1.0
    """
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level={level!r} must lie between 0 and 1, such as 0.95")
    if folds < 2:
        raise ConfigError(f"folds={folds!r} must be at least 2")
    judged = log if isinstance(log, JudgedLog) else read_judged(log._store if isinstance(log, Router) else log)
    target = probabilities(policy, judged)
    weight = target[np.arange(len(judged)), judged.chosen] / judged.propensity
    logged = _Logged(contexts=_contexts(judged), chosen=judged.chosen, weight=weight, target=target)
    known = np.isfinite(judged.cost_usd)
    enough = known.sum() >= 2
    mean_weight = ips(weight, np.ones_like(weight), level)
    unsupported = _unsupported(judged, target)
    return OffPolicyEstimate(
        reward=_estimates(logged, judged.reward, level, folds, seed),
        cost_usd=_estimates(logged.where(known), judged.cost_usd[known], level, folds, seed) if enough else None,
        left_out=judged.left_out,
        effective_rows=_effective(weight),
        largest_weight=float(weight.max()),
        mean_weight=mean_weight,
        unsupported=unsupported,
        warnings=(
            *_about_support(unsupported, mean_weight),
            *_about_weights(weight),
            *_about_the_policy(policy, judged),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Logged:
    """Contexts (n, d), chosen columns (n,), weights (n,) and the policy's probabilities (n, K)."""

    contexts: Matrix
    chosen: npt.NDArray[np.intp]
    weight: Vector
    target: Matrix

    def where(self, rows: npt.NDArray[np.bool_]) -> _Logged:
        """Keep some rows."""
        return _Logged(
            contexts=self.contexts[rows], chosen=self.chosen[rows], weight=self.weight[rows], target=self.target[rows]
        )


def _estimates(rows: _Logged, outcome: Vector, level: float, folds: int, seed: int) -> Estimates:
    model = cross_fitted(
        rows.contexts, rows.chosen, outcome, rows.target.shape[1], config=PredictionConfig(), folds=folds, seed=seed
    )
    return Estimates(
        ips=ips(rows.weight, outcome, level),
        snips=snips(rows.weight, outcome, level),
        dr=doubly_robust(rows.weight, outcome, rows.target, model, rows.chosen, level),
        logged=ips(np.ones_like(outcome), outcome, level),
        rows=len(outcome),
    )


def _contexts(log: JudgedLog) -> Matrix:
    """Return phi, learned from the log's own embeddings: without labels, so that it gives none away."""
    step = -(-len(log) // _FEATURE_ROWS)
    return FeatureMap.fit(log.embeddings[::step], FeatureConfig(surface=False))(log.embeddings.astype(np.float32))


def _unsupported(log: JudgedLog, target: Matrix) -> float:
    possible = np.zeros(target.shape, dtype=bool)
    possible[:, : log.eligible.shape[1]] = log.eligible & (log.propensity < _CERTAIN)[:, None]
    possible[np.arange(len(log)), log.chosen] = True
    return float(np.where(possible, 0.0, target).sum() / len(log))


def _about_support(unsupported: float, mean_weight: Estimate) -> list[str]:
    told = []
    if unsupported > _NOTABLE:
        told.append(
            f"{unsupported:.1%} of the policy's choices had no chance in this log: IPS counts them as 0, SNIPS leaves "
            "them out, and DR has nothing but its model for them"
        )
    gap = mean_weight.value - (1.0 - unsupported)
    if abs(gap) > _NOTABLE + 3.0 * mean_weight.standard_error:
        cause = "further choices had no chance, or hardly any" if gap < 0 else "the logged propensities are too small"
        told.append(f"the weights average {mean_weight.value:.3g}, {1.0 - unsupported:.3g} is expected: {cause}")
    return told


def _effective(weight: Vector) -> float:
    square = float(weight @ weight)
    return float(weight.sum()) ** 2 / square if square else 0.0


def _about_weights(weight: Vector) -> list[str]:
    told, effective = [], _effective(weight)
    if effective < _FEW_ROWS:
        told.append(f"the estimates rest on the equivalent of {effective:.0f} rows; their intervals may be too narrow")
    total = float(weight.sum())
    if total and weight.max() > 0.1 * total:
        told.append(f"one row has {weight.max() / total:.0%} of the total weight")
    return told


def _about_the_policy(policy: Policy, log: JudgedLog) -> list[str]:
    if isinstance(policy, FrozenPolicy) and log.identity in policy.learned_from:
        return ["the policy has learned from this log, so it is judged on its own exercises: the estimates flatter it"]
    return []
