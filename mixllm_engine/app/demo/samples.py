"""Sample queries whose true outcomes are known: a few of each benchmark to choose from, and others in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixllm_engine.evaluation.pools import FullFeedback, whole
from mixllm_engine.types import Query

_OFFERED_OF_EACH: Final = 4
_STREAMED: Final = 400
_LONGEST_LABEL: Final = 72


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What an LLM's answer to a sample was: its quality in [0, 1], its cost, its length."""

    quality: float
    cost_usd: float
    response_tokens: float


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A query with the recorded outcome of every LLM.

    Attributes
    ----------
    label : str
        One line for a list.
    query : Query
        What is decided on.
    outcomes : mapping of str to Recorded
        By LLM.
    """

    label: str
    query: Query
    outcomes: Mapping[str, Recorded]

    @property
    def text(self) -> str:
        """The text of the query."""
        return self.query.text or ""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Sample queries: those that are offered by name, and those that come in a row; no query is in both."""

    offered: tuple[Sample, ...]
    streamed: tuple[Sample, ...]

    def named(self, label: str) -> Sample | None:
        """Return the offered sample with a label."""
        return next((sample for sample in self.offered if sample.label == label), None)

    def asking(self, text: str) -> Sample | None:
        """Return the offered sample that asks just this."""
        return next((sample for sample in self.offered if sample.text.strip() == text.strip()), None)


def draw(rows: FullFeedback, seed: int) -> Samples:
    """Draw samples from recorded rows: a few short ones of each benchmark to choose from, others to come in a row."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(rows)).tolist()
    domains = rows.domains or (rows.name,) * len(rows)
    offered = [row for domain in sorted(set(domains)) for row in _shortest(rows, order, domains, domain)]
    others = [row for row in order if row not in set(offered)]
    return Samples(
        offered=tuple(sample(rows, row, domains[row]) for row in offered),
        streamed=tuple(sample(rows, row, domains[row]) for row in others[:_STREAMED]),
    )


def sample(rows: FullFeedback, row: int, domain: str) -> Sample:
    """Return a row as a sample."""
    outcomes = {
        name: Recorded(
            quality=float(rows.quality[row, column]),
            cost_usd=float(rows.cost_usd[row, column]),
            response_tokens=float(rows.response_tokens[row, column]),
        )
        for column, name in enumerate(rows.names)
    }
    line = " ".join(rows.texts[row].split())
    short = line if len(line) <= _LONGEST_LABEL else f"{line[: _LONGEST_LABEL - 1].rstrip()}…"
    query = Query(text=rows.texts[row], prompt_tokens=whole(float(rows.prompt_tokens[row])))
    return Sample(label=f"{domain}: {short}", query=query, outcomes=outcomes)


def _shortest(rows: FullFeedback, order: Sequence[int], domains: Sequence[str], domain: str) -> list[int]:
    """Return a few rows of a benchmark, from the shorter half of it: they are quicker to read."""
    own = [row for row in order if domains[row] == domain]
    middle = float(np.median([len(rows.texts[row]) for row in own]))
    return [row for row in own if len(rows.texts[row]) <= middle][:_OFFERED_OF_EACH]
