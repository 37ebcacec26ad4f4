"""What a report is made of. Whoever measured fills this in; nothing here computes a result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.frontier import NOT_REACHED_PERCENT, Frontier
from mixllm_engine.evaluation.off_policy import OffPolicyEstimate
from mixllm_engine.evaluation.report.over_time import Regret, Shares, Waiting
from mixllm_engine.types import Matrix, Vector

# "bound" knows what no router can know, as the oracle does: it is shown, and no rival.
Role = Literal["ours", "rival", "bound"]
OURS: Final = "MixLLM"


@dataclass(frozen=True, kw_only=True)
class About:
    """How the numbers came about, so that anybody can make them again.

    Attributes
    ----------
    title : str
        What was asked, in a line.
    date : str
        When, in the words of whoever knows.
    data : mapping of str to str
        What is told of the data, in order: name, licence, queries, candidates, dropped rows.
    seeds : tuple of int
        One for each random split; empty where nothing was split.
    learned_share : float, optional
        Share of the queries that all systems learned from; ``None`` where nothing was split.
    versions : mapping of str to str
        MixLLM, Python, packages.
    configuration : mapping
        Nested plain data that `json` can write.
    command : str
        What remakes the report.
    """

    title: str
    date: str
    data: Mapping[str, str]
    seeds: tuple[int, ...]
    learned_share: float | None
    versions: Mapping[str, str]
    configuration: Mapping[str, Any]
    command: str


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A column of the table.

    Attributes
    ----------
    key : str
        How scores refer to it.
    title, unit : str
        Heading, and what its numbers count.
    lower_is_better : bool
        Which way is up.
    decimals : int
        How many are written.
    """

    key: str
    title: str
    unit: str
    lower_is_better: bool
    decimals: int


def _cost_at(percent: str) -> Measure:
    return Measure(
        key=f"cost@{percent}",
        title=f"Cost at {percent} %",
        unit="% of the best LLM's",
        lower_is_better=True,
        decimals=1,
    )


MEASURES: Final = (
    _cost_at("95"),
    _cost_at("97.25"),
    _cost_at("99"),
    _cost_at("100"),
    Measure(key="area", title="Area", unit="mean quality", lower_is_better=False, decimals=4),
    Measure(key="AIQ", title="AIQ", unit="mean quality", lower_is_better=False, decimals=4),
    Measure(key="quality", title="Quality", unit="0 to 1", lower_is_better=False, decimals=4),
    Measure(key="late", title="Late", unit="% of answers", lower_is_better=True, decimals=1),
    Measure(key="p95_s", title="Waiting", unit="p95, seconds", lower_is_better=True, decimals=1),
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One cell of the table.

    Attributes
    ----------
    mean : float
        Mean over the splits.
    standard_error : float
        Of that mean; NaN for a single split.
    difference : Estimate, optional
        This system minus MixLLM, paired by split, with its 95 % interval; ``None`` where it was not tested.
    missed_percent : float
        Share of the splits that never reached the quality whose cost this is, and count as
        `frontier.NOT_REACHED_PERCENT`.
    """

    mean: float
    standard_error: float = math.nan
    difference: Estimate | None = None
    missed_percent: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float], difference: Estimate | None = None, *, missed_percent: float = 0.0) -> Score:
        """Sum up the values of the splits, at least one.

        Examples
        --------
        >>> score = Score.of([1.0, 3.0])
        >>> score.mean, score.standard_error
        (2.0, 1.0)
        """
        count = len(values)
        error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
        return cls(
            mean=float(np.mean(values)), standard_error=error, difference=difference, missed_percent=missed_percent
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """Mean hull of a system over the splits.

    Attributes
    ----------
    cost_usd : array of shape (g,)
        Increasing costs per query, the same for all systems.
    quality : array of shape (g,)
        Mean quality that they buy; NaN where a split has no hull yet.
    standard_error : array of shape (g,)
        Of that mean; NaN for a single split.
    settings : array of shape (s, 2)
        Mean cost and quality of each setting of the system's knob: what was measured, before any hull. Empty for a
        system that has another number of settings in another split.
    """

    cost_usd: Vector
    quality: Vector
    standard_error: Vector
    settings: Matrix

    @classmethod
    def of(cls, points: Sequence[Matrix], cost_usd: Vector) -> Band:
        """Average the hulls of the splits.

        Parameters
        ----------
        points : sequence of array of shape (s, 2)
            `Curve.points` of every split.
        cost_usd : array of shape (g,)
            Where to read the hulls.
        """
        heights = np.stack([Frontier.of(own).quality_at(cost_usd) for own in points])
        count = len(points)
        same = len({own.shape for own in points}) == 1
        error = heights.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else np.full(len(cost_usd), np.nan)
        return cls(
            cost_usd=cost_usd,
            quality=heights.mean(axis=0),
            standard_error=error,
            settings=np.mean(np.stack(points), axis=0) if same else np.empty((0, 2)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Contestant:
    """A system and what it reached; `scores` by `Measure.key`, without those that were not measured."""

    name: str
    role: Role
    scores: Mapping[str, Score]
    band: Band | None = None


@dataclass(frozen=True, kw_only=True)
class Single:
    """An LLM that answers everything: mean dollars per query, and mean quality."""

    name: str
    cost_usd: float
    quality: float


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What a share of the best single LLM's quality costs with MixLLM.

    Attributes
    ----------
    quality_percent : float
        How much of its quality, such as 99.
    best : str
        The best single LLM.
    cost_percent : Estimate
        In percent of its cost; a split that misses the quality counts as `frontier.NOT_REACHED_PERCENT`.
    missed_percent : float
        Share of the splits that missed it.
    """

    quality_percent: float
    best: str
    cost_percent: Estimate
    missed_percent: float = 0.0

    def __str__(self) -> str:
        """Say it in plain words.

        Examples
        --------
        >>> cost = Estimate(value=41.2, standard_error=3.3, low=35.0, high=48.0)
        >>> print(Saving(quality_percent=99.0, best="gpt-4", cost_percent=cost))
        The same quality as always gpt-4 minus 1 % costs 41 % of its price (95 % interval 35 to 48).
        """
        goal = f"The same quality as always {self.best}"
        if self.quality_percent < 100:
            goal += f" minus {100 - self.quality_percent:g} %"
        if self.missed_percent >= 100:
            return f"{goal} was not reached in any split."
        cost = self.cost_percent
        text = f"{goal} costs {cost.value:.0f} % of its price"
        if math.isfinite(cost.low):
            text += f" (95 % interval {cost.low:.0f} to {cost.high:.0f})"
        if self.missed_percent > 0:
            text += f"; {self.missed_percent:.0f} % of the splits missed it and count as {NOT_REACHED_PERCENT:.0f} %"
        return f"{text}."


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All systems under the same circumstances.

    Attributes
    ----------
    name : str
        The circumstances, such as "No time limit".
    about : str
        A sentence or two on them.
    savings : tuple of Saving
        Those of the first contest are the report's headline.
    contestants : tuple of Contestant
        One of them has the role "ours".
    singles : tuple of Single
        Every LLM alone.
    """

    name: str
    about: str
    savings: tuple[Saving, ...]
    contestants: tuple[Contestant, ...]
    singles: tuple[Single, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """A replay of recorded outcomes, for those who ask what they would save and how anybody knows.

    Attributes
    ----------
    about : About
        How the numbers came about.
    contests : tuple of Contest
        At least one; the first is the headline's.
    shares, regret, waiting : optional
        What happened over time; ``None`` where it was not measured.
    notes : tuple of str
        What to know before believing it.
    measures : tuple of Measure
        Columns of the table; those without a score are left out.
    """

    about: About
    contests: tuple[Contest, ...]
    shares: Shares | None = None
    regret: Regret | None = None
    waiting: Waiting | None = None
    notes: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = MEASURES


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """What a log says of another way to choose, such as "always gpt-4" or "budget: low"."""

    name: str
    made: OffPolicyEstimate


@dataclass(frozen=True, kw_only=True)
class LogSaving:
    """What the log's policy cost in percent of always one LLM, and how much better its answers were.

    Attributes
    ----------
    against : str
        The LLM.
    cost_percent : Estimate
        Cost of the log's policy in percent of that LLM's; NaN where the log can't tell.
    reward_difference : Estimate
        Mean reward of the log's policy minus that LLM's.
    warnings : tuple of str
        Why the log can't support the claim; empty where it can.
    """

    against: str
    cost_percent: Estimate
    reward_difference: Estimate
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in plain words, and whether the log can support it."""
        cost, reward = self.cost_percent, self.reward_difference
        if not math.isfinite(cost.value):
            return f"This log can't tell what always {self.against} would have cost."
        low, high = (f"{end:+.3f}".replace("-", "\N{MINUS SIGN}") for end in (reward.low, reward.high))
        text = (
            f"Your routing cost {cost.value:.0f} % (95 % interval {cost.low:.0f} to {cost.high:.0f}) of what always "
            f"{self.against} would have cost, with a mean reward {abs(reward.value):.3f} "
            f"{'higher' if reward.value >= 0 else 'lower'} (95 % interval {low} to {high})."
        )
        return f"{text} The log can't support this: {'; '.join(self.warnings)}." if self.warnings else text


@dataclass(frozen=True, kw_only=True)
class LogReport:
    """An off-policy report from a production log.

    Attributes
    ----------
    about : About
        How the numbers came about.
    savings : tuple of LogSaving
        What was saved, against each LLM alone that matters.
    counterfactuals : tuple of Counterfactual
        At least one. What the log's own policy did is read from the first one's `logged` estimates.
    notes : tuple of str
        What to know before believing it.
    """

    about: About
    savings: tuple[LogSaving, ...]
    counterfactuals: tuple[Counterfactual, ...]
    notes: tuple[str, ...] = ()
