"""Workers that share a store, and are killed at random, end with the same knowledge, and all that was acknowledged.

The size is 4 workers of 20 items each; the environment may ask for more: MIXLLM_TEST_CONVERGENCE=8x500.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from mixllm_engine import Router
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.types import Vector
from tests.engine import convergence
from tests.engine.convergence import KEYS, open_router, reward, statistics, tasks, text
from tests.engine.rule_model import encoded
from tests.engine.stores import place

WORKERS, ITEMS = (int(number) for number in os.environ.get("MIXLLM_TEST_CONVERGENCE", "4x20").split("x"))
KILLS = max(3, WORKERS * ITEMS // 30)


# Workers are forked from a process that has imported what they need, so that they start at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "sqlalchemy.dialects.postgresql.psycopg", "tests.engine.convergence"])


class Worker:
    """A process that is started again whenever it was killed."""

    def __init__(self, store: str, folder: Path, number: int) -> None:
        self.journal = folder / f"{number}.journal"
        self._arguments = (store, self.journal, number, WORKERS, ITEMS)
        self.tasks = tasks(number, WORKERS, ITEMS)
        self.start()

    def start(self) -> None:
        self._acknowledged_before = len(self.acknowledged)
        self.pipe, other = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=convergence.main, args=(*self._arguments, other), daemon=True)
        self.process.start()
        other.close()

    @property
    def acknowledged(self) -> list[int]:
        return [int(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    @property
    def in_mid_work(self) -> bool:
        return self._acknowledged_before < len(self.acknowledged) < len(self.tasks)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()


@contextmanager
def crew(store: str, folder: Path) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        workers = []
        for number in range(WORKERS):
            workers.append(Worker(store, folder, number))
            stack.callback(workers[-1].kill)
        yield workers


def kill_some(workers: list[Worker]) -> int:
    """Kill workers in mid-work and start them again, until it was often enough or all work is done."""
    choose, killed = random.Random(7), 0
    while killed < KILLS and any(len(worker.acknowledged) < len(worker.tasks) for worker in workers):
        assert all(worker.process.is_alive() for worker in workers), "a worker ended by itself"
        time.sleep(choose.uniform(0.0, 0.1))
        working = [worker for worker in workers if worker.in_mid_work]
        if working:
            victim = choose.choice(working)
            victim.kill()
            victim.start()
            killed += 1
    return killed


def sums(observed: list[tuple[Vector, float]]) -> list[float]:
    dimension = len(observed[0][0])
    contexts = np.array([context for context, _ in observed]).reshape(-1, dimension)
    added = HeadStatistics.of(contexts, np.array([target for _, target in observed]))
    return [added.count, added.square, *added.moment, *added.gram.ravel()]


def added_up(router: Router) -> dict[str, list[float]]:
    """Return what must have been learned, apart from the code that follows the log."""
    store, features = router._store, router._learner.features
    observed = defaultdict[str, list[tuple[Vector, float]]](list)
    for item in range(WORKERS * ITEMS):
        (decision_id,) = store.linked(f"item-{item}")
        embedding = encoded(text(item)).astype(np.float16).astype(np.float64)
        label = float(np.mean([reward(item, key) for key in KEYS]))
        observed[f"quality {store.decision(decision_id).decision.candidate}"].append((features(embedding), label))
    for row in store.outcomes_after(0, 1_000_000):
        context, tokens = features(row.embedding.astype(np.float64)), row.outcome.response_tokens or 0
        observed[f"length {row.outcome.candidate}"].append((context, math.log(tokens)))
    return {name: sums(rows) for name, rows in observed.items()}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_workers_that_are_killed_converge_and_lose_nothing(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = place(kind, request)
    assert store
    with crew(store, tmp_path) as workers:
        killed = kill_some(workers)
        assert [worker.pipe.recv() for worker in workers] == ["done"] * WORKERS
        for worker in workers:
            worker.pipe.send("go on")
        survivors = [worker.pipe.recv() for worker in workers]
        judged = sum(task.what != "decide" for worker in workers for task in worker.tasks)
        assert all(sorted(worker.acknowledged) == list(range(len(worker.tasks))) for worker in workers)
    with open_router(store) as fresh:
        stats = fresh.stats()
        assert (stats["feedback_applied"], stats["feedback_pending"], stats["alerts"]) == (judged, 0, [])
        assert WORKERS * ITEMS <= stats["decisions"] <= WORKERS * ITEMS + killed
        known = statistics(fresh)
        expected = added_up(fresh) | {"predicted": known["predicted"]}
    for other in (*survivors, expected):
        assert other.keys() == known.keys()
        for name, values in known.items():
            np.testing.assert_allclose(other[name], values, rtol=0.0, atol=1e-9, err_msg=name)
