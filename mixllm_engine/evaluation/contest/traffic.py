"""Simulated load: queries arrive at a steady pace, and every LLM serves a bounded number of calls at once.

No pool has recorded waiting times, so speeds are simulated: a call that has its slot takes start-up + tokens / speed
seconds. The pace is the paper's, 100 queries in 10 s; its servers are not published.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.prices import NOTIONAL_TOKENS
from mixllm_engine.types import Matrix, Vector

PACE_PER_S: Final = 10.0
_TOKENS_PER_S = (120.0, 30.0)
_STARTUP_S = (0.3, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Traffic:
    """How fast queries come, how fast the candidates are, and how late an answer may be.

    Attributes
    ----------
    startup_s, tokens_per_s : array of shape (K,)
        Speed of each candidate, in the order of the pool's columns.
    max_wait_s : float
        tau: an answer that takes longer than this scores 0.
    queries_per_s : float
        Pace of arrivals.
    slots : int
        Calls that one candidate serves at once; others queue, first come, first served.
    """

    startup_s: Vector
    tokens_per_s: Vector
    max_wait_s: float = 10.0
    queries_per_s: float = PACE_PER_S
    slots: int = 16

    @classmethod
    def of(cls, data: FullFeedback, *, max_wait_s: float = 10.0) -> Traffic:
        """Simulate speeds: the dearer, the slower, from 120 tokens per second to 30, and from 0.3 s to start to 1 s."""
        place = data.cost_usd.mean(axis=0).argsort().argsort() / max(len(data.names) - 1, 1)
        fast, slow = _TOKENS_PER_S
        return cls(
            startup_s=_STARTUP_S[0] + place * (_STARTUP_S[1] - _STARTUP_S[0]),
            tokens_per_s=fast * (slow / fast) ** place,
            max_wait_s=max_wait_s,
        )

    def service_s(self, data: FullFeedback) -> Matrix:
        """Return how long each call takes once it has its slot, shape (n, K)."""
        seconds: Matrix = self.startup_s + answer_tokens(data) / self.tokens_per_s
        return seconds


class Servers:
    """The slots of all candidates, and when each becomes free.

    Examples
    --------
    >>> servers = Servers(candidates=1, slots=1)
    >>> servers.call(0, now_s=0.0, service_s=4.0), servers.call(0, now_s=1.0, service_s=4.0)
    (4.0, 8.0)
    """

    def __init__(self, *, candidates: int, slots: int) -> None:
        self._free_s = [[0.0] * slots for _ in range(candidates)]

    def call(self, column: int, *, now_s: float, service_s: float) -> float:
        """Queue a call and return when it ends; calls must come in the order of their times."""
        free = self._free_s[column]
        ends_s = max(now_s, free[0]) + service_s
        heapq.heapreplace(free, ends_s)
        return ends_s


def answer_tokens(data: FullFeedback) -> Matrix:
    """Return the length of every answer, shape (n, K): recorded, or in proportion to its cost where unknown."""
    mean = np.maximum(data.cost_usd.mean(axis=0), 1e-12)
    return np.where(np.isfinite(data.response_tokens), data.response_tokens, NOTIONAL_TOKENS * data.cost_usd / mean)
