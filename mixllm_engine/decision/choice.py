"""Scores -> ranking, choice and propensity.

A candidate of which little is known gets a bounded number of exploring draws. Such a draw happens with a fixed
probability and is uniform over the new candidates; otherwise the best is taken, or with Thompson sampling the best of
one draw of every total. So the propensity of every choice is known: exactly, or by quadrature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mixllm_engine.decision.thompson import Totals
from mixllm_engine.types import Vector

# What has happened had some chance, even if less than the quadrature resolves: nothing is ever divided by 0.
_LEAST = 1e-9


class Choice(NamedTuple):
    """A choice by position.

    Attributes
    ----------
    ranking : list of int
        Eligible candidates, the chosen one first.
    propensity : float
        Probability of this choice under the policy that made it.
    explored : bool
        Whether it was an exploring draw: of a new candidate, or by Thompson sampling of another than the best.
    """

    ranking: list[int]
    propensity: float
    explored: bool


def rank(total: Vector, eligible: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Order the eligible candidates by score, best first; ties go by position, which is the order of names.

    Examples
    --------
    >>> rank(np.array([0.1, 0.5, 0.5]))
    [1, 2, 0]
    """
    order = (-total).argsort(kind="stable")
    ranking: list[int] = (order if eligible is None else order[eligible[order]]).tolist()
    return ranking


def choose(
    ranking: list[int],
    new: Sequence[int],
    rate: float,
    rng: np.random.Generator,
    totals: Totals | None = None,
) -> Choice:
    """Take the best candidate, or with probability `rate` one of the new ones.

    Parameters
    ----------
    ranking : list of int
        Eligible candidates, best first.
    new : sequence of int
        Those of them that still have exploring draws.
    rate : float
        Probability of an exploring draw while there is any new candidate.
    rng : numpy.random.Generator
        Source of chance.
    totals : Totals, optional
        Thompson sampling: where no new one is drawn, the best of one draw of these is taken; in the order of `ranking`.
    """
    if len(ranking) == 1 or (totals is None and (not new or rate <= 0.0)):
        return Choice(ranking=ranking, propensity=1.0, explored=False)
    rate = rate if new else 0.0
    drawn = rate > 0.0 and bool(rng.random() < rate)
    usual = 0 if totals is None else totals.draw(rng)
    chosen = new[int(rng.integers(len(new)))] if drawn else ranking[usual]
    propensity = max(chance(chosen, ranking, new, rate, totals), _LEAST)
    return Choice(ranking=first(chosen, ranking), propensity=propensity, explored=drawn or chosen != ranking[0])


def chance(
    position: int, ranking: Sequence[int], new: Sequence[int], rate: float, totals: Totals | None = None
) -> float:
    """Return the probability with which `choose` takes an eligible candidate; the arguments are the same."""
    place = ranking.index(position)
    if len(ranking) == 1:
        return 1.0
    rate = rate if new else 0.0
    otherwise = float(place == 0) if totals is None else float(totals.probabilities()[place])
    share = rate / len(new) if position in new else 0.0
    return min(share + (1.0 - rate) * otherwise, 1.0)


def first(position: int, ranking: list[int]) -> list[int]:
    """Move one candidate to the front of a ranking."""
    return [position, *(other for other in ranking if other != position)]
