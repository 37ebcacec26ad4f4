"""What is old leaves the store; what it taught stays, for all workers."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixllm_engine import Outcome, Router, UnknownDecisionError
from mixllm_engine.config import FeatureConfig, LearningConfig, RouterConfig, StorageConfig
from mixllm_engine.retention import Retention
from mixllm_engine.testing import FakeClock, HashingEncoder, tiny_pool, tiny_router
from tests.engine.convergence import statistics
from tests.engine.stores import place

KINDS = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
DAY = 86_400.0
TABLE: dict[str, list[Any]] = {
    "prompt": [f"question {n % 7} about thing {n % 5}" for n in range(60)],
    "cheap|quality": [float(n % 7 < 3) for n in range(60)],
    "dear|quality": [float(n % 5 < 4) for n in range(60)],
    "cheap|cost_usd": [0.001] * 60,
    "dear|cost_usd": [0.02] * 60,
    "cheap|response_tokens": [50 + n for n in range(60)],
    "dear|response_tokens": [90 + n for n in range(60)],
}


def config(**storage: Any) -> RouterConfig:
    return RouterConfig(
        features=FeatureConfig(domains="none", components=8),
        learning=LearningConfig(drift_threshold=None),
        storage=StorageConfig(**storage),
        sync_interval_s=1000.0,
    )


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def teach(router: Router, clock: FakeClock, first: int, count: int) -> list[str]:
    """Decide, answer and judge once a minute; some judge twice, some answers fail, some candidates are asked for."""
    ids = []
    for number in range(first, first + count):
        clock.advance(60.0)
        force = ("cheap", "dear", None)[number % 3]
        decision = router.decide(f"question {number % 7} about thing {number % 11}", force=force)
        if number % 10 == 9:
            router.observe(decision.decision_id, Outcome(candidate=decision.candidate, error="bad_request"))
        else:
            tokens = 20 + number % 50
            router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=tokens))
        router.link(decision.decision_id, f"run-{number}")
        router.feedback(decision.decision_id, (number % 5) / 4, weight=0.5)
        if number % 4 == 0:
            router.feedback(decision.decision_id, 1.0, key="judge")
        if number % 6 == 0:
            router.feedback(decision.decision_id, 0.0)
        ids.append(decision.decision_id)
    return ids


def assert_same(one: Router, other: Router) -> None:
    first, second = statistics(one), statistics(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=0.0, atol=1e-9, err_msg=name)


def counted(router: Router) -> dict[str, Any]:
    stats = router.stats()
    counts: dict[str, Any] = {
        name: stats[name] for name in ("decisions", "outcomes", "feedback_applied", "feedback_pending")
    }
    for name, values in stats["candidates"].items():
        counts[name] = {key: values[key] for key in ("decisions", "exploring_draws", "labels", "mean_reward")}
    return counts


@KINDS
def test_old_rows_go_and_what_they_taught_stays(kind: str, request: pytest.FixtureRequest, opened: ExitStack) -> None:
    store, clock = place(kind, request), FakeClock()
    one = opened.enter_context(tiny_router(store=store, clock=clock, config=config(keep_s=0.5 * DAY)))
    two = opened.enter_context(tiny_router(store=store, clock=clock, config=config(), seed=1))
    old = teach(one, clock, 0, 40)
    clock.advance(DAY)
    young = teach(two, clock, 40, 10)
    one.sync()
    two.sync()
    before, numbers = counted(one), statistics(one)
    assert one.prune() == 40
    assert one.prune() == 0
    for name, values in statistics(one).items():
        assert values == numbers[name]
    fresh = opened.enter_context(tiny_router(store=store, clock=clock, config=config()))
    for other in (two, fresh):
        assert_same(other, one)
    assert counted(one) == before
    assert counted(two)["cheap"] == pytest.approx(before["cheap"])
    with pytest.raises(UnknownDecisionError):
        one.feedback(old[0], 1.0)
    with pytest.raises(UnknownDecisionError):
        one.feedback("run-3", 1.0)
    assert two.feedback(young[3], 0.75).status == "replaced"
    teach(two, clock, 50, 10)
    assert_same(one, two)
    assert_same(fresh, two)


@KINDS
def test_a_fit_after_rows_were_dropped_counts_them(
    kind: str, request: pytest.FixtureRequest, opened: ExitStack, tmp_path: Path
) -> None:
    routers = []
    for store, keep_s in ((place(kind, request), 0.5 * DAY), (tmp_path / "all.db", None)):
        clock = FakeClock()
        router = opened.enter_context(tiny_router(store=store, clock=clock, config=config(keep_s=keep_s)))
        router.fit(TABLE, progress=False)
        teach(router, clock, 0, 30)
        clock.advance(DAY)
        teach(router, clock, 30, 10)
        router.sync()
        assert router.prune() == (30 if keep_s else 0)
        assert router.prune() == 0
        router.fit({name: column[:40] for name, column in TABLE.items()}, progress=False)
        routers.append(router)
    assert_same(routers[0], routers[1])
    again = opened.enter_context(tiny_router(store=routers[0]._store, config=config()))
    assert_same(again, routers[1])


def test_dropping_in_steps_is_the_same_as_at_once(opened: ExitStack, tmp_path: Path) -> None:
    routers = []
    for name, steps in (("one", 1), ("many", 5)):
        clock = FakeClock()
        router = opened.enter_context(
            tiny_router(store=tmp_path / f"{name}.db", clock=clock, config=config(keep_decisions=5))
        )
        dropped = 0
        for step in range(steps):
            teach(router, clock, step * (50 // steps), 50 // steps)
            if steps > 1:
                dropped += router.prune()
        assert dropped + router.prune() == 45
        router.fit(TABLE, progress=False)
        routers.append(router)
    assert_same(routers[0], routers[1])
    for name in ("one", "many"):
        assert len(rows(tmp_path / f"{name}.db", "SELECT 1 FROM mixllm_decisions")) == 5
        for part in ("outcomes", "feedback", "links"):
            owners = rows(tmp_path / f"{name}.db", f"SELECT DISTINCT decision_id FROM mixllm_{part}")
            assert 0 < len(owners) <= 5


def test_rows_that_another_encoder_needs_are_kept(opened: ExitStack, tmp_path: Path) -> None:
    clock = FakeClock()
    large = opened.enter_context(
        tiny_router(store=tmp_path / "log.db", clock=clock, encoder=HashingEncoder(32), config=config())
    )
    small = opened.enter_context(
        tiny_router(store=tmp_path / "log.db", clock=clock, config=config(keep_decisions=1, keep_s=1.0))
    )
    theirs = teach(large, clock, 0, 10)
    teach(small, clock, 10, 10)
    clock.advance(DAY)
    assert small.prune() == 9  # and the one that was judged last when there is another one
    assert small.stats()["feedback_pending"] == large.stats()["feedback_applied"] > 0
    assert large.feedback(theirs[0], 0.5).status == "replaced"
    later = opened.enter_context(tiny_router(store=tmp_path / "log.db", encoder=HashingEncoder(32), config=config()))
    assert_same(later, large)


def test_nothing_goes_that_is_not_folded_in(opened: ExitStack, tmp_path: Path) -> None:
    clock = FakeClock()
    one = opened.enter_context(tiny_router(store=tmp_path / "log.db", clock=clock, config=config(keep_s=1.0)))
    two = opened.enter_context(tiny_router(store=tmp_path / "log.db", clock=clock, config=config()))
    one.sync()
    teach(two, clock, 0, 10)
    clock.advance(DAY)
    assert one._retention.prune(one._follower) == 0  # it has not read them yet
    assert one.prune() == 9
    teach(two, clock, 10, 5)
    assert two.fit(TABLE, progress=False)
    clock.advance(DAY)
    assert one._retention.prune(one._follower) == 0  # what the log begins with is not what it knows
    assert one.prune() == 5
    assert_same(one, two)


def test_dropping_while_others_write_loses_nothing(opened: ExitStack, tmp_path: Path) -> None:
    store = tmp_path / "log.db"
    routers = [
        opened.enter_context(tiny_router(store=store, config=config(keep_decisions=20), seed=seed)) for seed in range(4)
    ]
    judged = [0] * len(routers)

    def work(number: int) -> None:
        for step in range(40):
            decision = routers[number].decide(f"question {step} {number}")
            try:
                routers[number].feedback(decision.decision_id, float(step % 2))
                judged[number] += 1
            except UnknownDecisionError:
                pass  # it was dropped already
            if step % 10 == number:
                routers[number].prune()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(routers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for router in routers:
        router.prune()
        assert_same(router, routers[0])
    stats = routers[0].stats()
    assert stats["decisions"] == 160
    assert stats["feedback_applied"] == sum(judged)
    assert sum(values["labels"] for values in stats["candidates"].values()) == pytest.approx(sum(judged))
    assert sum(values["decisions"] for values in stats["candidates"].values()) == 160


def test_it_happens_by_itself(opened: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixllm_engine.retention._EVERY_S", 0.05)
    settings = config(keep_decisions=3).model_copy(update={"sync_interval_s": 0.02})
    router = opened.enter_context(tiny_router(store=tmp_path / "log.db", config=settings))
    teach(router, FakeClock(), 0, 10)
    until = time.monotonic() + 20.0
    while len(rows(tmp_path / "log.db", "SELECT 1 FROM mixllm_decisions")) > 3:
        assert time.monotonic() < until, "nothing was dropped"
        time.sleep(0.02)
    assert router.stats()["decisions"] == 10


def test_a_clock_that_was_set_drops_nothing_at_once(opened: ExitStack, tmp_path: Path) -> None:
    clock, steady = FakeClock(), FakeClock(0.0)
    router = opened.enter_context(tiny_router(store=tmp_path / "log.db", clock=clock, config=config(keep_s=DAY)))
    teach(router, clock, 0, 10)
    router.sync()
    retention = Retention(router._store, router.config.storage, clock, steady)

    def look_after(seconds: float, jump_s: float = 0.0) -> int:
        steady.advance(seconds)
        clock.advance(seconds + jump_s)
        retention.look(router._follower)
        return len(rows(tmp_path / "log.db", "SELECT 1 FROM mixllm_decisions"))

    assert look_after(301.0, jump_s=365 * DAY) == 10
    assert look_after(301.0, jump_s=-365 * DAY) == 10
    assert look_after(301.0) == 10
    assert look_after(2 * DAY) == 1  # the one that was judged last


def rows(path: Path, query: str) -> list[Any]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


@KINDS
def test_numbers_of_rows_are_not_given_twice(kind: str, request: pytest.FixtureRequest, opened: ExitStack) -> None:
    store, clock = place(kind, request), FakeClock()
    one, two = (
        opened.enter_context(tiny_router(store=store, clock=clock, config=config(keep_s=1.0), seed=seed))
        for seed in range(2)
    )
    for step in range(4):
        teach(one, clock, step, 1)
        clock.advance(DAY)
        one.prune()
        teach(two, clock, 100 + step, 1)
    one.sync()
    assert sum(values["labels"] for values in one.stats()["candidates"].values()) == pytest.approx(8.0)
    assert_same(one, two)


# -- the texts of prompts --------------------------------------------------------------------------------------------


def test_prompts_are_kept_on_request_only_and_for_so_long(opened: ExitStack, tmp_path: Path) -> None:
    clock = FakeClock()
    quiet, asked = (
        opened.enter_context(tiny_router(store=tmp_path / name, clock=clock, config=config(keep_prompts_s=keep_s)))
        for name, keep_s in (("quiet.db", None), ("asked.db", DAY))
    )
    ids = [router.decide("my confidential question").decision_id for router in (quiet, asked)]
    assert quiet.explain(ids[0]).record.prompt is None
    assert asked.explain(ids[1]).record.prompt == "my confidential question"
    assert b"confidential" not in (tmp_path / "quiet.db-wal").read_bytes() + (tmp_path / "quiet.db").read_bytes()
    assert "confidential" not in repr(asked) + str(asked.stats())
    clock.advance(0.5 * DAY)
    later = asked.decide("a later question").decision_id
    clock.advance(0.6 * DAY)
    assert asked.prune() == 0
    assert asked.explain(ids[1]).record.prompt is None
    assert asked.explain(later).record.prompt == "a later question"


@KINDS
@pytest.mark.parametrize("sign", ["\0", "\ud800"])
def test_a_prompt_that_no_database_keeps_as_it_is_fails_no_decision(
    sign: str, kind: str, request: pytest.FixtureRequest, opened: ExitStack
) -> None:
    router = opened.enter_context(tiny_router(store=place(kind, request), config=config(keep_prompts_s=DAY)))
    decision = router.decide(f"cut{sign} off")
    assert router.explain(decision.decision_id).record.prompt == "cut? off"


# -- tables ----------------------------------------------------------------------------------------------------------


@KINDS
def test_what_one_worker_learns_from_a_table_all_know(
    kind: str, request: pytest.FixtureRequest, opened: ExitStack
) -> None:
    store, clock = place(kind, request), FakeClock()
    one, two = (
        opened.enter_context(tiny_router(store=store, clock=clock, config=config(), seed=seed)) for seed in range(2)
    )
    teach(two, clock, 0, 20)
    version = two._learner.version
    one.fit(TABLE, progress=False)
    assert two.decide("question")
    two.sync()
    assert_same(one, two)
    assert two._learner.version != version
    two.add_candidate(tiny_pool(names=("cheap", "dear", "new"))[2], labelled={"prompt": ["a", "b"], "quality": [1, 0]})
    one.sync()
    assert one._learner.learned().onboarded.keys() == {"new"}
    teach(one, clock, 20, 5)
    two.sync()
    for name, values in statistics(one).items():
        if name != "predicted":
            np.testing.assert_allclose(values, statistics(two)[name], rtol=0.0, atol=1e-9)
