"""Offline training: full feedback for every candidate (paper, equations 12 to 14).

The sums X'X and X'y over a table are the whole fit, the paper's eta = 1; nothing is iterated, and the rows may come in
parts. Neural heads, where the settings have them, are trained by gradient beside the sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.candidates import Pool
from mixllm_engine.config import PredictionConfig
from mixllm_engine.decision.budget import SPEND_SHARE, SpendCurve
from mixllm_engine.decision.leader import Leader
from mixllm_engine.learning.learner import Learner
from mixllm_engine.learning.onboarding import Labelled, Onboarding
from mixllm_engine.learning.state import Learned, Typical
from mixllm_engine.learning.table import OutcomeTable
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.prediction.mlp import Networks
from mixllm_engine.prediction.neural import train_heads
from mixllm_engine.prediction.predictor import Predictor
from mixllm_engine.types import Label, Matrix, Vector

# Rows that budgets are calibrated on: mean costs of that many are known to about one percent.
_SAMPLE: Final = 10_000


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
        Mean predicted cost per query by candidate; on a sample of 10,000 queries where there are more.
    budgets_usd : dict of str to float
        What each budget word spends per query on average, at most.
    ignored : tuple of str
        Candidates of the table that are not in the pool.
    untaught : tuple of str
        Candidates of the pool that are not in the table: they keep what is expected from their price, or what they
        were given when they joined.
    repeated : int
        Rows of a long table that were averaged with an earlier one of the same query and candidate.
    """

    rows: int
    labels: dict[str, int]
    mean_quality: dict[str, float]
    mean_cost_usd: dict[str, float]
    budgets_usd: dict[str, float] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    untaught: tuple[str, ...] = ()
    repeated: int = 0


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a table has to teach.

    Attributes
    ----------
    table : OutcomeTable
        The outcomes of n queries.
    learned : Learned
        The sums over them, and the neural heads that were trained on them.
    rows : array of shape (m,)
        The rows of the table that budgets are calibrated on: all, or a sample of 10,000.
    contexts : array of shape (m, d)
        phi of these.
    prompt_tokens : array of shape (m,)
        Lengths of their prompts.
    """

    table: OutcomeTable
    learned: Learned
    rows: npt.NDArray[np.intp]
    contexts: Matrix
    prompt_tokens: Vector


def fit(
    table: OutcomeTable,
    chunks: Iterable[tuple[Matrix, Vector]],
    pool: Pool,
    config: PredictionConfig | None,
    progress: bool = False,
) -> Lesson:
    """Sum up a table chunk by chunk, and train the neural heads on it where there are any.

    What is held at once is the table, one chunk, and the contexts of a sample; neural heads, which go through the rows
    several times, need the contexts of all.

    Parameters
    ----------
    table : OutcomeTable
        Outcomes of n queries.
    chunks : iterable of tuple of arrays of shape (m, d) and (m,)
        phi and counted length of the next m queries; of all n in the end.
    pool : Pool
        Prices, from which the lengths follow where only costs are known.
    config : PredictionConfig, optional
        Settings of the neural heads that are to be trained; without them there are sums and nothing else.
    progress : bool
        Show a progress bar while networks are trained.
    """
    trained = config if config and config.heads == "neural" else None
    rows = _sample(len(table.texts), None if trained else _SAMPLE)
    sums, kept, prompts, start = _Sums(table), [], table.prompt_tokens.copy(), 0
    for contexts, counted in chunks:
        stop = start + len(contexts)
        part = prompts[start:stop]
        np.copyto(part, counted, where=~np.isfinite(part))
        sums.add(contexts, slice(start, stop), response_lengths(table, slice(start, stop), part, pool))
        inside = slice(*np.searchsorted(rows, (start, stop)))
        kept.append(contexts[rows[inside] - start])
        start = stop
    sample = np.concatenate(kept)
    neural: Networks = {}
    if trained:
        log_lengths = np.log(np.maximum(response_lengths(table, slice(None), prompts, pool), 1.0))
        neural = train_heads(pool, table.candidates, sample, table.quality, log_lengths, trained, progress)
        chosen = _sample(len(rows), _SAMPLE)
        rows, sample = rows[chosen], sample[chosen]
    learned = replace(sums.learned(float(prompts.mean())), neural=neural)
    return Lesson(table=table, learned=learned, rows=rows, contexts=sample, prompt_tokens=prompts[rows])


def teach(
    learner: Learner,
    lesson: Lesson,
    onboarded: Mapping[str, Onboarding],
    networks: Networks | None = None,
    dropped: Mapping[str, tuple[HeadStatistics, HeadStatistics]] | None = None,
) -> FitReport:
    """Begin anew with what a table taught, and calibrate the budgets on it.

    Parameters
    ----------
    learner : Learner
        Who learns; what it folded in from a log before is forgotten, and is folded in again when it follows the log.
    lesson : Lesson
        What `fit` made of the table.
    onboarded : mapping of str to Onboarding
        What candidates were given when they joined; it is kept for those that are not in the table.
    networks : mapping of str to mapping of str to Network, optional
        The neural heads that these candidates were given.
    dropped : mapping of str to pair of HeadStatistics, optional
        What rows taught that the log no longer holds.
    """
    learned = lesson.learned
    for name in onboarded.keys() - set(lesson.table.candidates):
        learned = learned.with_onboarded(name, onboarded[name].fresh()).with_networks(name, networks or {})
    learner.start(learned)
    learner.curve = calibrate(learner, lesson.contexts, lesson.prompt_tokens)
    learner.recall(dropped or {})
    return report(lesson, learner.predictor)


def onboard(learner: Learner, name: str, like: str | None, lesson: Lesson | None) -> None:
    """Give a new candidate of the learner's pool the expectations of a sibling and what labelled prompts teach of it.

    Parameters
    ----------
    learner : Learner
        Who learns; nothing changes but the new candidate's heads.
    name : str
        The new candidate.
    like : str, optional
        The sibling.
    lesson : Lesson, optional
        What `fit` made of a table of the new candidate alone.
    """
    labelled = None
    if lesson is not None:
        taught = lesson.learned
        labelled = Labelled(
            quality=taught.quality[name],
            length=taught.length[name],
            response_tokens=taught.typical.response_tokens.get(name),
        )
    if learner.onboard(name, like, labelled) and lesson is not None:
        _step(learner, name, lesson)


def _step(learner: Learner, name: str, lesson: Lesson) -> None:
    """Let the candidate's neural heads, where there are any, learn the labels as they learn feedback."""
    lengths = response_lengths(lesson.table, lesson.rows, lesson.prompt_tokens, learner.pool)[:, 0]
    qualities = lesson.table.quality[lesson.rows, 0]
    for context, quality, tokens in zip(lesson.contexts, qualities.tolist(), lengths.tolist(), strict=True):
        if math.isfinite(quality):
            learner.predictor.step_quality(name, context, Label(quality, 1.0))
        if math.isfinite(tokens):
            learner.predictor.step_length(name, context, tokens)


class _Sums:
    """Sums over the rows that were seen so far, of every candidate of a table."""

    def __init__(self, table: OutcomeTable) -> None:
        self.table = table
        self._heads: dict[str, tuple[HeadStatistics, HeadStatistics]] = {}
        self._tokens = np.zeros(len(table.candidates))
        self._counted = np.zeros(len(table.candidates))

    def add(self, contexts: Matrix, rows: slice, lengths: Matrix) -> None:
        """Add some rows: contexts of shape (m, d), response lengths of shape (m, K)."""
        known = np.isfinite(lengths)
        self._tokens += np.where(known, lengths, 0.0).sum(axis=0)
        self._counted += known.sum(axis=0)
        log_lengths = np.log(np.maximum(lengths, 1.0))
        for column, name in enumerate(self.table.candidates):
            quality = _known_sums(contexts, self.table.quality[rows, column])
            length = _known_sums(contexts, log_lengths[:, column])
            if name in self._heads:
                quality, length = self._heads[name][0] + quality, self._heads[name][1] + length
            self._heads[name] = (quality, length)

    def learned(self, mean_prompt_tokens: float) -> Learned:
        """Return what the rows teach."""
        told = zip(self.table.candidates, self._tokens.tolist(), self._counted.tolist(), strict=True)
        typical = {name: tokens / count for name, tokens, count in told if count}
        return Learned(
            quality={name: quality for name, (quality, _) in self._heads.items()},
            length={name: length for name, (_, length) in self._heads.items()},
            taught={name: quality.count for name, (quality, _) in self._heads.items()},
            typical=Typical(prompt_tokens=mean_prompt_tokens, response_tokens=typical),
        )


def _sample(rows: int, most: int | None) -> npt.NDArray[np.intp]:
    """Choose at most so many rows, always the same ones, in their order."""
    if most is None or rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def response_lengths(
    table: OutcomeTable, rows: slice | npt.NDArray[np.intp], prompt_tokens: Vector, pool: Pool
) -> Matrix:
    """Return the lengths of some rows' answers, shape (m, K): as recorded, else as the recorded cost implies them.

    Parameters
    ----------
    table : OutcomeTable
        The outcomes.
    rows : slice or array of shape (m,)
        m of its rows.
    prompt_tokens : array of shape (m,)
        Lengths of their prompts.
    pool : Pool
        Prices.
    """
    positions = [pool.index[name] for name in table.candidates]
    for_answer = table.cost_usd[rows] - prompt_tokens[:, None] * pool.input_price[positions]
    price, recorded = pool.output_price[positions], table.response_tokens[rows]
    with np.errstate(divide="ignore", invalid="ignore"):
        implied = np.where(price > 0, for_answer / price, np.nan)
    lengths: Matrix = np.where(np.isfinite(recorded), recorded, np.maximum(implied, 1.0))
    return lengths


def calibrate(learner: Learner, contexts: Matrix, prompt_tokens: Vector) -> SpendCurve:
    """Measure what each lambda would spend on the queries of a table, the leader having what it is given in advance."""
    predictor = learner.predictor
    quality, cost, _ = predictor.predict_many(contexts, prompt_tokens)
    leader = Leader.of(predictor, learner.config.decision.leader_margin)
    if leader is not None:
        quality = quality + leader.advance(quality, predictor.leverage_many(contexts))
    return SpendCurve.measure(quality, cost, learner.reference_cost_usd)


def report(lesson: Lesson, predictor: Predictor) -> FitReport:
    """Describe a fit in numbers that a person can check."""
    _, cost, _ = predictor.predict_many(lesson.contexts, lesson.prompt_tokens)
    names, table = predictor.pool.names, lesson.table
    dearest = float(cost.mean(axis=0).max())
    return FitReport(
        rows=len(table.texts),
        labels={n: int(np.isfinite(q).sum()) for n, q in zip(table.candidates, table.quality.T, strict=True)},
        mean_quality={n: float(np.nanmean(q)) for n, q in zip(table.candidates, table.quality.T, strict=True)},
        mean_cost_usd={n: float(c) for n, c in zip(names, cost.mean(axis=0), strict=True)},
        budgets_usd={word: share * dearest for word, share in SPEND_SHARE.items()},
        ignored=table.ignored,
        untaught=tuple(name for name in names if name not in table.candidates),
        repeated=table.repeated,
    )


def _known_sums(contexts: Matrix, targets: Vector) -> HeadStatistics:
    known = np.isfinite(targets)
    return HeadStatistics.of(contexts[known], targets[known])
