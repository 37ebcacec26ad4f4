"""What may be a reward, and what it may weigh."""

from __future__ import annotations

from typing import Any

import numpy as np

from mixllm_engine.errors import FeedbackError
from mixllm_engine.types import Label


def check_reward(reward: Any) -> float:
    """Return a reward in [0, 1], or raise `FeedbackError` that says how to scale it.

    Examples
    --------
    >>> check_reward(True)
    1.0
    """
    if isinstance(reward, np.generic):
        reward = reward.item()
    if not isinstance(reward, int | float) or not 0.0 <= reward <= 1.0:
        raise FeedbackError(
            f"reward={reward!r} must be a number in [0, 1]: 1 for a good answer, 0 for a bad one; "
            "scale stars or points first, for example (stars - 1) / 4"
        )
    return float(reward)


def check_label(reward: Any, weight: Any) -> Label:
    """Return a reward in [0, 1] with its weight in (0, 1], or raise `FeedbackError`."""
    value = check_reward(reward)
    if isinstance(weight, np.generic):
        weight = weight.item()
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0.0 < weight <= 1.0:
        raise FeedbackError(
            f"weight={weight!r} must be a number in (0, 1]: 1 for a judgement that is certain; leave out the feedback "
            "if it should count for nothing"
        )
    return Label(value, float(weight))
