"""MixLLM itself, as its users have it: a `Router` that decides, observes what calls brought, and learns from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.contest.policy import Answer, Planned
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.pools import FullFeedback, whole
from mixllm_engine.evaluation.replay import in_units_of
from mixllm_engine.evaluation.workbench import Fitted, expected
from mixllm_engine.types import Decision, Outcome


class MixLLMFit:
    """What the router learned from the table, and nothing else: the best by lambda p - c.

    Parameters
    ----------
    config : RouterConfig, optional
        Settings; the default ones where not given.
    """

    def __init__(self, config: RouterConfig | None = None) -> None:
        self._config = config or RouterConfig.default()

    def policies(self, task: Task) -> Iterator[Planned]:
        """Yield a policy for each lambda."""
        router = task.bench.fitted(task.train, self._config, seed=task.seed, sold_as=task.sold).router
        quality, _ = expected(router, task.stream)
        for willingness in task.grid:
            yield Planned(task.best_by(quality, float(willingness)))


class MixLLM:
    """The router at work: it explores, knows the calls under way, and learns from every answer.

    Parameters
    ----------
    config : RouterConfig, optional
        Settings; the default ones where not given.
    """

    def __init__(self, config: RouterConfig | None = None) -> None:
        self._config = config or RouterConfig.default()

    def policies(self, task: Task) -> Iterator[_Routed]:
        """Yield a freshly fitted router for each lambda."""
        for willingness in task.grid:
            fitted = task.bench.fitted(task.train, self._config, seed=task.seed, sold_as=task.sold)
            scaled = in_units_of(self._config, float(willingness), task.reference_cost_usd)
            yield _Routed(fitted, task.stream, scaled, task.traffic.max_wait_s if task.traffic else math.inf)


class _Routed:
    """A router on a stream; it is told the quality of every answer, also of a late one: lateness is no bad grade."""

    def __init__(self, fitted: Fitted, stream: FullFeedback, willingness_to_pay: float, max_wait_s: float) -> None:
        self._router, self._clock, self._stream = fitted.router, fitted.clock, stream
        self._willingness, self._max_wait_s = willingness_to_pay, max_wait_s
        self._began_s = fitted.clock.now_s
        self._under_way: dict[int, Decision] = {}

    def choose(self, row: int, now_s: float) -> Sequence[int]:
        """Ask the router, and tell it that the call begins."""
        self._clock.now_s = self._began_s + now_s
        decision = self._router.decide(
            self._stream.query(row), willingness_to_pay=self._willingness, max_wait_s=self._max_wait_s
        )
        self._router.dispatched(decision.decision_id, decision.candidate)
        self._under_way[row] = decision
        return [self._stream.column(decision.candidate)]

    def finish(self, row: int, answer: Answer, now_s: float) -> None:
        """Tell it what came back."""
        self._clock.now_s = self._began_s + now_s
        decision = self._under_way.pop(row)
        outcome = Outcome(
            candidate=decision.candidate,
            latency_s=answer.latency_s or None,
            prompt_tokens=whole(answer.prompt_tokens),
            response_tokens=whole(answer.response_tokens),
            cost_usd=answer.cost_usd,
        )
        self._router.observe(decision.decision_id, outcome)
        self._router.feedback(decision, answer.quality)
