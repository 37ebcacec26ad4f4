"""How numbers are written in a report: as many digits as they deserve, and a real minus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.report.model import Measure, Score

_MINUS: Final = "\N{MINUS SIGN}"
_NOTHING: Final = "\N{EN DASH}"
QUERIES: Final = 1000  # costs are told for this many


def number(value: float, decimals: int, *, sign: bool = False) -> str:
    """Write a number; a dash where there is none.

    Examples
    --------
    >>> number(-12.34, 1), number(0.5, 3, sign=True), number(float("nan"), 2)
    ('−12.3', '+0.500', '–')
    """
    if not math.isfinite(value):
        return _NOTHING
    return f"{value:{'+' if sign else ''},.{decimals}f}".replace("-", _MINUS)


def spread(score: Score, measure: Measure) -> str:
    """Write the standard error of a score, or nothing where there is none."""
    return f"± {number(score.standard_error, measure.decimals)}" if math.isfinite(score.standard_error) else ""


def interval(estimate: Estimate, decimals: int, *, sign: bool = False) -> str:
    """Write both ends of an interval."""
    return f"{number(estimate.low, decimals, sign=sign)} to {number(estimate.high, decimals, sign=sign)}"


def dollars(usd: float) -> str:
    """Write an amount with three digits that count.

    Examples
    --------
    >>> dollars(12.345), dollars(0.00123), dollars(1234.5), dollars(0)
    ('$12.3', '$0.00123', '$1,230', '$0')
    """
    if usd == 0 or not math.isfinite(usd):
        return "$0" if usd == 0 else _NOTHING
    decimals = 2 - math.floor(math.log10(abs(usd)))
    return f"${round(usd, decimals):,.{max(decimals, 0)}f}".replace("$-", f"{_MINUS}$")


def enumerated(parts: Sequence[str]) -> str:
    """Join parts of a sentence."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else list(parts))


def short_names(names: Sequence[str], limit: int = 28) -> dict[str, str]:
    """Shorten names for drawings: without their provider where what remains is unique, and no longer than `limit`.

    Examples
    --------
    >>> short_names(["mistralai/mixtral-8x7b-chat", "gpt-4"])
    {'mistralai/mixtral-8x7b-chat': 'mixtral-8x7b-chat', 'gpt-4': 'gpt-4'}
    """
    lasts = [name.rsplit("/", 1)[-1] for name in names]
    return {
        name: clipped(last if last and lasts.count(last) == 1 else name, limit)
        for name, last in zip(names, lasts, strict=True)
    }


def clipped(name: str, limit: int) -> str:
    """Bring a name into one line of at most so many signs."""
    # a drawing has no place for line breaks, nor XML for control characters
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in name).split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"
