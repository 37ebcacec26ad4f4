"""A database that does as it is told, and entries to write into it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from mixllm_engine.errors import StoreError, StoreUnavailableError, UnknownDecisionError
from mixllm_engine.store.entries import Entry, NewFeedback, NewOutcome, Result
from mixllm_engine.types import FeedbackReceipt, Label, Outcome


def outcome(decision_id: str, number: int = 0) -> NewOutcome:
    return NewOutcome(decision_id=decision_id, outcome=Outcome(candidate="a"), time_s=float(number))


def judgement(decision_id: str, key: str = "user") -> NewFeedback:
    return NewFeedback(decision_id=decision_id, key=key, label=Label(1.0, 1.0), time_s=0.0)


class Database:
    """Takes entries, each once; is out of reach, slow, or fails as told."""

    def __init__(self) -> None:
        self.kept: list[Entry] = []
        self.transactions = 0
        self.error: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()

    def write(self, entries: Sequence[Entry], again: bool) -> list[Result]:
        self.transactions += 1
        self.begun.set()
        assert self.open.wait(20.0)
        if self.error is not None:
            raise self.error
        if any(entry.decision_id == "poison" for entry in entries if isinstance(entry, NewOutcome)):
            raise StoreError("a value that can't be kept")
        assert again or not any(entry in self.kept for entry in entries)
        self.kept += [entry for entry in entries if entry not in self.kept]
        return [self.result(entry) for entry in entries]

    def result(self, entry: Entry) -> Result:
        if isinstance(entry, NewFeedback):
            if entry.decision_id == "unknown":
                return UnknownDecisionError("unknown")
            return FeedbackReceipt(
                decision_id=entry.decision_id, candidate="a", key=entry.key, reward=1.0, status="applied"
            )
        return None

    def hold(self) -> None:
        """Have the next transaction wait in mid-work."""
        self.open.clear()
        self.begun.clear()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.002)


def gone() -> StoreUnavailableError:
    return StoreUnavailableError("gone")
