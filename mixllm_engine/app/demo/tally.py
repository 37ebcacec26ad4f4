"""What came of a visit's queries: who was chosen, what was spent, and what always the dearest LLM would have cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from mixllm_engine.app.demo.samples import Sample
from mixllm_engine.types import Decision


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One query: who was chosen, and cost and quality beside those of the dearest LLM.

    All four numbers are recorded ones where both LLMs have them, else all are expected ones.
    """

    candidate: str
    cost_usd: float
    quality: float
    dearest_cost_usd: float
    dearest_quality: float
    recorded: bool

    @classmethod
    def of(cls, decision: Decision, dearest: str, sample: Sample | None) -> Entry:
        """Compare the chosen LLM with the dearest one."""
        outcomes = {} if sample is None else sample.outcomes
        recorded = {decision.candidate, dearest} <= outcomes.keys()
        known = outcomes if recorded else decision.scores
        own, other = known[decision.candidate], known[dearest]
        return cls(
            candidate=decision.candidate,
            cost_usd=own.cost_usd,
            quality=own.quality,
            dearest_cost_usd=other.cost_usd,
            dearest_quality=other.quality,
            recorded=recorded,
        )


@dataclass(frozen=True, kw_only=True)
class Savings:
    """What a visit's queries cost and brought, against always the dearest LLM.

    Attributes
    ----------
    queries, recorded : int
        How many, and how many of them by recorded outcomes.
    spent_usd, dearest_usd : tuple of float
        Sums after each query.
    quality, dearest_quality : float
        Means.
    """

    queries: int
    recorded: int
    spent_usd: tuple[float, ...]
    dearest_usd: tuple[float, ...]
    quality: float
    dearest_quality: float


class Tally:
    """The queries of one visit; one that is decided anew under another budget counts once."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> int:
        """Count a query; returns its place."""
        self._entries.append(entry)
        return len(self._entries) - 1

    def replace(self, place: int, entry: Entry) -> None:
        """Count a query otherwise."""
        self._entries[place] = entry

    def shares(self, names: Sequence[str]) -> tuple[tuple[str, int], ...]:
        """Return how many queries each LLM got: those that are named, and those that were removed meanwhile."""
        counts = Counter(entry.candidate for entry in self._entries)
        return tuple((name, counts[name]) for name in [*names, *sorted(counts.keys() - set(names))])

    def savings(self) -> Savings | None:
        """Sum up, or return ``None`` before the first query."""
        entries = self._entries
        if not entries:
            return None
        return Savings(
            queries=len(entries),
            recorded=sum(entry.recorded for entry in entries),
            spent_usd=tuple(accumulate(entry.cost_usd for entry in entries)),
            dearest_usd=tuple(accumulate(entry.dearest_cost_usd for entry in entries)),
            quality=sum(entry.quality for entry in entries) / len(entries),
            dearest_quality=sum(entry.dearest_quality for entry in entries) / len(entries),
        )
