"""What is known of the candidates' speed when a query is decided, and how long an answer may be to come in time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mixllm_engine.types import Vector

# However late it is already: the logarithm of a time needs some time.
_LEAST_S = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Timing:
    """What is known of the candidates' speed, each of shape (K,). The arrays never change.

    Attributes
    ----------
    waiting_s : array
        w_l: expected wait before a new call starts.
    startup_s : array
        Time until the first token.
    tokens_per_s : array
        Generation speed.
    """

    waiting_s: Vector
    startup_s: Vector
    tokens_per_s: Vector


@lru_cache(maxsize=8)  # while nobody queues, one timing serves many decisions
def log_tokens_within(timing: Timing, max_wait_s: float) -> Vector:
    """Return the logarithm of the longest answer that every candidate can finish within a time, shape (K,).

    Examples
    --------
    >>> timing = Timing(waiting_s=np.zeros(1), startup_s=np.array([0.5]), tokens_per_s=np.array([50.0]))
    >>> np.exp(log_tokens_within(timing, 10.5)).round(6)
    array([500.])
    """
    generating_s = np.maximum(max_wait_s - timing.waiting_s - timing.startup_s, _LEAST_S)
    return np.log(generating_s * timing.tokens_per_s)
