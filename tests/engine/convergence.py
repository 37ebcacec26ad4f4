"""A worker of the convergence test. It journals what was acknowledged, and goes on from there when it was killed."""

from __future__ import annotations

import os
import random
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from mixllm_engine import Outcome, Router
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.testing import tiny_router

KEYS = ("user", "judge")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Decide about an item, or judge the answer to it; whoever does that may come before whoever decides."""

    number: int
    what: Literal["decide", "user", "judge"]
    item: int


def text(item: int) -> str:
    return f"question {item % 7} about thing {item % 11} and number {item}"


def reward(item: int, key: str) -> float:
    return random.Random(f"{item} {key}").random()


def tasks(worker: int, workers: int, items: int) -> list[Task]:
    """Return what a worker does, in its order: it decides about its own items, and judges its neighbour's too."""
    own = range(worker * items, (worker + 1) * items)
    neighbours = range((worker + 1) % workers * items, ((worker + 1) % workers + 1) * items)
    todo = [("decide", item) for item in own] + [("user", item) for item in own] + [("judge", i) for i in neighbours]
    made = [Task(number=number, what=what, item=item) for number, (what, item) in enumerate(todo)]  # type: ignore[arg-type]
    random.Random(worker).shuffle(made)
    return made


def open_router(store: str | None, seed: int = 0) -> Router:
    return tiny_router(
        store=store, seed=seed, config=RouterConfig(features=FeatureConfig(domains="none", components=8))
    )


def carry_out(router: Router, task: Task) -> bool:
    """Return whether the task is done; it is too early to judge what nobody has decided."""
    name = f"item-{task.item}"
    decided = bool(router._store.linked(name))
    if task.what != "decide":
        for _ in range(1 + task.item % 2):  # half of all clients say everything twice
            if decided:
                router.feedback(name, reward(task.item, task.what), task.what)
        return decided
    if not decided:  # else this worker was killed before it could journal it
        decision = router.decide(text(task.item))
        router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=5 + task.item % 90))
        router.link(decision.decision_id, name)
    return True


def statistics(router: Router) -> dict[str, list[float]]:
    """Return all learned sums, and what is predicted from them."""
    router.sync()
    learned = router._learner.learned()
    flat = {
        f"{head} {name}": [sums.count, sums.square, *sums.moment, *sums.gram.ravel()]
        for head, bank in (("quality", learned.quality), ("length", learned.length))
        for name, sums in bank.items()
    }
    return flat | {"predicted": [float(value) for value in router.predict([text(3), text(8)]).quality.ravel()]}


def main(store: str, journal_path: Path, worker: int, workers: int, items: int, parent: Connection) -> None:
    journal = os.open(journal_path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    with open(journal) as acknowledged, open_router(store, seed=worker) as router:
        done = {int(line) for line in acknowledged}
        pending = deque(task for task in tasks(worker, workers, items) if task.number not in done)
        while pending:
            task = pending.popleft()
            if carry_out(router, task):
                os.write(journal, f"{task.number}\n".encode())
            else:
                pending.append(task)
                time.sleep(0.001)
        parent.send("done")
        parent.recv()  # now everybody is
        parent.send(statistics(router))
