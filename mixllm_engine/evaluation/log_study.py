"""What a production log says: what was saved against one LLM for all, and what another budget would have given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mixllm_engine.config import BudgetWord
from mixllm_engine.decision.budget import SpendCurve
from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.judged import JudgedLog
from mixllm_engine.evaluation.off_policy import OffPolicyEstimate, estimate
from mixllm_engine.evaluation.policies import always, cost_unit_usd, rescored
from mixllm_engine.evaluation.report.model import About, Counterfactual, LogReport, LogSaving

_LEVEL = 0.95


def log_report(about: About, log: JudgedLog) -> LogReport:
    """Judge what else could have been done with the queries of a log.

    Parameters
    ----------
    about : About
        How the numbers came about.
    log : JudgedLog
        The decisions that somebody judged.
    """
    alone = {name: estimate(log, always(name)) for name in log.candidates}
    words = {word: estimate(log, rescored(willing)) for word, willing in _budgets(log).items()}
    rows = [Counterfactual(name=f"always {name}", made=made) for name, made in alone.items()]
    rows += [Counterfactual(name=f"budget: {word.replace('_', ' ')}", made=made) for word, made in words.items()]
    return LogReport(
        about=about,
        savings=tuple(_saving(name, made) for name, made in alone.items() if name in _dearer(log, alone)),
        counterfactuals=tuple(rows),
        notes=_notes(log),
    )


def _budgets(log: JudgedLog) -> Mapping[BudgetWord, float]:
    """Return the lambda of every budget word, by what was expected in the log: a share of the dearest LLM's cost."""
    known = np.isfinite(log.expected_cost_usd) & log.eligible
    quality = np.where(known, log.expected_quality, -math.inf)
    cost = np.where(known, log.expected_cost_usd, np.nanmax(log.expected_cost_usd))
    return SpendCurve.measure(quality, cost, cost_unit_usd(log)).by_word


def _dearer(log: JudgedLog, alone: dict[str, OffPolicyEstimate]) -> Sequence[str]:
    """Return the LLMs against which a saving is told: those that cost more than what was done."""
    spent = float(np.nanmean(log.cost_usd)) if np.isfinite(log.cost_usd).any() else math.nan
    expected = np.nanmean(log.expected_cost_usd, axis=0)
    return [name for name, usd in zip(log.candidates, expected, strict=True) if name in alone and not usd <= spent]


def _saving(name: str, made: OffPolicyEstimate) -> LogSaving:
    reward = _difference(made.reward.logged, made.reward.dr)
    cost = Estimate(value=math.nan, standard_error=math.nan, low=math.nan, high=math.nan)
    if made.cost_usd is not None and made.cost_usd.dr.value > 0:
        cost = _percent(made.cost_usd.logged, made.cost_usd.dr)
    return LogSaving(against=name, cost_percent=cost, reward_difference=reward, warnings=made.warnings)


def _difference(one: Estimate, other: Estimate) -> Estimate:
    """Return one minus the other as if they were independent, which makes the interval wider than it is."""
    return Estimate.normal(one.value - other.value, math.hypot(one.standard_error, other.standard_error), _LEVEL)


def _percent(one: Estimate, other: Estimate) -> Estimate:
    """Return one in percent of the other; the standard error by the delta method, as if they were independent."""
    ratio = one.value / other.value
    error = math.hypot(one.standard_error, ratio * other.standard_error) / other.value
    return Estimate.normal(100.0 * ratio, 100.0 * error, _LEVEL)


def _notes(log: JudgedLog) -> tuple[str, ...]:
    left = log.left_out
    told = [
        (left.without_feedback, "got no feedback"),
        (left.not_chosen, "were forced, or belonged to a tool loop"),
        (left.fell_back, "were answered by another LLM than the chosen one"),
        (left.other_encoder, "were embedded by another encoder"),
        (left.forgotten, "were let go of by a store in memory"),
    ]
    return tuple(f"{count} decisions {why} and do not count." for count, why in told if count)
