"""Why a candidate was chosen, in numbers that add up and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from mixllm_engine.counterfactual import Counterfactual
from mixllm_engine.decision.gate import kind
from mixllm_engine.store.base import DecisionRecord
from mixllm_engine.types import Decision, Outcome

# The parts of the score that most decisions do not have; shown where any candidate has them.
_RARE = ("feedback", "optimism")
_DIGITS: Final = 4
_LARGEST: Final = 1e9  # with its four digits, what a float tells apart
_COLUMNS = ("candidate", "quality", "cost $", "tokens", "wait s", "trade", "unsure", "late", *_RARE, "score", "")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A decision with what came of it; ``str()`` is a table.

    Attributes
    ----------
    record : DecisionRecord
        The decision as it was logged.
    outcomes : tuple of Outcome
        What the attempts brought.
    """

    record: DecisionRecord
    outcomes: tuple[Outcome, ...]

    @property
    def decision(self) -> Decision:
        """The decision."""
        return self.record.decision

    @property
    def summary(self) -> str:
        """One sentence."""
        decision = self.decision
        how = {
            "score": "has the best score",
            "exploration": "was drawn to learn about it",
            "forced": "was asked for by name",
            "tool loop": "had begun this tool loop",
            "rollout": "is MixLLM's choice within its share of a rollout",
            "baseline": "is the baseline of a rollout",
            "shadow": "answers all, while MixLLM is only watched",
        }[kind(decision.reason)]
        return (
            f"{decision.candidate} {how} at willingness to pay {decision.willingness_to_pay:.3g} "
            f"(probability of this choice {decision.propensity:.3g})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the decision and its outcomes as plain data."""
        decision = self.decision
        return {
            **{f.name: getattr(decision, f.name) for f in fields(decision) if f.name not in ("scores", "ranking")},
            "ranking": list(decision.ranking),
            "policy": self.record.policy,
            "scores": {name: asdict(score) for name, score in decision.scores.items()},
            "parts": {name: self.parts(name) for name in decision.scores},
            "counterfactual": asdict(counterfactual) if (counterfactual := self.counterfactual) else None,
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
        }

    def parts(self, name: str) -> dict[str, float]:
        """Return the parts of a candidate's score with their weights and signs: they add up to it.

        In decisions of older stores, whose weights are not known, `unsure` and `late` are without them.
        """
        score, alpha, beta = self.decision.scores[name], self.decision.uncertainty_weight, self.decision.penalty_weight
        return {
            "trade": score.trade,
            "unsure": score.uncertainty * (1.0 if alpha is None else alpha),
            "late": score.penalty * (1.0 if beta is None else -beta),
            "feedback": score.feedback,
            "optimism": score.optimism,
        }

    @property
    def counterfactual(self) -> Counterfactual | None:
        """What would have to change for the runner-up to win; ``None`` where there is none."""
        return Counterfactual.of(self.decision)

    @property
    def table(self) -> list[tuple[str, ...]]:
        """The headings, and one row of text per candidate, best score first.

        In each row, the parts as they are shown add up to the score as it is shown.
        """
        scores = self.decision.scores.values()
        empty = [name for name in _RARE if not any(getattr(score, name) for score in scores)]
        shown = [column for column, name in enumerate(_COLUMNS) if name not in empty]
        return [tuple(row[column] for column in shown) for row in (_COLUMNS, *self.rows())]

    def rows(self) -> list[tuple[str, ...]]:
        """Return one row of text per candidate, best score first, with all columns that there can be."""
        scores = self.decision.scores
        return [self._row(n) for n in sorted(scores, key=lambda n: (not scores[n].eligible, -scores[n].total, n))]

    def _row(self, name: str) -> tuple[str, ...]:
        score = self.decision.scores[name]
        note = score.reason or ("<- chosen" if name == self.decision.candidate else "")
        numbers = (
            f"{score.quality:.3f}",
            f"{score.cost_usd:.6f}",
            f"{score.response_tokens:.0f}",
            f"{score.waiting_s:.2f}",
        )
        return (name, *numbers, *adding_up(list(self.parts(name).values()), score.total), note)

    @property
    def notes(self) -> list[str]:
        """What would have to change for the runner-up to win, and the attempts, in words."""
        attempts = [
            f"{outcome.candidate}: {outcome.error or 'answered'}"
            + (f", {outcome.cost_usd:.6f} $" if outcome.cost_usd is not None else "")
            + (f", {outcome.latency_s:.2f} s" if outcome.latency_s is not None else "")
            for outcome in self.outcomes
        ]
        change = [str(self.counterfactual)] if self.counterfactual else []
        return [line for part in (change, attempts) if part for line in ("", *part)]

    def __str__(self) -> str:
        """Return the summary, the table and the attempts."""
        table = self.table
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([self.summary, "", *lines, *self.notes])


def adding_up(parts: Sequence[float], total: float) -> list[str]:
    """Return parts and their sum with four digits, rounded such that what is shown adds up exactly.

    The sum is rounded as usual; of the parts, those that lose most by rounding down are rounded up (largest remainder).
    A part is so off by less than 0.0001. Parts that are no parts of this sum, or too large for it, are rounded alone.

    Examples
    --------
    >>> adding_up([0.00004, 0.00004, 0.00004], 0.00012)
    ['0.0001', '0.0000', '0.0000', '0.0001']
    """
    alone = [f"{number:.{_DIGITS}f}" for number in (*parts, total)]
    if max(map(abs, (*parts, total))) >= _LARGEST:
        return alone
    units = [math.floor(part * 10**_DIGITS) for part in parts]
    remainders = [part * 10**_DIGITS - unit for part, unit in zip(parts, units, strict=True)]
    missing = round(total * 10**_DIGITS) - sum(units)
    if not 0 <= missing <= len(parts):
        return alone
    for position in sorted(range(len(parts)), key=lambda position: -remainders[position])[:missing]:
        units[position] += 1
    return [f"{unit / 10**_DIGITS:.{_DIGITS}f}" for unit in (*units, sum(units))]
