"""Workers tell each other what is under way, who is paused, and how budgets stand."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from mixllm_engine import Outcome, Router, StoreError
from mixllm_engine.config import RouterConfig, WaitingConfig
from mixllm_engine.store.base import WorkerRow
from mixllm_engine.testing import FakeClock, tiny_router
from mixllm_engine.workers import Standing
from tests.engine.stores import ROOT, SMALL, place

STORES = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
FAST = SMALL.model_copy(update={"waiting": WaitingConfig(concurrency=2, cooldown_s=30.0)})


def crew(store: Path | str | None, workers: int = 2, config: RouterConfig = FAST) -> list[Router]:
    """Return workers that tell each other only when `sync` is called."""
    quiet = config.model_copy(update={"sync_interval_s": 1000.0})
    return [tiny_router(store=store, config=quiet, clock=FakeClock(), seed=seed) for seed in range(workers)]


def waiting_s(router: Router, candidate: str) -> float:
    return router.decide("question").scores[candidate].waiting_s


@STORES
def test_calls_of_other_workers_are_waited_for(kind: str, request: pytest.FixtureRequest) -> None:
    one, two = crew(place(kind, request))
    decision = one.decide("question")
    for _ in range(6):
        one.dispatched(decision.decision_id, "cheap")
    assert waiting_s(one, "cheap") > 0 == waiting_s(two, "cheap")
    one.sync()
    two.sync()
    assert waiting_s(two, "cheap") == waiting_s(one, "cheap")
    assert two.stats()["candidates"]["cheap"]["in_flight"] == 0  # they are not its own
    for _ in range(6):
        one.abandoned(decision.decision_id, "cheap")
    one.sync()
    two.sync()
    assert waiting_s(two, "cheap") == 0.0
    one.close()
    two.close()


@STORES
def test_a_failing_provider_is_left_alone_by_all(kind: str, request: pytest.FixtureRequest) -> None:
    one, two = crew(place(kind, request))
    two.decide("question")
    decision = one.decide("question", force="cheap")
    one.observe(decision.decision_id, Outcome(candidate="cheap", error="rate_limit"))
    one.sync()
    assert two.decide("question").scores["cheap"].eligible
    two.sync()
    score = two.decide("question").scores["cheap"]
    assert not score.eligible
    assert "rate_limit" in str(score.reason)
    two._clock.advance(31.0)  # type: ignore[attr-defined]
    assert two.decide("question").scores["cheap"].eligible
    one.close()
    two.close()


def test_a_key_that_one_worker_lacks_is_its_own_affair(tmp_path: Path) -> None:
    one, two = crew(tmp_path / "log.db")
    decision = one.decide("question", force="cheap")
    one.observe(decision.decision_id, Outcome(candidate="cheap", error="auth"))
    one.sync()
    two.sync()
    assert not one.decide("question").scores["cheap"].eligible
    assert two.decide("question").scores["cheap"].eligible


def test_a_worker_that_is_gone_has_no_calls(tmp_path: Path) -> None:
    one, two = crew(tmp_path / "log.db")
    seconds = FakeClock(0.0)
    two._workers._steady = seconds
    two._workers._gone_s = 10.0
    decision = one.decide("question")
    for _ in range(6):
        one.dispatched(decision.decision_id, "cheap")
    one.sync()
    two.sync()
    seconds.advance(9.0)
    two.sync()
    assert waiting_s(two, "cheap") > 0.0
    seconds.advance(2.0)  # nothing was heard of it, whatever its clock says
    two.sync()
    assert waiting_s(two, "cheap") == 0.0
    one.sync()
    two.sync()
    assert waiting_s(two, "cheap") > 0.0  # it was only slow


def test_rows_of_workers_that_are_gone_do_not_pile_up(tmp_path: Path) -> None:
    *gone, last = crew(tmp_path / "log.db", workers=5)
    for router in gone:
        router.decide("question", budget=0.001)
        router.sync()
    seconds = FakeClock(0.0)
    last._workers._steady = seconds
    last.sync()
    assert len(last._workers._others) == 4
    seconds.advance(601.0)
    last.sync()
    last.sync()
    assert len(last._workers._others) == 1


def spend(router: Router, queries: int, budget: float) -> float:
    """Return the mean cost of some queries under a budget."""
    costs = []
    for number in range(queries):
        decision = router.decide(f"question {number}", budget=budget)
        costs.append(decision.scores[decision.candidate].cost_usd)
    return math.fsum(costs) / queries


def test_a_worker_begins_with_the_lambda_that_the_others_have_found(tmp_path: Path) -> None:
    one, two = crew(tmp_path / "log.db")
    both = one.decide("question").scores
    budget = both["cheap"].cost_usd * 1.05  # hardly more than always the cheap one
    spend(one, 400, budget)
    found = one.decide("question", budget=budget).willingness_to_pay
    assert two.decide("question", budget=budget).willingness_to_pay > 1.5 * found
    one.sync()
    two.sync()
    later = tiny_router(store=tmp_path / "log.db", config=FAST)
    later.sync()
    assert later.decide("question", budget=budget).willingness_to_pay == pytest.approx(found, rel=0.2)
    later.close()


def test_workers_agree_on_lambda(tmp_path: Path) -> None:
    routers = crew(tmp_path / "log.db", workers=3)
    budget = routers[0].decide("question").scores["cheap"].cost_usd * 1.5
    for _ in range(30):
        for number, router in enumerate(routers):
            spend(router, 5 * (1 + number), budget)
            router.sync()
    found = [router.decide("question", budget=budget).willingness_to_pay for router in routers]
    assert max(found) < 1.5 * min(found)


def test_exploring_draws_are_bounded_for_all_workers_together(tmp_path: Path) -> None:
    routers = crew(tmp_path / "log.db", workers=3)
    pulls = routers[0].config.exploration.pulls
    for number in range(300):
        for router in routers:
            router.decide(f"question {number}")
            router.sync()
    stats = routers[0].stats()["candidates"]
    assert all(0 < stats[name]["exploring_draws"] <= pulls for name in ("cheap", "dear"))


FORKED = """
import os, sys
from tests.engine.test_workers import crew
(router,) = crew(sys.argv[1], workers=1)
router.dispatched(router.decide("question").decision_id, "cheap")
router.sync()
name = router._workers._name
child = os.fork()
drawn = [router.decide(f"question {number}").explored for number in range(40)]
router.sync()
stats = router.stats()["candidates"]["cheap"]
draws = "".join("01"[explored] for explored in drawn)
line = f"{draws} {stats['in_flight']} {router._workers._name != name}\\n"
os.write(1, line.encode())  # in one piece, since both write to the same pipe
if child:
    assert os.waitpid(child, 0)[1] == 0
    router.close()
else:
    os._exit(0)
"""


def test_forked_workers_are_workers_of_their_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path / "log.db")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    one, two = (line.split() for line in done.stdout.splitlines())
    assert one[0] != two[0]  # they do not draw in step
    assert sorted([one[1:], two[1:]]) == [["0", "True"], ["1", "False"]]  # the call is the parent's


def test_a_budget_of_its_own_for_every_query_is_not_remembered() -> None:
    router = tiny_router()
    for number in range(300):
        router.decide("question", budget=0.001 + number * 1e-6)
    assert len(router._maker.budgets.paces) == 100


def test_a_damaged_row_is_an_error_and_holds_nobody_up(tmp_path: Path) -> None:
    one, two = crew(tmp_path / "log.db")
    one._store.exchange(WorkerRow(name="other", beat=1, time_s=0.0, data="{"))
    with pytest.raises(StoreError, match="a worker's row in the store is damaged"):
        two.sync()
    assert two.feedback(two.decide("question"), 1.0).status == "applied"
    assert two.stats()["feedback_applied"] == 1


@pytest.mark.parametrize("data", ["[]", "{}", '{"in_flight": {"a": null}, "pauses": {}, "paces": []}', "null"])
def test_what_is_no_standing_is_refused(data: str) -> None:
    with pytest.raises(StoreError, match="damaged"):
        Standing.decode(data)
