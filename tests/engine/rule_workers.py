"""The workers of `test_rule_machine`: opened, loaded, ended, and compared with what the model says they must know."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis.stateful import RuleBasedStateMachine

from mixllm_engine import Router
from mixllm_engine.config import FeatureConfig, LearningConfig, RouterConfig
from mixllm_engine.prediction.heads import HeadBank, HeadStatistics
from mixllm_engine.store.base import Store
from mixllm_engine.testing import FakeClock, HashingEncoder, tiny_pool
from tests.engine.rule_model import Log, Table, length, quality

# Nothing happens in the background: what a worker knows is what it was told to look up.
CONFIG = RouterConfig(
    features=FeatureConfig(domains="none", components=8),
    learning=LearningConfig(drift_threshold=None),
    sync_interval_s=3600.0,
)
EVERYBODY = {candidate.name: candidate for candidate in tiny_pool(names=("cheap", "dear", "middle", "new"))}


@dataclass(kw_only=True)
class Worker:
    """A router with the table and the state that it began with, and whom its conversations are with."""

    router: Router
    table: Table
    state: int
    sessions: dict[str, str] = field(default_factory=dict)  # candidate by session ...
    latest: dict[str, str] = field(default_factory=dict)  # ... and session by its latest decision

    @property
    def names(self) -> set[str]:
        return {candidate.name for candidate in self.router.candidates}


class Workers(RuleBasedStateMachine):
    """Workers that share a log, and the model beside them; what happens to them is a subclass's."""

    place: Path | Store  # where the log is, from the first step on

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mixllm-rules-"))
        self.clock = FakeClock()
        self.serial = 0
        self.log = Log()
        self.workers: list[Worker] = []
        self.left: list[Router] = []  # crashed ones; they live on until the end, so that nothing tidies up after them
        self.saved: dict[Path, tuple[Table, set[str]]] = {}

    def new_place(self) -> Path | Store:
        return self.new_path("log", ".db")

    def new_path(self, kind: str, suffix: str = "") -> Path:
        self.serial += 1
        return self.folder / f"{kind}-{self.serial}{suffix}"

    def opened(self, pool: set[str]) -> Worker:
        self.serial += 1
        router = Router(
            [EVERYBODY[name] for name in sorted(pool)],
            config=CONFIG,
            store=self.place,
            encoder=HashingEncoder(),
            seed=self.serial,
            clock=self.clock,
        )
        return self.begun(router, self.log.table)

    def begun(self, router: Router, table: Table) -> Worker:
        router._follower.look(self.clock())  # as its first decision would
        return Worker(router=router, table=table, state=self.log.states)

    def sync(self, worker: Worker) -> None:
        worker.router.sync()
        self.synced(worker)

    def synced(self, worker: Worker) -> None:
        if worker.state != self.log.states:
            worker.table, worker.state = self.log.table, self.log.states

    def loaded(self, folder: Path) -> Worker:
        table, known = self.saved[folder]
        self.serial += 1
        router = Router.load(folder, store=self.place, encoder=HashingEncoder(), seed=self.serial, clock=self.clock)
        worker = self.begun(router, table)
        assert worker.names == known
        return worker

    def end(self, number: int, crashed: bool) -> None:
        if crashed:
            self.left.append(self.workers[number].router)
        else:
            self.workers[number].router.close()

    def check(self, worker: Worker) -> None:
        self.sync(worker)
        stats = worker.router.stats()
        known = quality(self.log, worker.table, CONFIG.learning.table_trust, worker.router._learner.features)
        sums = learned(worker.router)
        assert_same(sums[0], known)
        assert_same(sums[1], length(self.log, worker.table, worker.router._learner.features))
        assert {name: stats[name] for name in ("decisions", "outcomes", "feedback_applied", "feedback_pending")} == {
            "decisions": len(self.log.decided),
            "outcomes": self.log.counts["outcomes"],
            "feedback_applied": self.log.counts["applied"],
            "feedback_pending": 0,
        }
        assert stats["feedback_duplicate"] == self.log.counts["duplicate"]
        assert stats["feedback_unmatched"] == self.log.counts["unmatched"]
        assert (stats["writes_waiting"], stats["writes_lost"], stats["alerts"]) == (0, 0, [])
        chosen = self.log.chosen()
        for name, values in stats["candidates"].items():
            assert values["decisions"] == chosen[name]
            assert values["labels"] == (known[name].count if name in known else 0.0)
            mean = known[name].moment[0] / known[name].gram[0, 0] if name in known else None
            assert values["mean_reward"] == pytest.approx(mean, abs=1e-9)
        for bank in banks(worker.router):
            for precision, inverse in zip(bank.precision, bank.inverse, strict=True):
                np.testing.assert_allclose(precision @ inverse, np.eye(bank.dimension), rtol=0.0, atol=1e-9)


def banks(router: Router) -> tuple[HeadBank, HeadBank]:
    return router._learner.predictor.quality, router._learner.predictor.length


def learned(router: Router) -> tuple[dict[str, HeadStatistics], dict[str, HeadStatistics]]:
    """Return the sums of all candidates, also of those that are not in the pool."""
    known = router._learner.learned()
    return dict(known.quality), dict(known.length)


def assert_same(one: dict[str, HeadStatistics], other: dict[str, HeadStatistics]) -> None:
    """Compare sums of candidates; who is not there has learned nothing."""
    for name in one.keys() | other.keys():
        mine, theirs = (flat(sums[name]) if name in sums else 0.0 for sums in (one, other))
        np.testing.assert_allclose(mine, theirs, rtol=0.0, atol=1e-9, err_msg=name)


def flat(sums: HeadStatistics) -> Any:
    return np.array([sums.count, sums.square, *sums.moment, *sums.gram.ravel()])
