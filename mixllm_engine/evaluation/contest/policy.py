"""The protocols of a contest: a system brings policies, a policy chooses and may learn from what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mixllm_engine.evaluation.contest.task import Task


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back for one query.

    Attributes
    ----------
    column : int
        The candidate whose answer was taken.
    quality : float
        How good that answer is, in [0, 1].
    late : bool
        Whether it came after the time limit; its user got nothing then.
    cost_usd : float
        What all calls for the query cost.
    prompt_tokens, response_tokens : float
        Lengths of the call that answered; NaN where unknown.
    latency_s : float
        Seconds from the call that answered to its end; 0 without load.
    """

    column: int
    quality: float
    late: bool
    cost_usd: float
    prompt_tokens: float
    response_tokens: float
    latency_s: float

    @property
    def value(self) -> float:
        """What it was worth to the user: a late answer is worth nothing."""
        return 0.0 if self.late else self.quality


class Policy(Protocol):
    """Answers a stream of queries. It sees no outcome but those of its own calls."""

    def choose(self, row: int, now_s: float) -> Sequence[int]:
        """Return the columns of the candidates to call, one after the other; the last one's answer is taken."""
        ...

    def finish(self, row: int, answer: Answer, now_s: float) -> None:
        """Learn what came back; called in the order in which answers arrive."""
        ...


class System(Protocol):
    """Something that routes."""

    def policies(self, task: Task) -> Iterable[Policy]:
        """Learn from `task.train` and return a fresh policy for each setting of the knob, from cheap to dear."""
        ...


class Planned:
    """A policy that is decided beforehand and learns nothing on the way.

    Parameters
    ----------
    calls : sequence of sequence of int, or array of shape (n,) or (n, m)
        The candidates to call for every query, in order.
    """

    def __init__(self, calls: Sequence[Sequence[int]] | npt.NDArray[np.integer[Any]]) -> None:
        if isinstance(calls, np.ndarray):
            calls = calls.reshape(len(calls), -1).tolist()
        self.calls: Sequence[Sequence[int]] = calls

    def choose(self, row: int, now_s: float) -> Sequence[int]:
        """Look it up."""
        return self.calls[row]

    def finish(self, row: int, answer: Answer, now_s: float) -> None:
        """Learn nothing."""
