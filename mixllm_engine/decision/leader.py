"""Quality that is given in advance to the leader, the LLM that is the best on average.

The highest of many estimates is likely to be one that is too high (the winner's curse), and the leader needs no luck to
be good. So where the estimate q of a candidate l for one query says that l is better than the leader, *, by no more
than a margin m, the leader is taken to be as good, and b m better; where it says more, the leader is given m::

    g = max_l min(max(q_l - q_* + b m_l, 0), m_l),    m = a se (1 - k / n)+,    se^2 = s_l^2 v_l + s_*^2 v_*

with v = x' A^-1 x of this query, s^2 the variance of a candidate's labels, n how many labels the less known of the two
has, and k how many it takes to be known: half of what the best known has, at least 50, at most 200. The others are
believed, one beside the other and where they are worse than the leader: asking a cheaper one that is nearly as good
needs no luck. As long as nobody is known, nobody leads; and against who is not known yet the leader is given nothing,
since that one is to be tried: it is a newcomer where it alone is little known, but not where all are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Self

import numpy as np

from mixllm_engine.decision.advance import KNOWN
from mixllm_engine.prediction.predictor import Predictor
from mixllm_engine.types import Matrix, Vector

# With more labels than these somebody leads.
LEAST: Final = 50.0
# A label's variance before any was seen, a coin's, and how many labels that is worth.
_PRIOR_VARIANCE: Final = 0.25
_PRIOR_STRENGTH: Final = 20.0
# How far who seems a little better than the leader comes behind it, in margins: more than what its width adds to a
# score, or the least known of those who are level would be asked where cost does not matter. An array, since numpy
# would make one of a float anew in every decision.
_BEHIND: Final = np.array(0.05)


def known_from(labels: Vector) -> float:
    """Return k, with more than how many labels a candidate is known beside others that have so many.

    Examples
    --------
    >>> [known_from(np.array([20.0, most])) for most in (60.0, 100.0, 300.0, 1000.0)]
    [50.0, 50.0, 150.0, 200.0]
    """
    return min(max(LEAST, float(labels.max()) / 2.0), KNOWN)


@dataclass(frozen=True, kw_only=True)
class Leader:
    """Who leads, and by how much it is to be believed. It holds as long as nothing more is learned.

    Attributes
    ----------
    standard_errors : float
        a, `DecisionConfig.leader_margin`.
    level : array of shape (K,)
        The quality that is expected for the mean query; -inf for who may not lead.
    variance, labels : array of shape (K,)
        s^2 and n.
    enough : float
        k, with how many labels a candidate of this pool is known.
    """

    standard_errors: float
    level: Vector
    variance: Vector
    labels: Vector
    enough: float

    @classmethod
    def of(cls, predictor: Predictor, standard_errors: float) -> Self | None:
        """Return the leader of a pool with a margin of so many standard errors, or ``None`` where nobody leads."""
        if standard_errors == 0.0:
            return None
        heads = predictor.quality
        labels = heads.gram[:, 0, 0].copy()
        enough = known_from(labels)
        known = labels > enough
        if not known.any():
            return None
        level = predictor.expected(heads.mean_context(known))[: len(known)]
        return cls(
            standard_errors=standard_errors,
            level=np.where(known, level, -np.inf),
            variance=heads.label_variance(_PRIOR_VARIANCE, _PRIOR_STRENGTH),
            labels=labels,
            enough=enough,
        )

    @cached_property
    def position(self) -> int:
        """The position of *."""
        return int(self.level.argmax())

    @cached_property
    def _place(self) -> tuple[Any, Any]:
        """Where the leader stands along the last axis: as an entry, and as a column."""
        return (..., self.position), (..., slice(self.position, self.position + 1))

    @cached_property
    def _weight(self) -> Vector:
        """The margins in standard errors, a (1 - k / n)+, shape (K,); 0 for the leader itself."""
        fewer = np.clip(self.labels, self.enough, self.labels[self.position])
        weight = self.standard_errors * (1.0 - self.enough / fewer)
        weight[self.position] = 0.0
        return weight

    def without(self, excluded: Collection[int]) -> Leader | None:
        """Return the leader of those who may answer, if any of them is known."""
        if not excluded:
            return self
        level, labels, out = self.level.copy(), self.labels.copy(), list(excluded)
        level[out], labels[out] = -np.inf, 0.0
        return None if np.isneginf(level).all() else replace(self, level=level, labels=labels)

    def advance(self, quality: Matrix, leverage: Matrix) -> Matrix:
        """Return the quality that is given in advance to each: g to the leader, and 0 to the others.

        Parameters
        ----------
        quality, leverage : array of shape (K,) or (n, K)
            q, and v = x' A^-1 x.

        Returns
        -------
        array of the same shape
            At least 0.
        """
        variance, (leader, column) = self.variance * leverage, self._place
        margin = self._weight * np.sqrt(variance + variance[column])
        claim = quality - quality[column] + _BEHIND * margin
        given: Matrix = np.zeros(quality.shape)
        # The leader's own claim and margin are 0, so that the highest is never below.
        given[leader] = np.maximum.reduce(np.minimum(claim, margin), axis=-1)
        return given
