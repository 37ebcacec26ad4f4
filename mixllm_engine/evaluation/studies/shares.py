"""Shares of traffic over time: who answers, and how soon that follows a change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Taken = npt.NDArray[np.bool_]
WINDOW = 50


def share(taken: Taken) -> float:
    """Return the share of queries that a candidate answered; 0 of none."""
    return float(taken.mean()) if len(taken) else 0.0


def by_window(taken: Taken) -> list[float]:
    """Return the share in each whole window of 50 queries."""
    return [share(taken[start : start + WINDOW]) for start in range(0, len(taken) - WINDOW + 1, WINDOW)]


def queries_until(taken: Taken, goal: float, *, rising: bool) -> int | None:
    """Return after how many queries the share in the latest 50 has come to a goal, or ``None`` if it never does.

    Examples
    --------
    >>> queries_until(np.arange(200) >= 100, 0.8, rising=True)
    140
    """
    if len(taken) < WINDOW:
        return None
    latest = np.convolve(taken, np.full(WINDOW, 1.0 / WINDOW), mode="valid")
    # a share is a multiple of 1/50, up to the rounding of the sum
    there = latest >= goal - 1e-9 if rising else latest <= goal + 1e-9
    return int(there.argmax()) + WINDOW if there.any() else None
