"""Workers that are killed while they write, forked, or never closed leave no lock, no row and no thread behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.store import journal, open_store
from mixllm_engine.testing import tiny_router
from mixllm_engine.types import Label
from tests.engine.stores import ROOT, ask, place, record, router_on, until

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
from tests.engine.stores import ask, labels, router_on, until
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
