"""What the traffic was told, kept in a few numbers, and whether the router says the same."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isclose
from typing import Any

from mixllm_engine import FeedbackReceipt, Router, StoreUnavailableError, UnknownDecisionError
from tests.soak.asking import Answer
from tests.soak.provider import NAMES

_MOST_MISTAKES = 20
_LONGEST_WRITE_S = 60.0


@dataclass
class Judged:
    """The judgements of one answer so far."""

    answer: Answer
    rewards: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def label(self) -> float:
        """The mean of the latest reward under each key."""
        return sum(self.rewards.values()) / len(self.rewards)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What was counted, and by candidate the number of labels and the sum of their values."""

    counts: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    rewards: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            counts=self.counts + other.counts,
            labels=self.labels + other.labels,
            rewards={name: self.rewards[name] + other.rewards[name] for name in NAMES},
        )

    def disagreements(self, stats: Mapping[str, Any]) -> list[str]:
        """Compare what was acknowledged with what a router says when all is done."""
        found = []
        expected = {
            "feedback_applied": self.counts["feedback applied"],
            "feedback_duplicate": self.counts["feedback duplicate"],
            "feedback_unmatched": self.counts["feedback unmatched"],
            "feedback_pending": 0,
            "writes_waiting": 0,
            "writes_lost": 0,
        }
        for name, number in expected.items():
            if stats[name] != number:
                found.append(f"{name} is {stats[name]}, and should be {number}")
        for name in NAMES:
            said = stats["candidates"][name]
            if said["in_flight"]:
                found.append(f"{said['in_flight']} calls to {name!r} are said to be under way")
            mean = self.rewards[name] / max(self.labels[name], 1)
            if said["labels"] != self.labels[name] or not isclose(said["mean_reward"] or 0.0, mean, abs_tol=1e-6):
                found.append(
                    f"{name!r} has {said['labels']} labels of mean {said['mean_reward']}, but {self.labels[name]} of "
                    f"mean {mean} were acknowledged for it"
                )
        return found


class Books:
    """Counts of what happened, sums of what was acknowledged, and what should not have happened. For many threads."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.counts: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.rewards: dict[str, float] = dict.fromkeys(NAMES, 0.0)
        self.mistakes: list[str] = []
        self._lock = threading.Lock()

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def mistake(self, what: str) -> None:
        with self._lock:
            self.counts["mistakes"] += 1
            sys.stderr.write(f"MISTAKE {what}\n")  # long before the end
            if len(self.mistakes) < _MOST_MISTAKES:
                self.mistakes.append(what)

    def unexpected(self, where: str, error: BaseException) -> None:
        last = "".join(traceback.format_exception(error)[-6:])
        self.mistake(f"{where}: unexpected {type(error).__name__}: {error}\n{last}")

    def answered(self, way: str, token: str, answer: Answer) -> None:
        """Check a whole answer: who wrote it, by its own words, is who the answer and the store say."""
        self.count("answered")
        self.count(way)
        if answer.text != f"{answer.candidate} {token} done":
            self.mistake(f"{way}: {token!r} was answered {answer.text!r}, said to be by {answer.candidate!r}")
        attempts = self._attempts(answer)
        *failed, last = attempts
        if last != (answer.candidate, None) or any(error is None for _, error in failed):
            self.mistake(f"{way}: {answer.candidate!r} answered, but the store has {attempts}")

    def left(self, way: str, answer: Answer) -> None:
        """Check the beginning of an answer whose reader left."""
        self.count("left")
        if not answer.text.startswith(answer.candidate):
            self.mistake(f"{way}: {answer.text!r} is said to be by {answer.candidate!r}")
        attempts = self._attempts(answer)
        if attempts[-1] not in ((answer.candidate, "cancelled"), (answer.candidate, None)):
            self.mistake(f"{way}: left in the middle of {answer.candidate!r}, but the store has {attempts}")

    def _attempts(self, answer: Answer) -> list[tuple[str, str | None]]:
        until = time.monotonic() + _LONGEST_WRITE_S
        attempts, ranking = self._stored(answer.decision_id)
        while attempts[-1:] not in ([(answer.candidate, None)], [(answer.candidate, "cancelled")]):
            if time.monotonic() > until:
                break
            time.sleep(0.1)  # a slow disk holds up no answer, so its record may come later
            attempts, ranking = self._stored(answer.decision_id)
        if [name for name, _ in attempts] != ranking[: len(attempts)]:
            self.mistake(f"decision {answer.decision_id}: attempts {attempts} don't follow the ranking {ranking}")
        return attempts

    def _stored(self, decision_id: str) -> tuple[list[tuple[str, str | None]], list[str]]:
        try:
            explanation = self.router.explain(decision_id)
        except StoreUnavailableError:
            return [], []
        attempts = [(outcome.candidate, outcome.error) for outcome in explanation.outcomes]
        return list(attempts), list(explanation.decision.ranking)

    def judge(self, judged: Judged, key: str, reward: float) -> None:
        """Give feedback, and keep what was acknowledged."""
        with judged.lock:  # else nobody could say which of two judgements replaced the other
            self._judge(judged, key, reward)

    def _judge(self, judged: Judged, key: str, reward: float) -> None:
        before = judged.label if judged.rewards else None
        known = judged.rewards.get(key)
        expected = "applied" if known is None else "duplicate" if known == reward else "replaced"
        receipt: FeedbackReceipt = judged.answer.feedback(reward, key)
        got = (receipt.decision_id, receipt.candidate, receipt.status)
        if got != (judged.answer.decision_id, judged.answer.candidate, expected):
            self.mistake(f"feedback on {judged.answer}: expected {expected!r}, got {receipt}")
        judged.rewards[key] = reward
        with self._lock:
            self.counts[f"feedback {receipt.status}"] += 1
            self.labels[judged.answer.candidate] += before is None
            self.rewards[judged.answer.candidate] += judged.label - (before or 0.0)

    def judge_unknown(self, decision_id: str) -> None:
        """Give feedback on what was never decided."""
        try:
            self.router.feedback(decision_id, 1.0)
        except UnknownDecisionError:
            self.count("feedback unmatched")
        else:
            self.mistake(f"feedback on {decision_id!r}, which nobody decided, was taken")

    def totals(self) -> Totals:
        with self._lock:
            return Totals(counts=Counter(self.counts), labels=Counter(self.labels), rewards=dict(self.rewards))
