"""While the database can't be used, routing goes on; afterwards nothing is missing or twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import sqlalchemy as sa

from mixllm_engine import Outcome, StoreUnavailableError, UnknownDecisionError
from mixllm_engine.store import engines
from mixllm_engine.store.transfer import export_log
from tests.engine import postgres
from tests.engine.store_faults.faults import SECRET, Fault, Full, Locked, Moved, ReadOnly, Stopped
from tests.engine.stores import ROOT, ask, labels, router_on, until


@pytest.fixture(params=[Stopped, Locked, Moved, ReadOnly, Full])
def fault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fault]:
    monkeypatch.setattr(engines, "BUSY_S", 0.3)
    if request.param is not Stopped:
        yield request.param(f"sqlite:///{tmp_path / 'log.db'}")
        return
    server: postgres.Server = request.getfixturevalue("server")
    with postgres.empty_schema(server.url) as url:
        stopped = Stopped(sa.make_url(url).set(password=SECRET).render_as_string(hide_password=False))
        stopped.server = server
        yield stopped


@pytest.mark.parametrize("feedback", ["raises", "queues"])
def test_routing_goes_on_and_what_waited_is_kept_and_learned_by_every_worker(
    feedback: Literal["raises", "queues"], fault: Fault, tmp_path: Path
) -> None:
    with router_on(fault.url, feedback) as router, router_on(fault.url) as other:
        before = ask(router)
        other.decide("question")  # from now on it follows the log
        fault.begin(router)
        started = time.monotonic()
        decisions = [ask(router, number) for number in range(1, 11)]
        # One write and one reading are waited for, for 0.2 s each; were all of them, that would be 6 s.
        assert time.monotonic() - started < 3.0
        said = []
        if feedback == "queues":
            receipt = router.feedback(before, 1.0)
            assert (receipt.status, receipt.candidate, receipt.reward) == ("queued", None, 1.0)
        else:
            with pytest.raises(StoreUnavailableError, match="the store .* can't be used") as caught:
                router.feedback(before, 1.0, key="very-private")
            said.append(caught.value)
        with pytest.raises(StoreUnavailableError) as caught:
            router.explain(decisions[-1].decision_id)
        said.append(caught.value)
        if fault.reads_fail:
            for reading in (router.stats, router.sync, lambda: export_log(router._store, tmp_path / "log.jsonl")):
                with pytest.raises(StoreUnavailableError, match="the store .* can't be used") as caught:
                    reading()
                said.append(caught.value)
        else:
            assert router.stats()["writes_waiting"] > 10  # a file that can't grow has room for a few
        assert not any(word in str(error) for error in said for word in (SECRET, "very-private", "question"))
        fault.end()
        until(lambda: router._store.unwritten == 0)
        if feedback == "queues":
            until(lambda: labels(router) == 1.0)
            assert router.feedback(before, 1.0).status == "duplicate"
        else:
            assert router.feedback(before, 1.0).status == "applied"
        for decision in decisions:
            assert router.feedback(decision, 0.5).status == "applied"
        until(lambda: labels(other) == 11.0)
        for worker in (router, other):
            stats = worker.stats()
            assert {name: stats[name] for name in ("decisions", "outcomes", "writes_waiting", "writes_lost")} == {
                "decisions": 12,
                "outcomes": 11,
                "writes_waiting": 0,
                "writes_lost": 0,
            }
            assert (stats["feedback_applied"], stats["feedback_duplicate"]) == (11, int(feedback == "queues"))
            assert sum(values["labels"] for values in stats["candidates"].values()) == 11.0
        assert [outcome.response_tokens for outcome in router.explain(decisions[-1].decision_id).outcomes] == [20]


def test_nothing_is_acknowledged_that_goes_into_a_file_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with router_on(f"sqlite:///{path}") as router:
        decision = ask(router)
        for name in ("log.db", "log.db-wal", "log.db-shm"):
            (tmp_path / name).unlink()
        with pytest.raises(StoreUnavailableError, match="is gone"):
            router.feedback(decision, 1.0)
        assert not path.exists()
        with router_on(f"sqlite:///{path}") as newer:
            with pytest.raises(StoreUnavailableError, match="was replaced while it was open"):
                router.feedback(decision, 1.0)
            assert ask(router)
            assert newer.feedback(ask(newer), 1.0).status == "applied"


def test_what_finds_no_room_is_counted_and_no_answer_fails_for_it(fault: Fault) -> None:
    with router_on(fault.url, queue=4) as router:
        router.decide("question")
        fault.begin(router)
        decisions = [router.decide(f"question {number}") for number in range(30)]
        fault.end()
        until(lambda: router._store.unwritten == 0)
        for decision in decisions:  # their answers come when the database is back
            router.observe(decision.decision_id, Outcome(candidate=decision.candidate))
        stats = router.stats()
        lost = 31 - stats["decisions"]
        assert (stats["outcomes"], stats["writes_lost"]) == (30 - lost, 2 * lost)
        assert 15 <= lost <= 26
        with pytest.raises(UnknownDecisionError):
            router.feedback(decisions[-1], 1.0)
        with pytest.raises(UnknownDecisionError):
            router.observe("0" * 32, Outcome(candidate=decisions[0].candidate))


FULL = """
import resource, sys, time
from pathlib import Path
from mixllm_engine.store import journal
from tests.engine.stores import ask, router_on, until
journal._PATIENCE_S = journal._RETRY_S = 0.05
folder = Path(sys.argv[1])
with router_on(f"sqlite:///{folder / 'log.db'}") as router:
    ask(router)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(path.stat().st_size for path in folder.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 20_000, most[1]))
    made = 1
    while router._store.unwritten < 10:
        ask(router, made)
        made += 1
        assert made < 500
    resource.setrlimit(resource.RLIMIT_FSIZE, most)
    until(lambda: router._store.unwritten == 0)
    stats = router.stats()
    print(made, stats["decisions"], stats["outcomes"], stats["writes_lost"])
"""


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    made, decisions, outcomes, lost = map(int, done.stdout.split())
    assert (decisions, outcomes, lost) == (made, made, 0)
