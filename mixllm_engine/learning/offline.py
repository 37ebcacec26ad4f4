"""Offline training: full feedback for every candidate, in closed form (paper, equations 12 to 14 with eta = 1).

The sums X'X and X'y over a table are the whole fit; nothing is iterated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mixllm_engine.candidates import Pool
from mixllm_engine.decision.budget import SPEND_SHARE, SpendCurve
from mixllm_engine.learning.learner import Learner
from mixllm_engine.learning.state import Learned, Typical
from mixllm_engine.learning.table import OutcomeTable
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.prediction.predictor import Predictor
from mixllm_engine.types import Matrix, Vector


@dataclass(frozen=True, kw_only=True)
class FitReport:
    """What a fit learned.

    Attributes
    ----------
    rows : int
        Queries in the table.
    labels : dict of str to int
        Known qualities by candidate.
    mean_quality : dict of str to float
        Mean quality by candidate.
    mean_cost_usd : dict of str to float
        Mean predicted cost per query by candidate.
    budgets_usd : dict of str to float
        What each budget word will spend per query on average.
    ignored : tuple of str
        Candidates of the table that are not in the pool.
    untaught : tuple of str
        Candidates of the pool that are not in the table: they keep what is expected from their price.
    """

    rows: int
    labels: dict[str, int]
    mean_quality: dict[str, float]
    mean_cost_usd: dict[str, float]
    budgets_usd: dict[str, float] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    untaught: tuple[str, ...] = ()


def teach(learner: Learner, table: OutcomeTable, contexts: Matrix, prompt_tokens: Vector) -> FitReport:
    """Begin anew with what a table of outcomes teaches, and calibrate the budgets on it.

    Parameters
    ----------
    learner : Learner
        Who learns; what it folded in from a log before is forgotten, and is folded in again when it follows the log.
    table : OutcomeTable
        n queries.
    contexts : array of shape (n, d)
        phi of every query.
    prompt_tokens : array of shape (n,)
        Length of every prompt.
    """
    learner.start(fit(table, contexts, prompt_tokens, learner.pool))
    learner.curve = calibrate(learner.predictor, contexts, prompt_tokens, learner.reference_cost_usd)
    return report(table, learner.predictor, contexts, prompt_tokens)


def fit(table: OutcomeTable, contexts: Matrix, prompt_tokens: Vector, pool: Pool) -> Learned:
    """Sum up a table.

    Parameters
    ----------
    table : OutcomeTable
        Outcomes.
    contexts : array of shape (n, d)
        phi of every query.
    prompt_tokens : array of shape (n,)
        Length of every prompt.
    pool : Pool
        Prices, from which the lengths follow where only costs are known.
    """
    lengths = response_lengths(table, prompt_tokens, pool)
    quality, length, typical = {}, {}, {}
    for column, name in enumerate(table.candidates):
        quality[name] = _known_sums(contexts, table.quality[:, column])
        length[name] = _known_sums(contexts, np.log(np.maximum(lengths[:, column], 1.0)))
        if np.isfinite(lengths[:, column]).any():
            typical[name] = float(np.nanmean(lengths[:, column]))
    return Learned(
        quality=quality,
        length=length,
        typical=Typical(prompt_tokens=float(prompt_tokens.mean()), response_tokens=typical),
    )


def response_lengths(table: OutcomeTable, prompt_tokens: Vector, pool: Pool) -> Matrix:
    """Return the lengths of the answers, shape (n, K): as recorded, else as the recorded cost implies them."""
    positions = [pool.index[name] for name in table.candidates]
    for_answer = table.cost_usd - prompt_tokens[:, None] * pool.input_price[positions]
    price = pool.output_price[positions]
    with np.errstate(divide="ignore", invalid="ignore"):
        implied = np.where(price > 0, for_answer / price, np.nan)
    lengths: Matrix = np.where(np.isfinite(table.response_tokens), table.response_tokens, np.maximum(implied, 1.0))
    return lengths


def calibrate(predictor: Predictor, contexts: Matrix, prompt_tokens: Vector, reference_cost_usd: float) -> SpendCurve:
    """Measure what each lambda would spend on the queries of a table."""
    quality, cost, _ = predictor.predict_many(contexts, prompt_tokens)
    return SpendCurve.measure(quality, cost, reference_cost_usd)


def report(table: OutcomeTable, predictor: Predictor, contexts: Matrix, prompt_tokens: Vector) -> FitReport:
    """Describe a fit in numbers that a person can check."""
    _, cost, _ = predictor.predict_many(contexts, prompt_tokens)
    names = predictor.pool.names
    dearest = float(cost.mean(axis=0).max())
    return FitReport(
        rows=len(table.texts),
        labels={n: int(np.isfinite(q).sum()) for n, q in zip(table.candidates, table.quality.T, strict=True)},
        mean_quality={n: float(np.nanmean(q)) for n, q in zip(table.candidates, table.quality.T, strict=True)},
        mean_cost_usd={n: float(c) for n, c in zip(names, cost.mean(axis=0), strict=True)},
        budgets_usd={word: share * dearest for word, share in SPEND_SHARE.items()},
        ignored=table.ignored,
        untaught=tuple(name for name in names if name not in table.candidates),
    )


def _known_sums(contexts: Matrix, targets: Vector) -> HeadStatistics:
    known = np.isfinite(targets)
    return HeadStatistics.of(contexts[known], targets[known])
