"""Let a policy answer a stream, query by query, and write down what everybody got."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from mixllm_engine.evaluation.contest.policy import Answer, Planned, Policy, System
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.contest.traffic import PACE_PER_S, Servers
from mixllm_engine.types import Matrix


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """What one system did on a stream of m queries, at each of s settings of its knob, from cheap to dear.

    Attributes
    ----------
    column : array of shape (s, m), int
        The candidate whose answer was taken.
    quality : array of shape (s, m)
        What the answer was worth: its quality, or 0 if it was late.
    cost_usd : array of shape (s, m)
        What all calls for the query cost.
    latency_s : array of shape (s, m)
        From the query's arrival to its answer; 0 without load.
    late : array of shape (s, m), bool
        Whether that was too long.
    calls : array of shape (s, m), int
        How many LLMs were called.
    """

    column: npt.NDArray[np.intp]
    quality: Matrix
    cost_usd: Matrix
    latency_s: Matrix
    late: npt.NDArray[np.bool_]
    calls: npt.NDArray[np.intp]

    @property
    def points(self) -> Matrix:
        """Mean cost in dollars and mean quality at each setting, shape (s, 2)."""
        return np.stack([self.cost_usd.mean(axis=1), self.quality.mean(axis=1)], axis=1)


def curve(system: System, task: Task) -> Curve:
    """Run every policy of a system on the task's stream."""
    runs = [run(policy, task) for policy in system.policies(task)]
    return Curve(**{part.name: np.stack([getattr(one, part.name) for one in runs]) for part in fields(Curve)})


@dataclass(kw_only=True, eq=False)
class Run:
    """One setting of a `Curve`: arrays of shape (m,)."""

    column: npt.NDArray[np.intp]
    quality: npt.NDArray[np.float64]
    cost_usd: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]
    late: npt.NDArray[np.bool_]
    calls: npt.NDArray[np.intp]

    @classmethod
    def empty(cls, queries: int) -> Run:
        """Return a run in which nothing has been answered."""
        return cls(
            column=np.full(queries, -1, dtype=np.intp),
            quality=np.zeros(queries),
            cost_usd=np.zeros(queries),
            latency_s=np.zeros(queries),
            late=np.zeros(queries, dtype=np.bool_),
            calls=np.zeros(queries, dtype=np.intp),
        )


def run(policy: Policy, task: Task) -> Run:
    """Let one policy answer the stream, under the task's traffic if it has any."""
    if task.traffic is None and isinstance(policy, Planned):
        return _looked_up(policy.calls, task)
    return _Simulation(policy, task).run()


def _looked_up(calls: Sequence[Sequence[int]], task: Task) -> Run:
    """Without load and without learning there is nothing to simulate."""
    stream, result = task.stream, Run.empty(len(task.stream))
    rows = np.arange(len(stream))
    result.column = np.array([called[-1] for called in calls], dtype=np.intp)
    result.calls = np.array([len(called) for called in calls], dtype=np.intp)
    result.quality = stream.quality[rows, result.column]
    result.cost_usd = stream.cost_usd[rows, result.column].copy()
    for row in np.flatnonzero(result.calls > 1).tolist():
        result.cost_usd[row] = stream.cost_usd[row, list(calls[row])].sum()
    return result


class _Simulation:
    """Arrivals, calls and answers in the order of their times; at the same time, the earlier query goes first."""

    def __init__(self, policy: Policy, task: Task) -> None:
        self._policy, self._stream, self._traffic = policy, task.stream, task.traffic
        self._result = Run.empty(len(task.stream))
        self._calls: list[Sequence[int]] = []
        self._ends: list[tuple[float, int, int, float]] = []  # when a call ends, query, which of its calls, its begin
        self._pace_s = 1.0 / (task.traffic.queries_per_s if task.traffic else PACE_PER_S)
        if task.traffic is not None:
            self._service_s = task.traffic.service_s(task.stream)
            self._servers = Servers(candidates=len(task.stream.names), slots=task.traffic.slots)

    def run(self) -> Run:
        """Answer all queries."""
        for row in range(len(self._stream)):
            now_s = row * self._pace_s
            self._pass_until(now_s)
            self._calls.append(self._policy.choose(row, now_s))
            self._call(row, 0, now_s)
        self._pass_until(math.inf)
        return self._result

    def _pass_until(self, now_s: float) -> None:
        while self._ends and self._ends[0][0] <= now_s:
            ends_s, row, step, began_s = heapq.heappop(self._ends)
            if step + 1 < len(self._calls[row]):
                self._call(row, step + 1, ends_s)
            else:
                self._answer(row, ends_s, began_s)

    def _call(self, row: int, step: int, now_s: float) -> None:
        column, ends_s = self._calls[row][step], now_s
        if self._traffic is not None:
            ends_s = self._servers.call(column, now_s=now_s, service_s=float(self._service_s[row, column]))
        self._result.cost_usd[row] += self._stream.cost_usd[row, column]
        heapq.heappush(self._ends, (ends_s, row, step, now_s))

    def _answer(self, row: int, now_s: float, began_s: float) -> None:
        result, stream, column = self._result, self._stream, self._calls[row][-1]
        latency_s = now_s - row * self._pace_s
        answer = Answer(
            column=column,
            quality=float(stream.quality[row, column]),
            late=self._traffic is not None and latency_s > self._traffic.max_wait_s,
            cost_usd=float(result.cost_usd[row]),
            prompt_tokens=float(stream.prompt_tokens[row]),
            response_tokens=float(stream.response_tokens[row, column]),
            latency_s=now_s - began_s,
        )
        result.column[row], result.quality[row], result.late[row] = column, answer.value, answer.late
        result.latency_s[row], result.calls[row] = latency_s, len(self._calls[row])
        self._policy.finish(row, answer, now_s)
