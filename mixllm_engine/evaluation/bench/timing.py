"""Time several systems side by side, in blocks that alternate between them, so that a drift of the machine hits all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixllm_engine.types import Matrix, Vector

Clock = Callable[[], int]  # nanoseconds that only grow

_NS: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One system that is timed.

    Attributes
    ----------
    name : str
        How the report calls it.
    step : callable, optional
        What is timed. It is given the serial number of the call, so that no two calls need to be alike. ``None`` where
        it can't be run here.
    prepare : callable, optional
        Called before each block with the serial numbers of its calls; not timed.
    note : str
        What a reader has to know of it, or why it can't be run.
    """

    name: str
    step: Callable[[int], object] | None
    prepare: Callable[[range], object] | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes
    ----------
    blocks : int
        How often the systems take turns.
    calls : int
        Calls of each system in each block, at the most.
    warm_up : int
        Calls of each system before anything counts, at the most; always one.
    most_s : float
        Seconds for each system, roughly: a slow one gets fewer calls, at least one in each block.
    longest_step_s : float
        A system whose every call of the warm-up took longer is left out.
    """

    blocks: int
    calls: int
    warm_up: int = 10
    most_s: float = 2.0
    longest_step_s: float = 3.0

    @property
    def most_calls(self) -> int:
        """How many calls a system gets at the most, those of the warm-up included."""
        return max(1, self.warm_up) + self.blocks * self.calls


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What was measured of one system.

    Attributes
    ----------
    seconds : array of shape (blocks, calls)
        One for each call that counts; empty where it could not be run.
    note : str
        The contender's, and what was left out.
    """

    seconds: Matrix
    note: str = ""

    @property
    def by_block(self) -> Vector:
        """The median of each block: what neighbouring blocks of other systems can be compared with."""
        medians: Vector = np.median(self.seconds, axis=1)
        return medians


def alternate(contenders: Sequence[Contender], effort: Effort, clock: Clock = time.perf_counter_ns) -> dict[str, Timed]:
    """Time systems in turn: a block of A, a block of B, a block of A, ...

    Parameters
    ----------
    contenders : sequence of Contender
        The systems, in the order of their turns.
    effort : Effort
        How much is measured.
    clock : callable
        Nanoseconds.

    Returns
    -------
    dict of str to Timed
        One for each contender, in their order, those that can't be run included.
    """
    runs = [_Run(contender, effort, clock) for contender in contenders]
    for run in runs:
        run.warm_up()
    for _ in range(effort.blocks):
        for run in runs:
            run.block()
    return {run.contender.name: run.timed() for run in runs}


class _Run:
    """One contender's calls so far."""

    def __init__(self, contender: Contender, effort: Effort, clock: Clock) -> None:
        self.contender = contender
        self._effort = effort
        self._clock = clock
        self._serial = 0
        self._calls = 0  # in each block
        self._blocks_ns: list[list[int]] = []
        self._note = contender.note

    def warm_up(self) -> None:
        """Call until enough time has gone, then plan the blocks by how long a call takes."""
        if self.contender.step is None:
            return
        effort = self._effort
        spent_s = [self._warm_call_s()]
        while len(spent_s) < effort.warm_up and sum(spent_s) < effort.most_s / 4:
            spent_s.append(self._warm_call_s())
        typical_s = min(spent_s)  # the first calls load things
        if typical_s > effort.longest_step_s:
            self._note = _joined(self._note, f"left out: one call takes {typical_s:.1f} s")
            return
        affordable = effort.most_s / effort.blocks / max(typical_s, _NS)
        self._calls = max(1, min(effort.calls, int(affordable)))

    def _warm_call_s(self) -> float:
        """Make one call, and return how long it took with all that prepares it: that is what a block will cost."""
        before = self._clock()
        self._time(1)
        return (self._clock() - before) * _NS

    def block(self) -> None:
        """Time one block."""
        if self._calls:
            self._blocks_ns.append(self._time(self._calls))

    def timed(self) -> Timed:
        """Return what was measured."""
        spent_ns = np.array(self._blocks_ns, dtype=np.float64).reshape(len(self._blocks_ns), self._calls)
        return Timed(seconds=spent_ns * _NS, note=self._note)

    def _time(self, calls: int) -> list[int]:
        step, clock = self.contender.step, self._clock
        assert step is not None
        serials = range(self._serial, self._serial + calls)
        if self.contender.prepare is not None:
            self.contender.prepare(serials)
        spent = []
        for serial in serials:
            before = clock()
            step(serial)
            spent.append(clock() - before)
        self._serial += calls
        return spent


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
