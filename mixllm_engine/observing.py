"""What routers do, as OpenTelemetry's spans and metrics; never a prompt, an answer or a key.

Nothing is imported here: only a program that uses OpenTelemetry's API has it loaded already, and only where it has set
a provider is anything made. Names that have a meaning beyond routing follow the conventions for generative AI,
https://opentelemetry.io/docs/specs/semconv/gen-ai/; the others begin with ``mixllm``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

from mixllm_engine.candidates import Pool
from mixllm_engine.decision.gate import Gate, kind
from mixllm_engine.decision.maker import DecisionMaker
from mixllm_engine.errors import StoreError
from mixllm_engine.learning.learner import Learner
from mixllm_engine.store.base import Store
from mixllm_engine.types import Decision, FeedbackReceipt, Outcome

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.trace import Tracer

_NAME: Final = "mixllm"
_LOOK_EVERY_S: Final = 1.0  # to ask OpenTelemetry for its providers takes longer than a decision should
# As the conventions for generative AI advise.
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


class Observed(Protocol):
    """A router: the parts that are looked at when metrics are read."""

    _store: Store
    _maker: DecisionMaker

    @property
    def _learner(self) -> Learner: ...


_open: Final = WeakKeyDictionary[Observed, int]()  # their numbers


class Observer:
    """Turns what routers do into spans and metrics.

    Parameters
    ----------
    tracer : opentelemetry.trace.Tracer
        Makes the spans.
    meter : opentelemetry.metrics.Meter
        Makes the instruments.
    """

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        self._decisions = meter.create_counter("mixllm.decisions", "{decision}", "Decisions by candidate and reason")
        self._saved = meter.create_counter(
            "mixllm.savings.expected",
            "USD",
            "Expected cost of the dearest eligible candidate less that of the chosen one",
        )
        self._attempts = meter.create_counter("mixllm.attempts", "{attempt}", "Calls by candidate and kind of failure")
        self._cost = meter.create_counter("mixllm.cost", "USD", "What answers cost")
        self._feedback = meter.create_counter("mixllm.feedback", "{judgement}", "Feedback by what became of it")
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "Time until the answer was complete, or had failed",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time until a streamed answer began",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens of a call", explicit_bucket_boundaries_advisory=_TOKENS
        )
        for name, unit, about, read in _GAUGES:
            meter.create_observable_gauge(name, [_reading(read)], unit, about)

    def decided(self, decision: Decision) -> None:
        """Tell of a decision: a span without duration in whatever span is open, and counts."""
        reason = kind(decision.reason)
        self._decisions.add(1, {"mixllm.candidate": decision.candidate, "mixllm.reason": reason})
        scores = decision.scores
        chosen = scores[decision.candidate]
        dearest = max((score.cost_usd for score in scores.values() if score.eligible), default=chosen.cost_usd)
        self._saved.add(max(dearest - chosen.cost_usd, 0.0))
        said: dict[str, str | float] = {
            "mixllm.decision_id": decision.decision_id,
            "mixllm.candidate": decision.candidate,
            "mixllm.reason": reason,
            "mixllm.propensity": decision.propensity,
            "mixllm.explored": decision.explored,
            "mixllm.willingness_to_pay": decision.willingness_to_pay,
            "mixllm.expected_quality": chosen.quality,
            "mixllm.expected_cost_usd": chosen.cost_usd,
        }
        self._tracer.start_span("mixllm.decide", attributes=said).end()

    def attempted(self, decision_id: str, outcome: Outcome, pool: Pool) -> None:
        """Tell of a call that has just ended: its span, which began when the call did, and its figures."""
        who = {"gen_ai.operation.name": "chat", "mixllm.candidate": outcome.candidate}
        if outcome.candidate in pool.index:  # it may have left meanwhile
            model = pool[outcome.candidate].model
            provider, _, rest = model.partition("/")
            if rest:
                who["gen_ai.provider.name"] = provider
            who["gen_ai.request.model"] = rest or model
        if outcome.error is not None:
            who["error.type"] = outcome.error
        self._attempts.add(1, {name: who[name] for name in ("mixllm.candidate", "error.type") if name in who})
        self._measure(outcome, who)
        self._trace(decision_id, outcome, who)

    def credited(self, receipt: FeedbackReceipt) -> None:
        """Tell of feedback."""
        self._feedback.add(1, {"mixllm.status": receipt.status})

    def _measure(self, outcome: Outcome, who: dict[str, str]) -> None:
        if outcome.cost_usd is not None:
            self._cost.add(outcome.cost_usd, {"mixllm.candidate": outcome.candidate})
        if outcome.latency_s is not None:
            self._duration.record(outcome.latency_s, who)
        if outcome.first_token_s is not None:
            self._first_chunk.record(outcome.first_token_s, who)
        for tokens, which in ((outcome.prompt_tokens, "input"), (outcome.response_tokens, "output")):
            if tokens is not None:
                self._tokens.record(tokens, {**who, "gen_ai.token.type": which})

    def _trace(self, decision_id: str, outcome: Outcome, who: dict[str, str]) -> None:
        from opentelemetry.trace import SpanKind, StatusCode

        said = {
            **who,
            "mixllm.decision_id": decision_id,
            "mixllm.cost_usd": outcome.cost_usd,
            "mixllm.first_token_s": outcome.first_token_s,
            "gen_ai.usage.input_tokens": outcome.prompt_tokens,
            "gen_ai.usage.output_tokens": outcome.response_tokens,
            "gen_ai.usage.cache_read.input_tokens": outcome.cached_tokens,
        }
        known = {name: value for name, value in said.items() if value is not None}
        ended_ns = time.time_ns()
        span = self._tracer.start_span(
            f"chat {who.get('gen_ai.request.model', outcome.candidate)}",
            kind=SpanKind.CLIENT,
            attributes=known,
            start_time=ended_ns - int((outcome.latency_s or 0.0) * 1e9),
        )
        if outcome.error is not None:
            span.set_status(StatusCode.ERROR)
        span.end(ended_ns)


def _pending(router: Observed) -> float:
    return router._store.counts().feedback - router._store.feedback_of(router._learner.encoder)


def _share(router: Observed) -> float:
    gate: Gate | None = router._maker.gate
    return 1.0 if gate is None else gate.share


_GAUGES: Final[tuple[tuple[str, str, str, Callable[[Observed], float]], ...]] = (
    ("mixllm.writes.waiting", "{entry}", "Entries that wait to be written", lambda router: router._store.unwritten),
    ("mixllm.writes.lost", "{entry}", "Entries that were given up", lambda router: router._store.lost),
    (
        "mixllm.feedback.pending",
        "{judgement}",
        "Feedback that is kept but not learned from",
        _pending,
    ),
    ("mixllm.rollout.share", "{share}", "Share of the traffic that MixLLM decides", _share),
)


def _reading(read: Callable[[Observed], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Return what reads a figure of every open router; what can't be read now is left out."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        from opentelemetry.metrics import Observation

        for router, number in list(_open.items()):
            try:
                value = read(router)
            except StoreError:
                continue
            yield Observation(value, {"mixllm.router": str(number)})

    return observe


class _Found:
    """The observer, once there is one."""

    observer: Observer | None = None
    look_at_s = 0.0


def _observer() -> Observer | None:
    """Return the observer if OpenTelemetry is in use."""
    if _Found.observer is None and "opentelemetry" in sys.modules and time.monotonic() >= _Found.look_at_s:
        _Found.look_at_s = time.monotonic() + _LOOK_EVERY_S
        _Found.observer = _look()
    return _Found.observer


def _look() -> Observer | None:
    try:
        from opentelemetry import metrics, trace
    except ImportError:  # another package of this name
        return None
    providers: tuple[Any, ...] = (metrics.get_meter_provider(), trace.get_tracer_provider())
    # Those of the API itself do nothing.
    if all(type(one).__module__.startswith(("opentelemetry.metrics", "opentelemetry.trace")) for one in providers):
        return None
    return Observer(trace.get_tracer(_NAME), metrics.get_meter(_NAME))


def watch(router: Observed) -> None:
    """Show a router's figures whenever metrics are read, and look for providers at its first decision."""
    taken = set(_open.values())
    _open[router] = next(number for number in count() if number not in taken)
    _Found.look_at_s = 0.0


def unwatch(router: Observed) -> None:
    """Show them no longer."""
    _open.pop(router, None)


def decided(decision: Decision) -> None:
    """Tell of a decision, if anybody observes."""
    if (observer := _observer()) is not None:
        observer.decided(decision)


def attempted(decision_id: str, outcome: Outcome, pool: Pool) -> None:
    """Tell of a call that has just ended, if anybody observes."""
    if (observer := _observer()) is not None:
        observer.attempted(decision_id, outcome, pool)


def credited(receipt: FeedbackReceipt) -> None:
    """Tell of feedback, if anybody observes."""
    if (observer := _observer()) is not None:
        observer.credited(receipt)
