"""What workers that share a log must know, in plain Python: the model that `test_rule_machine` drives beside them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mixllm_engine.encoding.surface import surface
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.testing import HashingEncoder
from mixllm_engine.types import Label, Vector

Features = Callable[[Vector], Vector]

_ENCODER = HashingEncoder()


@dataclass(frozen=True, kw_only=True)
class Taught:
    """One row of a table: a query, how good a candidate's answer was, and how long."""

    text: str
    quality: float
    response_tokens: float


Table = Mapping[str, Sequence[Taught]]


@dataclass(kw_only=True)
class Decided:
    """A decision with what came back."""

    text: str
    chosen: str
    among: frozenset[str]
    answers: list[tuple[str, int | None]] = field(default_factory=list)  # who answered, in how many tokens
    given: dict[str, Label] = field(default_factory=dict)
    credited: str = ""
    weight: float = 0.0

    @property
    def label(self) -> Label:
        """The weighted mean; it never weighs more than one judgement that is certain, nor less than it did."""
        total = sum(label.weight for label in self.given.values())
        return Label(sum(label.weight * label.value for label in self.given.values()) / total, self.weight)

    def judge(self, key: str, label: Label) -> str:
        """Take a judgement; the first one settles who is judged. Returns its status."""
        status = "applied" if key not in self.given else "duplicate" if self.given[key] == label else "replaced"
        self.credited = self.credited or (self.answers[-1][0] if self.answers else self.chosen)
        self.given[key] = label
        self.weight = max(self.weight, min(sum(each.weight for each in self.given.values()), 1.0))
        return status


@dataclass(kw_only=True)
class Log:
    """All that was acknowledged, by any worker."""

    decided: dict[str, Decided] = field(default_factory=dict)  # in the order of time
    names: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    table: Table = field(default_factory=dict)  # what the latest fit taught
    states: int = 0  # how often the log's state was replaced: workers that see a new one begin anew with the table
    counts: Counter[str] = field(default_factory=Counter)

    def led_to(self, name: str) -> list[str]:
        """Return the decisions to which a name leads, in the order in which they were made."""
        return [decision_id for decision_id in self.decided if decision_id in self.names[name]]

    def chosen(self) -> Counter[str]:
        """Count the decisions for each candidate."""
        return Counter(decided.chosen for decided in self.decided.values())

    def judged(self) -> int:
        """Count the judgements that stand."""
        return sum(len(decided.given) for decided in self.decided.values())


def feature(text: str, features: Features) -> Vector:
    """Return phi of a text's embedding as a store keeps it."""
    return features(encoded(text).astype(np.float16).astype(np.float64))


def quality(log: Log, table: Table, trust: float | None, features: Features) -> dict[str, HeadStatistics]:
    """Add up, in one go, what a worker that began with a table must know of each candidate's quality."""
    observed = defaultdict[str, list[tuple[Vector, float, float]]](list)
    for name, rows in table.items():
        observed[name] += [(_fresh(row.text, features), row.quality, 1.0) for row in rows]
    for decided in log.decided.values():
        if decided.given:
            name, (value, weight) = decided.credited, decided.label
            taught = len(table.get(name, ()))
            share = 1.0 if trust is None else max(0.2, 1.0 / (1.0 + taught / trust))
            observed[name].append((feature(decided.text, features), value, share * weight))
    return {name: _sums(rows) for name, rows in observed.items()}


def length(log: Log, table: Table, features: Features) -> dict[str, HeadStatistics]:
    """Add up what a worker must know of how long each candidate's answers are."""
    observed = defaultdict[str, list[tuple[Vector, float, float]]](list)
    for name, rows in table.items():
        observed[name] += [(_fresh(row.text, features), math.log(row.response_tokens), 1.0) for row in rows]
    for decided in log.decided.values():
        for name, tokens in decided.answers:
            if tokens:
                observed[name].append((feature(decided.text, features), math.log(tokens), 1.0))
    return {name: _sums(rows) for name, rows in observed.items()}


def _fresh(text: str, features: Features) -> Vector:
    """Return phi of a text that was never stored."""
    return features(encoded(text))


def encoded(text: str) -> Vector:
    """Return the embedding of a text, and its surface behind it."""
    return np.append(_ENCODER.encode([text])[0], surface(text))


def _sums(rows: Sequence[tuple[Vector, float, float]]) -> HeadStatistics:
    contexts = np.array([context for context, _, _ in rows])
    targets, weights = np.array([target for _, target, _ in rows]), np.array([weight for _, _, weight in rows])
    weighted = contexts * weights[:, None]
    return HeadStatistics(
        count=float(len(rows)),
        gram=weighted.T @ contexts,
        moment=weighted.T @ targets,
        square=float(weights @ targets**2),
    )
