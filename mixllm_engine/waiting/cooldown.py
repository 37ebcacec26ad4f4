"""Failures -> a pause for the candidate. A failure says something of availability, never of quality."""

from __future__ import annotations

from mixllm_engine.config import WaitingConfig
from mixllm_engine.types import ErrorKind

# The prompt was at fault, or the person went away: the candidate is as available as before.
_HARMLESS: frozenset[ErrorKind] = frozenset({"context_window", "bad_request", "cancelled"})
_KEY_AT_FAULT: frozenset[ErrorKind] = frozenset({"auth", "not_found"})


class Cooldowns:
    """Candidates that are left alone for a while. Not thread-safe: the router holds its lock.

    Parameters
    ----------
    config : WaitingConfig
        How long; the pause doubles with each failure in a row and ends with the first success.
    """

    def __init__(self, config: WaitingConfig) -> None:
        self.config = config
        self._until: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._causes: dict[str, ErrorKind] = {}

    def failed(self, name: str, kind: ErrorKind, now: float) -> None:
        """Note a failure at time `now`, in seconds."""
        if kind in _HARMLESS:
            return
        failures = self._failures.get(name, 0) + 1
        pause = self.config.cooldown_s * 2 ** min(failures - 1, 30)
        pause = self.config.auth_cooldown_s if kind in _KEY_AT_FAULT else min(pause, self.config.max_cooldown_s)
        self._failures[name] = failures
        self._causes[name] = kind
        self._until[name] = now + pause

    def succeeded(self, name: str) -> None:
        """Note an answer: the candidate is back."""
        for notes in (self._until, self._failures, self._causes):
            notes.pop(name, None)

    def active(self, now: float) -> dict[str, str]:
        """Return who is paused at time `now`, and why."""
        if not self._until:
            return {}
        return {
            name: f"paused for {until - now:.0f} s after {self._causes[name]}"
            for name, until in self._until.items()
            if until > now
        }
