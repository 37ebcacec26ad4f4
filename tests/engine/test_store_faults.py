"""While the database is gone, full, read-only or slow, routing goes on; afterwards nothing is missing or twice."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from mixllm_engine import Outcome, Router, StoreError, StoreUnavailableError, UnknownDecisionError, following
from mixllm_engine.config import FeatureConfig, RouterConfig, StorageConfig
from mixllm_engine.store import engines, journal, open_store, transactions
from mixllm_engine.store.sql import SqlStore
from mixllm_engine.store.transfer import export_log
from mixllm_engine.testing import tiny_router
from mixllm_engine.types import Decision, Label
from tests.engine import postgres
from tests.engine.stores import place, record

ROOT = Path(__file__).parents[2]
SECRET = "sesame"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(journal, "_RETRY_S", 0.05)
    monkeypatch.setattr(following, "_PATIENCE_S", 0.2)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.own_server() as running:
        yield running


def router_on(store: str, feedback: Literal["raises", "queues"] = "raises", **storage: Any) -> Router:
    config = RouterConfig(
        features=FeatureConfig(domains="none"),
        storage=StorageConfig(feedback=feedback, **storage),
        sync_interval_s=0.05,
    )
    return tiny_router(store=store, config=config)


def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.01)


def ask(router: Router, number: int = 0) -> Decision:
    decision = router.decide(f"question {number}")
    router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=10 + number))
    return decision


def labels(router: Router) -> float:
    """Return how many labels a router has learned, without asking it to read."""
    with router._lock:
        return sum(count for count, _ in router._learner.labels())


# -- faults ------------------------------------------------------------------------------------------------------------


class Fault(ABC):
    """Something that makes a database unusable for a while."""

    reads_fail = False

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def begin(self, router: Router) -> None: ...

    @abstractmethod
    def end(self) -> None: ...


class Stopped(Fault):
    """The server is gone."""

    reads_fail = True
    server: postgres.Server

    def begin(self, router: Router) -> None:
        self.server.stop()

    def end(self) -> None:
        self.server.start()


class Locked(Fault):
    """Another program holds the file's lock for longer than SQLite waits."""

    def begin(self, router: Router) -> None:
        self._other = sqlite3.connect(sa.make_url(self.url).database or "", isolation_level=None)
        self._other.execute("BEGIN IMMEDIATE")

    def end(self) -> None:
        self._other.execute("ROLLBACK")
        self._other.close()


class Moved(Fault):
    """Somebody takes the file away, and puts it back."""

    reads_fail = True

    def begin(self, router: Router) -> None:
        self._file = Path(sa.make_url(self.url).database or "")
        self._file.rename(self._file.with_suffix(".away"))

    def end(self) -> None:
        self._file.with_suffix(".away").rename(self._file)


class Pragma(Fault):
    """SQLite refuses to write."""

    fault: str
    well: str

    def begin(self, router: Router) -> None:
        self._now = self.fault
        store = router._store
        assert isinstance(store, SqlStore)

        @event.listens_for(store._engine, "checkout")
        def refuse(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
            connection.execute(f"PRAGMA {self._now}")

    def end(self) -> None:
        self._now = self.well


class ReadOnly(Pragma):
    """The file can't be written to."""

    fault, well = "query_only = ON", "query_only = OFF"


class Full(Pragma):
    """The disk is full."""

    fault, well = "max_page_count = 1", "max_page_count = 1000000"  # no less than it has, so not one more


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


def test_a_database_that_is_gone_at_the_start_is_one_clear_error(server: postgres.Server, tmp_path: Path) -> None:
    with postgres.empty_schema(server.url) as url:
        secret = sa.make_url(url).set(password=SECRET).render_as_string(hide_password=False)
        server.stop()
        try:
            with pytest.raises(
                StoreUnavailableError, match=r"store 'postgresql\+psycopg://.*' can't be used"
            ) as caught:
                router_on(secret)
        finally:
            server.start()
        assert SECRET not in str(caught.value)
        with router_on(secret) as router:
            ask(router)
    with pytest.raises(StoreError, match="the store 'sqlite:.*' can't be used: unable to open database file"):
        router_on(f"sqlite:///{tmp_path / 'no such folder' / 'log.db'}")


def test_a_file_that_another_program_locks_at_the_start_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_S", 0.1)
    path = tmp_path / "log.db"
    open_store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="database is locked"):
            router_on(f"sqlite:///{path}")
    router_on(f"sqlite:///{path}").close()


def test_who_waits_for_another_writer_begins_right_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, looks = tmp_path / "log.db", 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert seconds <= 0.002  # not the tenth of a second that SQLite's own patience ends with
        if looks == 200:
            other.rollback()

    with (
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
        closing(SqlStore(f"sqlite:///{path}")) as store,
    ):
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(transactions, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
        store.forget_workers(["nobody"])
        assert looks == 200
        with store.writing() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000  # for all else


# -- servers -----------------------------------------------------------------------------------------------------------


def test_a_server_that_restarts_between_two_calls_is_not_noticed(server: postgres.Server) -> None:
    with postgres.empty_schema(server.url) as url, router_on(url) as router:
        for decide_first in (True, False):
            decision = ask(router)
            server.stop()
            server.start()
            if decide_first:
                ask(router)
            assert router.feedback(decision, 0.0).status == "applied"
        stats = router.stats()
        assert (stats["decisions"], stats["outcomes"], stats["writes_waiting"], stats["writes_lost"]) == (3, 3, 0, 0)


@pytest.fixture
def stuck(postgres_server: sa.URL, postgres_url: str) -> Iterator[sa.Connection]:
    """Hold locks in whose way every statement is, as a server that hangs does, until they are rolled back."""
    engine = sa.create_engine(postgres_url)
    open_store(postgres_url).close()
    with engine.connect() as connection:
        yield connection
    engine.dispose()


LOCK = "LOCK TABLE mixllm_decisions, mixllm_outcomes, mixllm_feedback_log IN ACCESS EXCLUSIVE MODE"


def test_a_database_that_hangs_holds_nobody_up(stuck: sa.Connection, postgres_url: str) -> None:
    with router_on(postgres_url) as router, ThreadPoolExecutor(2) as threads:
        ask(router)
        stuck.exec_driver_sql(LOCK)
        counted = threads.submit(router.stats)
        started = time.monotonic()
        decisions = [ask(router, number) for number in range(10)]
        assert time.monotonic() - started < 3.0
        judged = threads.submit(router.feedback, decisions[0], 1.0)
        time.sleep(0.1)
        assert not judged.done()  # it is durable when it returns
        assert not counted.done()
        stuck.rollback()
        assert judged.result(20.0).status == "applied"
        counted.result(20.0)
        stats = router.stats()
        assert (stats["decisions"], stats["outcomes"], stats["feedback_applied"]) == (11, 11, 1)


def test_a_statement_that_takes_too_long_is_tried_again(stuck: sa.Connection, postgres_url: str) -> None:
    url = sa.make_url(postgres_url)
    options = f"{url.query['options']} -cstatement_timeout=100"
    impatient = url.update_query_dict({"options": options}).render_as_string(hide_password=False)
    with router_on(impatient, "queues") as router:
        decision = ask(router)
        stuck.exec_driver_sql(LOCK)
        for number in range(5):
            ask(router, number)
        assert router.feedback(decision, 1.0).status == "queued"
        with pytest.raises(StoreUnavailableError, match="canceling statement due to statement timeout"):
            router.sync()
        stuck.rollback()
        until(lambda: labels(router) == 1.0)
        stats = router.stats()
        assert (stats["decisions"], stats["outcomes"], stats["feedback_applied"]) == (6, 6, 1)


HOLDING = """
import sys, time
from mixllm_engine.store import open_store
from mixllm_engine.store.appending import append
from mixllm_engine.store.entries import NewFeedback
from mixllm_engine.types import Label
with open_store(sys.argv[1]).writing() as connection:
    append(connection, [NewFeedback(decision_id="d", key="dead", label=Label(0.0, 1.0), time_s=0.0)])
    print("holding", flush=True)
    time.sleep(60.0)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_worker_that_is_killed_in_mid_write_leaves_no_lock_and_no_row(
    kind: str, request: pytest.FixtureRequest
) -> None:
    where = str(place(kind, request))
    with closing(open_store(where)) as store, ThreadPoolExecutor(1) as threads:
        store.add_decision(record("d"))
        victim = subprocess.Popen([sys.executable, "-c", HOLDING, where], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        assert victim.stdout.readline() == "holding\n"
        waiting = threads.submit(store.add_feedback, "d", "alive", Label(1.0, 1.0), 0.0)
        time.sleep(0.1)
        assert not waiting.done()
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        assert waiting.result(20.0).status == "applied"
        assert [row.after for row in store.feedback_after(0, 10)] == [Label(1.0, 1.0)]


# -- files -------------------------------------------------------------------------------------------------------------

FULL = """
import resource, sys, time
from pathlib import Path
from mixllm_engine.store import journal
from tests.engine.test_store_faults import ask, router_on, until
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


# -- forks -------------------------------------------------------------------------------------------------------------

FORKED = """
import os, signal, sys
import sqlalchemy as sa
from mixllm_engine.store import open_store
from tests.engine.stores import record
store = open_store(sys.argv[1])
store.add_decision(record("parent"))
up, down = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    store.add_decision(record("child"))
    os.write(up[1], b".")
    os.read(down[0], 1)
    store.add_decision(record("child later"))
    os.write(up[1], b".")
    signal.pause()
os.read(up[0], 1)
store.close()
os.write(down[1], b".")
os.read(up[0], 1)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print(open_store(sys.argv[1]).counts().decisions)
"""

FORKED_WHILE_WRITING = """
import os, sys, threading, time
import sqlalchemy as sa
from mixllm_engine.store import engines, open_store
from mixllm_engine.types import Label
from tests.engine.stores import record
engines.BUSY_S = 2.0
store = open_store(sys.argv[1])
store.add_decision(record("d"))
parent, inside = os.getpid(), threading.Event()
@sa.event.listens_for(store._engine, "commit")
def hold(_):
    if os.getpid() == parent:
        inside.set()
        time.sleep(0.3)
writer = threading.Thread(target=store.add_decision, args=[record("e")])
writer.start()
inside.wait()
child = os.fork()
if child == 0:
    store.add_feedback("d", "child", Label(1.0, 1.0), 0.0)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
writer.join()
print(store.counts().decisions + store.counts().feedback)
"""

FORKED_ROUTER = """
import os, sys
import sqlalchemy as sa
from tests.engine.test_store_faults import ask, labels, router_on, until
router = router_on(sys.argv[1])
decision = ask(router)
router.sync()
child = os.fork()
if child == 0:
    router.feedback(ask(router), 1.0)
    until(lambda: labels(router) == 1.0)
    router.sync()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
until(lambda: labels(router) == 1.0)
with router._store.writing() as connection:
    names = connection.execute(sa.text("SELECT count(*) FROM mixllm_workers")).scalar_one()
print(router.stats()["decisions"] + (names - 1))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    "program", [FORKED, FORKED_WHILE_WRITING, FORKED_ROUTER], ids=["at rest", "while writing", "router"]
)
def test_a_forked_worker_loses_nothing_and_is_not_locked_out(
    program: str, kind: str, request: pytest.FixtureRequest
) -> None:
    where = str(place(kind, request))
    done = subprocess.run([sys.executable, "-c", program, where], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3"]


# -- nobody closes -----------------------------------------------------------------------------------------------------


def test_a_router_that_nobody_closed_leaves_no_thread_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_IDLE_S", 0.05)
    before = set(threading.enumerate())
    config = RouterConfig(features=FeatureConfig(domains="none"), sync_interval_s=3600.0)
    router = tiny_router(store=tmp_path / "log.db", config=config)
    ask(router)
    names = sorted(thread.name for thread in set(threading.enumerate()) - before)
    assert "mixllm-follower" in names
    alive = weakref.ref(router)
    del router

    def gone() -> bool:
        gc.collect()
        return alive() is None and set(threading.enumerate()) <= before

    until(gone)
    with router_on(f"sqlite:///{tmp_path / 'log.db'}") as again:
        assert again.stats()["outcomes"] == 1


def test_threads_that_fork_together_do_not_wait_for_each_other_forever() -> None:
    done = subprocess.run([sys.executable, "-c", TOGETHER], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["40", "0"])


TOGETHER = """
import os, sys, threading
from mixllm_engine.testing import tiny_router
routers = [tiny_router() for _ in range(2)]
sys.setswitchinterval(1e-5)
codes = []
def fork():
    for _ in range(10):
        child = os.fork()
        if child == 0:
            for router in routers:
                with router._lock:
                    pass
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
threads = [threading.Thread(target=fork) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for router in routers:
    router.decide("question")
print(len(codes), sum(codes))
"""
