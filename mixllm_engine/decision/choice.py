"""Scores -> ranking, choice and propensity.

A candidate of which little is known gets a bounded number of exploring draws. Such a draw happens with a fixed
probability and is uniform over the new candidates, so the propensity of every choice is known exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixllm_engine.types import Vector


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A choice by position.

    Attributes
    ----------
    ranking : list of int
        Eligible candidates, the chosen one first.
    propensity : float
        Probability of this choice under the policy that made it.
    explored : bool
        Whether it was an exploring draw.
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


def choose(ranking: list[int], new: Sequence[int], rate: float, rng: np.random.Generator) -> Choice:
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
    """
    if not new or rate <= 0.0 or len(ranking) == 1:
        return Choice(ranking=ranking, propensity=1.0, explored=False)
    explored = bool(rng.random() < rate)
    chosen = new[int(rng.integers(len(new)))] if explored else ranking[0]
    share = rate / len(new) if chosen in new else 0.0
    propensity = share + (1.0 - rate if chosen == ranking[0] else 0.0)
    return Choice(ranking=first(chosen, ranking), propensity=propensity, explored=explored)


def first(position: int, ranking: list[int]) -> list[int]:
    """Move one candidate to the front of a ranking."""
    return [position, *(other for other in ranking if other != position)]
