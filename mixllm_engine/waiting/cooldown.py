"""Failures -> a pause for the candidate. A failure says something of availability, never of quality.

When a pause is over, one call tries the candidate before all others come back (the half-open state of a circuit
breaker: M. T. Nygard, Release It!, 2007, section 5.2), so that an outage that goes on costs one more failure, not one
for everybody who waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mixllm_engine.config import WaitingConfig
from mixllm_engine.types import ErrorKind

# The prompt was at fault, or the person went away: the candidate is as available as before.
_HARMLESS: frozenset[ErrorKind] = frozenset({"context_window", "bad_request", "cancelled"})
_KEY_AT_FAULT: frozenset[ErrorKind] = frozenset({"auth", "not_found"})


# What one worker's calls met, every other worker's would meet: the provider is at fault, not a key on one machine.
_FOR_ALL: frozenset[ErrorKind] = frozenset({"rate_limit", "timeout", "unavailable"})


class Pause(NamedTuple):
    """How long a candidate is left alone yet, and why."""

    left_s: float
    cause: ErrorKind


@dataclass(kw_only=True)
class _Pause:
    """From when on, how long, and why; `trial` is the decision whose call tries the candidate again."""

    since: float
    length_s: float
    failures: int
    cause: ErrorKind
    trial: str | None = None
    is_trial: bool = False  # the pause proper is over: this one is for the trial's sake

    def left_s(self, now: float) -> float:
        """Return how much of the pause is left."""
        self.since = min(self.since, now)  # the clock was set back: that must not make the pause longer
        return self.since + self.length_s - now


class Cooldowns:
    """Candidates that are left alone for a while. Not thread-safe: the router holds its lock.

    Parameters
    ----------
    config : WaitingConfig
        How long. The pause doubles with each trial that fails, and ends with the first success.
    """

    def __init__(self, config: WaitingConfig) -> None:
        self.config = config
        self._pauses: dict[str, _Pause] = {}
        self._elsewhere: dict[str, _Pause] = {}  # what other workers met

    def failed(self, name: str, kind: ErrorKind, now: float) -> None:
        """Note a failure at time `now`, in seconds.

        Calls that were under way when the pause began, and fail as well, say nothing new: they don't double it.
        """
        if kind in _HARMLESS:
            return
        known = self._pauses.get(name)
        failures = 1 if known is None else known.failures
        if known is not None and (known.is_trial or known.left_s(now) <= 0):
            failures += 1
        length_s = min(self.config.cooldown_s * 2 ** min(failures - 1, 30), self.config.max_cooldown_s)
        if kind in _KEY_AT_FAULT:
            length_s = self.config.auth_cooldown_s
        self._pauses[name] = _Pause(since=now, length_s=length_s, failures=failures, cause=kind)

    def succeeded(self, name: str) -> None:
        """Note an answer: the candidate is back."""
        self._pauses.pop(name, None)

    def began(self, decision_id: str, name: str) -> None:
        """Note a call that begins: the first one to a candidate that failed is its trial."""
        pause = self._pauses.get(name)
        if pause is not None and pause.trial is None:
            pause.trial = decision_id

    def ended(self, decision_id: str, name: str) -> None:
        """Note that a call ended, whatever it brought: the next one may be the trial."""
        pause = self._pauses.get(name)
        if pause is not None and pause.trial == decision_id:
            pause.trial = None
            if pause.is_trial:
                pause.length_s = 0.0

    def active(self, now: float) -> dict[str, str]:
        """Return who is paused at time `now`, and why."""
        if not self._pauses and not self._elsewhere:
            return {}
        both = [*self._elsewhere.items(), *self._pauses.items()]
        return {name: why for name, pause in both if (why := self._reason(pause, now))}

    def told(self, now: float) -> dict[str, Pause]:
        """Return what other workers should know at time `now`."""
        left = {name: Pause(pause.left_s(now), pause.cause) for name, pause in self._pauses.items()}
        return {name: pause for name, pause in left.items() if pause.left_s > 0 and pause.cause in _FOR_ALL}

    def elsewhere(self, told: Sequence[Mapping[str, Pause]], now: float) -> None:
        """Take note of what the other workers met, in place of what they told before; the longest pause counts."""
        self._elsewhere = {}
        met = [item for pauses in told for item in pauses.items()]
        for name, pause in sorted(met, key=lambda item: item[1].left_s):
            self._elsewhere[name] = _Pause(since=now, length_s=pause.left_s, failures=1, cause=pause.cause)

    def _reason(self, pause: _Pause, now: float) -> str | None:
        if pause.left_s(now) <= 0 and pause.trial is not None and not pause.is_trial:
            pause.is_trial, pause.since = True, now  # once more the same time, lest nobody ever ends the trial
        left_s = pause.left_s(now)
        if left_s <= 0:
            return None
        return f"{'tried again' if pause.is_trial else f'paused for {left_s:.0f} s'} after {pause.cause}"
