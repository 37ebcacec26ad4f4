"""What would have to change for the runner-up to win: its quality, its cost, or what quality is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from mixllm_engine.decision.score import trade_weights
from mixllm_engine.types import Decision, Score


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """By how much the runner-up lost, and any one of the changes with which it would have drawn level.

    Each change is the only one: all other numbers, penalties and uncertainties among them, stay as they were.

    Attributes
    ----------
    runner_up : str
        The eligible candidate with the best score besides the chosen one.
    gap : float
        Score of the chosen one minus that of the runner-up; below 0 where it was not chosen for its score.
    quality : float or None
        Expected quality that the runner-up would have needed; ``None`` where even 1 is too little.
    cost_usd : float or None
        Expected cost that it would have needed; ``None`` where even a free answer is too dear.
    willingness_to_pay : float or None
        lambda at which both are level; ``None`` where there is none above 0.
    """

    runner_up: str
    gap: float
    quality: float | None
    cost_usd: float | None
    willingness_to_pay: float | None

    @classmethod
    def of(cls, decision: Decision) -> Self | None:
        """Return what would have to change, or ``None`` where nobody else could have answered.

        Examples
        --------
        >>> from mixllm_engine.testing import tiny_router
        >>> print(Counterfactual.of(tiny_router().decide("hello")).runner_up)
        dear
        """
        others = {n: s for n, s in decision.scores.items() if s.eligible and n != decision.candidate}
        if not others:
            return None
        runner_up = max(sorted(others), key=lambda name: others[name].total)
        chosen, other = decision.scores[decision.candidate], others[runner_up]
        gap = chosen.total - other.total
        on_quality, on_cost = trade_weights(decision.willingness_to_pay)
        per_dollar = _per_dollar(decision, on_quality)
        quality = other.quality + gap / on_quality if on_quality else math.inf
        cost_usd = other.cost_usd - gap / per_dollar if per_dollar else -math.inf
        return cls(
            runner_up=runner_up,
            gap=gap,
            quality=quality if 0.0 <= quality <= 1.0 else None,
            cost_usd=cost_usd if cost_usd >= 0.0 else None,
            willingness_to_pay=_level(chosen, other, on_quality, per_dollar / on_cost) if on_cost else None,
        )

    def __str__(self) -> str:
        """Return it as a sentence."""
        if self.gap < 0:
            return f"{self.runner_up} has a better score, by {-self.gap:.4f}"
        ways = [
            f"a quality of {self.quality:.3f}" if self.quality is not None else "",
            f"a cost of {self.cost_usd:.6f} $" if self.cost_usd is not None else "",
            f"a willingness to pay of {self.willingness_to_pay:.3g}" if self.willingness_to_pay is not None else "",
        ]
        needed = " or ".join(way for way in ways if way)
        lost = f"{self.runner_up} is behind by {self.gap:.4f}"
        return f"{lost}; it would draw level with {needed}" if needed else f"{lost}, which no single change makes good"


def _per_dollar(decision: Decision, on_quality: float) -> float:
    """Return what a dollar takes from a score, as trade = on_quality p - this c says of the dearest candidate."""
    dearest = max(decision.scores.values(), key=lambda score: score.cost_usd)
    return (on_quality * dearest.quality - dearest.trade) / dearest.cost_usd if dearest.cost_usd else 0.0


def _level(chosen: Score, other: Score, on_quality: float, unit: float) -> float | None:
    """Solve (lambda dp - dc) / (lambda + 1) + dr = 0, with costs in the pool's unit and the rest r of both scores.

    What is given in advance is quality, and counts with it.
    """
    advance = (other.optimism - chosen.optimism) / on_quality if on_quality else 0.0
    quality, cost = other.quality - chosen.quality + advance, (other.cost_usd - chosen.cost_usd) * unit
    rest = (other.total - other.trade - other.optimism) - (chosen.total - chosen.trade - chosen.optimism)
    if quality + rest == 0.0:
        return None
    found = (cost - rest) / (quality + rest)
    return found if found > 0.0 else None
