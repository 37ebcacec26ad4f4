"""The attempts of one decision: who is next, what each brought, and when to give up. No I/O happens here.

The four drivers in `mixllm_engine.calling.routed` (sync and async, whole and streamed) share this, so that fallback
and bookkeeping are the same on every path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from mixllm_engine.calling.failures import classify
from mixllm_engine.calling.usage import Usage
from mixllm_engine.errors import AllCandidatesFailedError
from mixllm_engine.redaction import redact, secrets_of_environment
from mixllm_engine.types import Candidate, Decision, ErrorKind, Outcome


class Recorder(Protocol):
    """What the attempts need of a router."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The pool."""
        ...

    def dispatched(self, decision_id: str, candidate: str) -> None:
        """Count a call that begins."""
        ...

    def observe(self, decision_id: str, outcome: Outcome) -> None:
        """Record what a call brought."""
        ...


class Attempt:
    """One call to one candidate. Exactly one of `answered` and `failed` ends it; what comes later is ignored."""

    def __init__(
        self, recorder: Recorder, decision: Decision, candidate: Candidate, clock: Callable[[], float]
    ) -> None:
        self.candidate = candidate
        self.kind: ErrorKind | None = None
        self._recorder = recorder
        self._decision_id = decision.decision_id
        self._clock = clock
        self._first_token_s: float | None = None
        self._ended = False
        self._started_s = clock()
        recorder.dispatched(self._decision_id, candidate.name)

    def first_token(self) -> None:
        """Note that the answer begins."""
        if self._first_token_s is None:
            self._first_token_s = self._clock() - self._started_s

    def answered(self, usage: Usage) -> None:
        """Record a complete answer."""
        self._end(usage, None)

    def failed(self, error: BaseException, usage: Usage | None = None) -> bool:
        """Record a failure; returns whether it is one that the next candidate may make good."""
        kind = classify(error)
        if kind is not None and self._first_token_s is not None and kind != "cancelled":
            kind = "broken_stream"
        self.kind = kind or "other"
        self._end(usage or Usage(), self.kind)
        return kind not in (None, "cancelled", "broken_stream")

    def _end(self, usage: Usage, error: ErrorKind | None) -> None:
        if self._ended:
            return
        self._ended = True
        outcome = Outcome(
            candidate=self.candidate.name,
            latency_s=self._clock() - self._started_s,
            first_token_s=self._first_token_s,
            prompt_tokens=usage.prompt_tokens,
            response_tokens=usage.response_tokens,
            cached_tokens=usage.cached_tokens,
            error=error,
        )
        self._recorder.observe(self._decision_id, outcome)


class Attempts:
    """The attempts of one decision, in the order of its ranking.

    Parameters
    ----------
    recorder : Recorder
        The router.
    decision : Decision
        Whose ranking is followed.
    clock : callable
        Seconds of a steady clock.
    """

    def __init__(self, recorder: Recorder, decision: Decision, clock: Callable[[], float] = time.perf_counter) -> None:
        self.decision = decision
        self._recorder = recorder
        self._clock = clock
        self._causes: dict[str, BaseException] = {}

    def __iter__(self) -> Iterator[Attempt]:
        """Yield one attempt after the other, each begun when it is asked for."""
        too_small = 0
        for name in self.decision.ranking:
            candidate = next((known for known in self._recorder.candidates if known.name == name), None)
            if candidate is None or (too_small and (candidate.context_window or too_small + 1) <= too_small):
                continue  # removed meanwhile, or its window is no larger than one that was too small
            attempt = Attempt(self._recorder, self.decision, candidate, self._clock)
            yield attempt
            if attempt.kind == "context_window":
                too_small = max(too_small, candidate.context_window or 0)

    def failed(self, attempt: Attempt, error: BaseException, usage: Usage | None = None) -> bool:
        """Record a failure, without the secrets that it repeats; returns whether to go on with the next candidate."""
        redact(error, [*attempt.candidate.secrets(), *secrets_of_environment()])
        self._causes[attempt.candidate.name] = error
        return attempt.failed(error, usage)

    def exhausted(self) -> AllCandidatesFailedError:
        """Return the error that holds every cause."""
        error = AllCandidatesFailedError(self.decision.decision_id, self._causes)
        error.__cause__ = next(reversed(self._causes.values()), None)
        return error
