"""What MixLLM would have saved beside a model that answers all queries: from the log of shadow mode.

The log has, for each query, what the baseline's answer cost and what was expected of every candidate. What MixLLM would
have chosen is the best eligible score. Its cost is known where that is the baseline, and else expected: from prices,
and from the length of answers as far as it was learned. Its quality can't be measured in such a log, since nobody else
was ever called; what the heads expect counts as far as labels, of a table or from earlier, make them sure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Final, NamedTuple

import numpy as np

from mixllm_engine.decision.gate import SHADOW
from mixllm_engine.errors import TableError
from mixllm_engine.evaluation.contest.intervals import interval
from mixllm_engine.evaluation.estimators import Estimate, ips
from mixllm_engine.evaluation.judged import entries
from mixllm_engine.router import Router
from mixllm_engine.store.base import Store
from mixllm_engine.types import Decision, Matrix, Score, Vector

_LEVEL: Final = 0.95
_RESAMPLES: Final = 400
_FEWEST: Final = 20  # answers, below which nothing is claimed
_OFF, _FAR_OFF = 1.1, 1.5  # expected over actual cost of the baseline: said, and claimed no longer
_UNSURE: Final = 0.1  # half the width of an interval of quality, from which on it is none
_NOTABLE: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class ShadowEstimate:
    """What a log in shadow mode says; ``str()`` is a table.

    Attributes
    ----------
    baseline : str
        Who answered.
    queries : int
        Answers whose cost is known.
    spent_usd, would_spend_usd : float
        Mean dollars per query: of the baseline's answers, and of what would have been chosen.
    saved_percent : Estimate or None
        What would have been saved, in percent of what was spent, with a 95 % interval for the luck of the queries;
        ``None`` where the log can't tell.
    quality_change : Estimate or None
        Expected quality of what would have been chosen less that of the baseline, with a 95 % interval for the luck of
        the queries and for what the heads don't know; ``None`` where they know too little.
    baseline_quality : Estimate or None
        Mean reward of the baseline's answers that were judged; ``None`` below two of them.
    waiting_s, would_wait_s : float
        Mean wait that was expected before the answer begins: for the baseline, and for what would have been chosen.
    shares : mapping of str to float
        Share of the queries that each candidate would have got, largest first.
    warnings : tuple of str
        What to know before believing it.
    """

    baseline: str
    queries: int
    spent_usd: float
    would_spend_usd: float
    saved_percent: Estimate | None
    quality_change: Estimate | None
    baseline_quality: Estimate | None
    waiting_s: float
    would_wait_s: float
    shares: Mapping[str, float]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        """Show what it says, and every warning."""
        judged = self.baseline_quality
        rows = [
            ("answered by", f"{self.baseline}, {self.queries} queries"),
            ("spent per query", f"{self.spent_usd:.6f} $"),
            ("would have been", f"{self.would_spend_usd:.6f} $"),
            ("saved", _told(self.saved_percent, "{:.1f} %")),
            ("expected quality", _told(self.quality_change, "{:+.3f}")),
            ("judged quality", "nobody judged the answers" if judged is None else _told(judged, "{:.3f}")),
            ("expected wait", f"{self.waiting_s:.2f} s, would have been {self.would_wait_s:.2f} s"),
            *((f"share of {name}", f"{share:.1%}") for name, share in self.shares.items()),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def _told(estimate: Estimate | None, shape: str) -> str:
    if estimate is None:
        return "can't be said, see below"
    value, low, high = (shape.format(number) for number in (estimate.value, estimate.low, estimate.high))
    return f"{value}  [{low}, {high}]"


class _Answered(NamedTuple):
    """One query that the baseline answered: who would have been chosen, what was paid, and what was expected of both.

    `baseline` and `choice` hold quality, cost in dollars, width of the quality and waiting time in seconds.
    """

    name: str
    cost_usd: float
    baseline: tuple[float, float, float, float]
    choice: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class _Log:
    """Arrays over the queries, and how often each candidate answered and was judged in the whole log."""

    baseline: str
    names: tuple[str, ...]
    cost_usd: Vector
    expected: Matrix  # (n, 4), as in `_Answered`
    chosen: Matrix
    answers: Counter[str]
    rewards: Mapping[str, Sequence[float]]

    @property
    def differs(self) -> Vector:
        return np.array([float(name != self.baseline) for name in self.names])

    @property
    def would_cost_usd(self) -> Vector:
        """What would have been paid: where nothing changes, what was."""
        return np.where(self.differs > 0, self.chosen[:, 1], self.cost_usd)


def shadow_estimate(log: Router | Store, baseline: str | None = None, *, seed: int = 0) -> ShadowEstimate:
    """Estimate what switching MixLLM on would save, and what it would do to quality.

    Decisions of `RolloutConfig.shadow` count, and those in which the baseline was forced.

    Parameters
    ----------
    log : Router or Store
        Whose log is read. A store alone is taken to have widths as ``DecisionConfig.uncertainty = "width"`` makes them.
    baseline : str, optional
        Who answered; who answered most of such queries where not given.
    seed : int
        Of the bootstrap.

    Raises
    ------
    TableError
        If there are no answers in shadow mode whose cost is known.

    References
    ----------
    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13 (percentile intervals).

    Examples
    --------
    >>> from mixllm_engine import Outcome, RolloutConfig, RouterConfig
    >>> from mixllm_engine.testing import tiny_router
    >>> router = tiny_router(config=RouterConfig(rollout=RolloutConfig.shadow("dear")))
    >>> for step in range(50):
    ...     made = router.decide(f"question {step}", budget="very_low")
    ...     router.observe(made.decision_id, Outcome(candidate="dear", prompt_tokens=2, response_tokens=200))
    >>> shadow_estimate(router).shares["cheap"] > 0.5
    True
    """
    square = isinstance(log, Router) and log.config.decision.uncertainty == "square"
    read = _read(log._store if isinstance(log, Router) else log, baseline, square)
    spent, would, rng = read.cost_usd, read.would_cost_usd, np.random.default_rng(seed)
    size = len(spent)
    weights = (rng.multinomial(size, np.full(size, 1.0 / size)) for _ in range(_RESAMPLES))
    saved = interval(100.0 * _saved(spent, would), np.array([100.0 * _saved(w * spent, w * would) for w in weights]))
    change = _quality_change(read)
    judged = np.array(read.rewards.get(read.baseline, ()))
    claims_cost = size >= _FEWEST and 1.0 / _FAR_OFF <= _calibration(read) <= _FAR_OFF
    claims_quality = size >= _FEWEST and change.high - change.low <= 2.0 * _UNSURE
    shares = Counter(read.names)
    return ShadowEstimate(
        baseline=read.baseline,
        queries=size,
        spent_usd=float(spent.mean()),
        would_spend_usd=float(would.mean()),
        saved_percent=saved if claims_cost else None,
        quality_change=change if claims_quality else None,
        baseline_quality=ips(np.ones_like(judged), judged, _LEVEL) if len(judged) > 1 else None,
        waiting_s=float(read.expected[:, 3].mean()),
        would_wait_s=float(read.chosen[:, 3].mean()),
        shares={name: count / size for name, count in shares.most_common()},
        warnings=(*_about_size(size), *_about_cost(read), *_about_quality(read, change)),
    )


def _saved(spent: Vector, would: Vector) -> float:
    return 1.0 - float(would.sum() / spent.sum())


def _quality_change(log: _Log) -> Estimate:
    """Return the expected change: labels lie in [0, 1], so a head's deviation is at most half its width.

    What a head doesn't know is the same for all queries, so it does not average out: deviations are added.
    """
    change = log.differs * (log.chosen[:, 0] - log.expected[:, 0])
    unknown = 0.5 * float((log.differs * (log.chosen[:, 2] + log.expected[:, 2])).mean())
    luck = float(change.std(ddof=1) / np.sqrt(len(change)))
    return Estimate.normal(float(change.mean()), hypot(luck, unknown), _LEVEL)


def _calibration(log: _Log) -> float:
    """Return expected over actual cost of the baseline."""
    return float(log.expected[:, 1].sum() / log.cost_usd.sum())


def _about_size(size: int) -> list[str]:
    return [f"{size} answers are too few for any claim: {_FEWEST} are needed"] if size < _FEWEST else []


def _about_cost(log: _Log) -> list[str]:
    told, calibration = [], _calibration(log)
    if not 1.0 / _OFF <= calibration <= _OFF:
        told.append(
            f"{log.baseline} was expected to cost {calibration:.2f} times what it did; what was expected of the others "
            "may be as wrong, until prices are right and lengths learned"
        )
    if unseen := _wanted(log, log.answers):
        told.append(f"no answer of {unseen} is in this log: what they would cost rests on lengths learned elsewhere")
    return told


def _about_quality(log: _Log, change: Estimate) -> list[str]:
    told = []
    if unjudged := _wanted(log, log.rewards):
        told.append(
            f"no answer of {unjudged} was judged in this log: their quality is what a table, or else prices, say"
        )
    if change.high - change.low > 2.0 * _UNSURE:
        low, high = max(change.low, -1.0), min(change.high, 1.0)
        told.append(
            f"quality may change by anything from {low:+.2f} to {high:+.2f}: fit the router on judged answers of all "
            "candidates, or let a small share of the traffic tell"
        )
    return told


def _wanted(log: _Log, known: Mapping[str, object]) -> str:
    """Name those that would have got a notable share, but are not known."""
    shares = Counter(log.names)
    least = _NOTABLE * len(log.names)
    return ", ".join(sorted(name for name, n in shares.items() if n >= least and not known.get(name)))


def _read(store: Store, baseline: str | None, square: bool) -> _Log:
    answers: Counter[str] = Counter()
    found: dict[str, dict[str, _Answered]] = {}  # by baseline and decision
    for row in entries(store.outcomes_after):
        outcome = row.outcome
        if outcome.error is not None:
            continue
        answers[outcome.candidate] += 1
        if not outcome.cost_usd or baseline not in (None, outcome.candidate):
            continue
        decision = store.decision(row.decision_id).decision
        if decision.reason in (SHADOW, "forced") and decision.candidate == outcome.candidate:
            answered = _answered(decision, outcome.cost_usd, square)
            found.setdefault(decision.candidate, {})[row.decision_id] = answered
    if not found:
        who = "" if baseline is None else f" of {baseline!r}"
        raise TableError(
            f"the log has no answers{who} in shadow mode whose cost is known: set RouterConfig.rollout to "
            "RolloutConfig.shadow(...), or force the model that answers"
        )
    name = max(sorted(found), key=lambda candidate: len(found[candidate]))
    rows = list(found[name].values())
    return _Log(
        baseline=name,
        names=tuple(row.name for row in rows),
        cost_usd=np.array([row.cost_usd for row in rows]),
        expected=np.array([row.baseline for row in rows]),
        chosen=np.array([row.choice for row in rows]),
        answers=answers,
        rewards=_rewards(store),
    )


def _answered(decision: Decision, cost_usd: float, square: bool) -> _Answered:
    scores = dict(decision.scores)
    eligible = [name for name, score in scores.items() if score.eligible] or [decision.candidate]
    best = min(eligible, key=lambda name: (-scores[name].total, name))
    expected, chosen = (_numbers(scores[name], square) for name in (decision.candidate, best))
    return _Answered(name=best, cost_usd=cost_usd, baseline=expected, choice=chosen)


def _numbers(score: Score, square: bool) -> tuple[float, float, float, float]:
    width = score.uncertainty**0.5 if square else score.uncertainty
    return score.quality, score.cost_usd, width, score.waiting_s


def _rewards(store: Store) -> Mapping[str, Sequence[float]]:
    """Return the rewards of each candidate that answered."""
    last = {row.decision_id: (row.candidate, row.after.value) for row in entries(store.feedback_after)}
    rewards: dict[str, list[float]] = {}
    for candidate, reward in last.values():
        rewards.setdefault(candidate, []).append(reward)
    return rewards
