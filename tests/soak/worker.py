"""One worker of several that share a store: it carries out its part of the plan, and looks at its own health."""

from __future__ import annotations

import gc
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import typer

from mixllm_engine import Router, RouterConfig
from mixllm_engine.testing import HashingEncoder, tiny_pool
from tests.soak import health
from tests.soak.asking import STREAMED, WHOLE, Surfaces
from tests.soak.books import Books, Totals
from tests.soak.provider import NAMES
from tests.soak.traffic import HOUR_S, Plan, Traffic

_PROGRESS_S = 10.0
# No drift alert makes a head forget: what is learned can be told from what was acknowledged.
_CONFIG = RouterConfig.model_validate(
    {
        "features": {"domains": "none", "components": 8},
        "learning": {"drift_threshold": None},
        "waiting": {"cooldown_s": 0.3, "max_cooldown_s": 3.0},
        "calling": {"timeout_s": 1.5},
    }
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of it. `mistakes` is empty where all is well."""

    rate: float
    cpu_s: float
    first: health.Memory
    last: health.Memory
    mistakes: tuple[str, ...] = ()


class Clock:
    """The time, and what was added to it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def open_router(address: str, store: str, clock: Callable[[], float] = time.time, seed: int = 0) -> Router:
    return Router(
        tiny_pool(address, NAMES), config=_CONFIG, store=store, encoder=HashingEncoder(), seed=seed, clock=clock
    )


def main(plan: Plan, address: str, store: str, parent: Connection) -> None:
    """Carry out a plan. When all workers are done, the parent sends what was acknowledged to any of them."""
    # A cancelled task leaves one behind in LiteLLM, which makes it in a thread.
    warnings.filterwarnings("ignore", "coroutine 'OpenAIChatCompletion.acompletion' was never awaited", RuntimeWarning)
    clock, port, before = Clock(), urlsplit(address).port or 0, health.threads()
    with open_router(address, store, clock, plan.seed) as router:
        books = Books(router)
        with _watched(books):
            surfaces = Surfaces(router)
            for way in (*WHOLE.values(), *STREAMED.values()):  # imports, before the time counts
                way(surfaces, "answer with token-0", False)
            parent.send("ready")
            parent.recv()
            traffic = Traffic(plan, surfaces, books)
            driven = _drive(plan, traffic, port)
            clock.ahead_s = HOUR_S
            traffic.finish()
        gc.collect()
        parent.send(books.totals())
        everybody: Totals = parent.recv()
        for disagreement in everybody.disagreements(router.stats()):
            books.mistake(disagreement)
    if left := health.sockets_to(port):
        books.mistake(f"{len(left)} connections are left, in the states {', '.join(left)}")
    if extra := set(health.threads()) - set(before):
        books.mistake(f"{len(extra)} threads are left: {', '.join(sorted(extra)[:10])}")
    first, last = driven.first, driven.last
    if last.held > 1.05 * first.held:
        books.mistake(f"memory grew from {first.held:.1f} to {last.held:.1f} MiB, by more than 5 %")
    parent.send(replace(driven, mistakes=tuple(books.mistakes)))


def _drive(plan: Plan, traffic: Traffic, port: int) -> Report:
    """Ask until the time is over."""
    gauge, first, told, number = health.Gauge(), None, 1, 0
    started, before_s = time.monotonic(), time.process_time()
    while (at_s := time.monotonic() - started) < plan.seconds:
        gauge.look(at_s)
        if at_s >= _PROGRESS_S * told:
            told += 1
            typer.echo(f"worker {plan.seed} {_progress(at_s, number / at_s, traffic, port)}")
        if first is None and at_s >= plan.warm_up_s:
            first = gauge.read()
        traffic.give_late(time.monotonic())
        number += 1
        traffic.ask(number)
        time.sleep(max(0.0, started + number / plan.rate - time.monotonic()))
    rate, cpu_s = number / (time.monotonic() - started), (time.process_time() - before_s) / number
    last = gauge.read()
    return Report(rate=rate, cpu_s=cpu_s, first=first or last, last=last)


def _progress(at_s: float, rate: float, traffic: Traffic, port: int) -> str:
    counts = traffic.books.totals().counts
    in_flight = sum(said["in_flight"] for said in traffic.surfaces.router.stats()["candidates"].values())
    ended = ", ".join(
        f"{counts[what]} {what}" for what in ("answered", "all failed", "broken off", "left", "cancelled")
    )
    feedback = sum(number for what, number in counts.items() if what.startswith("feedback"))
    return (
        f"{at_s:5.0f} s: {rate:.1f} a second; {ended}; {feedback} feedback; {counts['mistakes']} mistakes; "
        f"{health.resident_mib():.1f} MiB, {threading.active_count()} threads, {len(health.sockets_to(port))} "
        f"connections, {in_flight} in flight"
    )


@contextmanager
def _watched(books: Books) -> Iterator[None]:
    """Take what Python says of errors that nobody catches for mistakes."""
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = lambda it: books.mistake(f"unraisable: {it.err_msg or ''} {it.exc_value!r} in {it.object!r}")
    threading.excepthook = lambda it: books.mistake(f"in thread {it.thread}: {it.exc_value!r}")
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = hooks
