"""A machine to time: its clock, systems that let it advance, and a small effort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mixllm_engine.evaluation.bench.timing import Contender, Effort

SMALL = Effort(blocks=2, calls=3, warm_up=2, most_s=0.5)


class Machine:
    """A clock in nanoseconds, and systems that let it advance."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.log: list[tuple[str, int]] = []

    def __call__(self) -> int:
        return self.now_ns

    def system(self, name: str, cost_ns: Callable[[int], int], **more: Any) -> Contender:
        def step(serial: int) -> None:
            self.log.append((name, serial))
            self.now_ns += cost_ns(serial)

        return Contender(name=name, step=step, **more)
