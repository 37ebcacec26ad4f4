"""Who is better than whom, by the intervals, and in which order systems are told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.report.model import OURS, Contest, Contestant, Measure, Report, Score
from mixllm_engine.evaluation.report.wording import enumerated, interval, number

_LEADING: Final = ("cost@99", "cost@97.25", "area", "quality")
_NAMED_RIVALS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Win:
    """A rival that is better than MixLLM in a measure, by more than the interval."""

    rival: str
    measure: Measure
    difference: Estimate


def better(measure: Measure, score: Score) -> bool:
    """Tell whether a system is better than MixLLM: the 95 % interval of the difference lies on the good side of 0."""
    if score.difference is None:
        return False
    return score.difference.high < 0 if measure.lower_is_better else score.difference.low > 0


def wins(contest: Contest, measures: Sequence[Measure]) -> list[Win]:
    """Return where rivals win; those who know what no router can know are no rivals."""
    found = []
    for one in ranked(contest, measures):
        for measure in measures if one.role == "rival" else ():
            score = one.scores.get(measure.key)
            if score is not None and score.difference is not None and better(measure, score):
                found.append(Win(rival=one.name, measure=measure, difference=score.difference))
    return found


def measured(contest: Contest, measures: Sequence[Measure]) -> list[Measure]:
    """Return the measures of which anybody has a score."""
    return [measure for measure in measures if any(measure.key in one.scores for one in contest.contestants)]


def leading(contest: Contest, measures: Sequence[Measure]) -> Measure | None:
    """Return the measure that orders systems: cost at 99 %, or the next one where that tells nobody apart."""
    known = {measure.key: measure for measure in measured(contest, measures)}
    for key in _LEADING:
        means = {one.scores[key].mean for one in contest.contestants if one.role != "bound" and key in one.scores}
        if len(means) > 1:
            return known[key]
    return None


def ranked(contest: Contest, measures: Sequence[Measure]) -> list[Contestant]:
    """Return all systems, the best first; those without a score last."""
    measure = leading(contest, measures)
    if measure is None:
        return list(contest.contestants)

    def place(one: Contestant) -> float:
        if measure.key not in one.scores:
            return math.inf
        return one.scores[measure.key].mean * (1.0 if measure.lower_is_better else -1.0)

    return sorted(contest.contestants, key=place)


def emphasised(report: Report, contest: Contest) -> list[Contestant]:
    """Return the systems that plots name: MixLLM, what bounds it, and the best rivals."""
    order = ranked(contest, report.measures)
    rivals = [one for one in order if one.role == "rival"][:_NAMED_RIVALS]
    return [one for role in ("ours", "bound") for one in order if one.role == role] + rivals


def verdict(contest: Contest, measures: Sequence[Measure]) -> list[str]:
    """Say who wins against MixLLM, or that nobody does, or that nothing was tested."""
    rivals = [one for one in contest.contestants if one.role == "rival"]
    tests = [score for one in rivals for score in one.scores.values() if score.difference is not None]
    if not rivals:
        return [f"{OURS} was compared with no rival."]
    if not tests:
        return ["No difference between systems was tested, so none of them is told from chance."]
    found = wins(contest, measures)
    told = []
    for rival in dict.fromkeys(win.rival for win in found):
        where = enumerated([_difference(win) for win in found if win.rival == rival])
        told.append(f"{rival} is better than {OURS} in {where}.")
    if not told:
        told.append(f"None of the {len(rivals)} rivals is better than {OURS} in any measure by more than the interval.")
    by_chance = len(tests) * 0.025
    told.append(
        f"{len(tests)} differences were tested at 95 %: if nobody were better or worse, about {by_chance:.0f} would "
        f"favour a rival by chance."
    )
    return told


def _difference(win: Win) -> str:
    gap, decimals = win.difference, win.measure.decimals
    told = f"difference {number(gap.value, decimals, sign=True)}, 95 % interval {interval(gap, decimals, sign=True)}"
    return f"{title(win.measure)} ({told})"


def title(measure: Measure) -> str:
    """Return a measure's title as it stands within a sentence."""
    return measure.title if measure.title.isupper() else measure.title[0].lower() + measure.title[1:]
