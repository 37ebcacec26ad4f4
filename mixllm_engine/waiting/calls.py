"""Calls under way and what they brought: waiting times and pauses follow from both."""

from __future__ import annotations

from collections import Counter

from mixllm_engine.types import Outcome
from mixllm_engine.waiting.cooldown import Cooldowns
from mixllm_engine.waiting.load import Load


class Calls:
    """Count every call once, whoever says that it ended. Not thread-safe: the router holds its lock.

    Parameters
    ----------
    load : Load
        Learns how many calls are under way and how fast they were.
    cooldowns : Cooldowns
        Learns which failed.
    """

    def __init__(self, load: Load, cooldowns: Cooldowns) -> None:
        self._load = load
        self._cooldowns = cooldowns
        self._under_way: Counter[tuple[str, str]] = Counter()

    def began(self, decision_id: str, candidate: str) -> None:
        """Count a call that begins."""
        self._under_way[decision_id, candidate] += 1
        self._load.dispatched(candidate)
        self._cooldowns.began(decision_id, candidate)

    def ended(self, decision_id: str, candidate: str) -> None:
        """Count a call that ended; one that nobody said began is not counted."""
        call = (decision_id, candidate)
        if call not in self._under_way:
            return
        self._load.returned(candidate)
        self._cooldowns.ended(decision_id, candidate)
        self._under_way[call] -= 1
        if not self._under_way[call]:
            del self._under_way[call]

    def forked(self) -> None:
        """Leave the calls under way to the process that this one was forked from."""
        self._under_way.clear()

    def brought(self, outcome: Outcome, now: float) -> None:
        """Learn of an answer how fast it was, of a failure how long to leave the candidate alone."""
        if outcome.error is not None:
            self._cooldowns.failed(outcome.candidate, outcome.error, now)
            return
        self._cooldowns.succeeded(outcome.candidate)
        if outcome.latency_s is not None and outcome.response_tokens:
            self._load.observe(outcome.candidate, outcome.response_tokens, outcome.latency_s)
