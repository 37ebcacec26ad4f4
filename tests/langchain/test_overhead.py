"""``mixllm bench --langchain``: every system is asked the same, and one that is not installed is named."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from langchain_mixllm import _bench_overhead as bench
from mixllm_engine.evaluation.bench.calls import Sizes
from mixllm_engine.evaluation.bench.chat_models import langchain_overhead
from mixllm_engine.evaluation.bench.report import Row
from mixllm_engine.evaluation.bench.timing import Effort
from mixllm_engine.testing import Reply, ScriptedServer

SMALL = Sizes(effort=Effort(blocks=2, calls=3, warm_up=2), threads=(bench.THREADS,), blocks=2, calls=32)


class Machine:
    """A clock that only calls advance, and chat models that take a known time on it."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.asked: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()

    def __call__(self) -> int:
        return self.now_ns

    def entrant(self, name: str, cost_ns: int, new_ns: int = 0) -> bench.Entrant:
        machine, asked = self, self.asked.setdefault(name, Counter())

        class Timed:
            def invoke(self, text: str, /) -> object:
                with machine._lock:
                    machine.now_ns += cost_ns + (0 if asked[text] else new_ns)
                    asked[text] += 1
                return text

            async def ainvoke(self, text: str, /) -> object:
                return self.invoke(text)

        return bench.Entrant(name=name, model=Timed(), note=f"note of {name}")


@contextmanager
def no_server(models: Sequence[str], delay_s: float = 0.0) -> Iterator[str]:
    yield f"http://127.0.0.1/{delay_s:g}"


def measured(systems: Sequence[bench.Entrant], machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    monkeypatch.setattr(bench, "llm_server", no_server)
    return bench.overhead(lambda _: systems, SMALL, machine)


def test_every_system_is_asked_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    systems = [machine.entrant(bench.BARE, 10**6), machine.entrant("rival", 3 * 10**6)]
    measured(systems, machine, monkeypatch)
    assert machine.asked[bench.BARE] == machine.asked["rival"]


def test_what_is_added_and_what_share_of_the_throughput_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    systems = [
        machine.entrant(bench.BARE, 10**6),
        machine.entrant(bench.OURS, 2 * 10**6, new_ns=10**6),
        machine.entrant("rival", 4 * 10**6),
        bench.Entrant(name="absent", model=None, note="not installed: pip install absent"),
    ]
    rows = {(row.setting, row.system): row for row in measured(systems, machine, monkeypatch)}
    ours, new = bench.OURS, f"{bench.OURS}, new prompts"
    one, added = "invoke, one at a time", "invoke, one at a time: added"
    assert [rows[one, name].p50 for name in (bench.BARE, ours, new, "rival")] == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert [rows[added, name].p50 for name in (ours, new, "rival")] == pytest.approx([1.0, 2.0, 3.0])
    assert rows["ainvoke, one at a time", "rival"].p50 == pytest.approx(4.0)
    for answers in ("at once", "after 0.1 s"):
        setting = f"invoke, 16 threads, answers {answers}"
        rates = [rows[setting, name].p50 for name in (bench.BARE, ours, "rival")]
        assert rates == pytest.approx([1000.0, 500.0, 250.0])
        assert [rows[setting, name].ratio for name in (bench.BARE, ours, "rival")] == pytest.approx([1.0, 0.5, 0.25])
    absent = {row for (_, system), row in rows.items() if system == "absent"}
    assert len(absent) == 4 and {row.note for row in absent} == {"not installed: pip install absent"}
    assert all(row.p50 is None and row.count == 0 for row in absent)
    assert rows[one, "rival"].note == "note of rival"


def test_rivals_that_are_missing_are_named(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("langchain_model_router", "routesmith", "routesmith.integrations.langchain"):
        monkeypatch.setitem(sys.modules, module, None)
    bare, ours, *rivals = bench.entrants(server.base_url)
    assert bare.model is not None and ours.model is not None
    assert {(rival.name, rival.model, rival.note) for rival in rivals} == {
        ("langchain-model-router", None, "not installed: pip install langchain-model-router==0.1.0"),
        ("RouteSmith", None, "not installed: pip install routesmith-llm==0.9.3"),
    }


def test_each_entrant_makes_one_request_for_one_call(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in bench.MODELS:
        server.script(name, Reply(text=f"{name} should"))
    for entrant in bench.entrants(server.base_url):
        if entrant.model is not None:
            before = len(server.requests)
            entrant.model.invoke("Which of you should answer?")
            assert len(server.requests) == before + 1, entrant.name


@pytest.mark.slow
def test_a_quick_run_measures_everything_that_is_installed() -> None:
    report = langchain_overhead(quick=True, clock=lambda: 0.0)
    json.dumps(report.as_dict(), allow_nan=False)
    assert report.about["quick"] is True and "routesmith-llm" in report.about["packages"]
    for row in report.rows:
        assert row.system and (row.p50 is not None or row.note.startswith("not installed")), row
    assert {bench.BARE, bench.OURS} <= {row.system for row in report.rows if row.p50}
