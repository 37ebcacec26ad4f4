from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mixllm_engine.evaluation.bench import calls, deciding, footprint, fresh, storing, suite
from mixllm_engine.evaluation.bench.deciders import deciding as contenders
from mixllm_engine.evaluation.bench.inputs import names_of, outcomes, prices, prompts, texts_of
from mixllm_engine.evaluation.bench.report import BenchReport, Budget, Row, compared
from mixllm_engine.evaluation.bench.timing import Contender, Effort, alternate
from tests.engine import postgres

SMALL = Effort(blocks=2, calls=3, warm_up=2, most_s=0.5)
PARETO, MABWISER = "ParetoBandit", "MABWiser LinUCB"


class Machine:
    """A clock in nanoseconds, and systems that let it advance."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.log: list[tuple[str, int]] = []

    def __call__(self) -> int:
        return self.now_ns

    def system(self, name: str, cost_ns: Callable[[int], int], **more: Any) -> Contender:
        def step(serial: int) -> None:
            self.log.append((name, serial))
            self.now_ns += cost_ns(serial)

        return Contender(name=name, step=step, **more)


def test_blocks_alternate_and_no_serial_comes_twice() -> None:
    machine = Machine()
    timed = alternate([machine.system("a", lambda _: 1000), machine.system("b", lambda _: 3000)], SMALL, machine)
    assert [name for name, _ in machine.log] == ["a", "a", "b", "b", *["a"] * 3, *["b"] * 3, *["a"] * 3, *["b"] * 3]
    for name in ("a", "b"):
        assert [serial for who, serial in machine.log if who == name] == list(range(SMALL.most_calls))
    assert timed["a"].seconds == pytest.approx(np.full((2, 3), 1e-6))
    assert timed["b"].seconds == pytest.approx(np.full((2, 3), 3e-6))


def test_percentiles_are_those_of_the_calls_that_count() -> None:
    machine = Machine()
    # Two calls of the warm-up take far longer than the hundred that count: 1, 2, ..., 100 microseconds.
    system = machine.system("a", lambda serial: 10**7 if serial < 2 else (serial - 1) * 1000)
    timed = alternate([system], Effort(blocks=4, calls=25, warm_up=2), machine)
    [row] = compared(timed, part="p", setting="s", unit="us", against="a")
    assert (row.best, row.p50, row.p95) == pytest.approx((1.0, 50.5, 95.05))
    assert (row.count, row.ratio) == (100, 1.0)


def test_a_machine_that_slows_down_does_not_change_a_ratio() -> None:
    machine = Machine()
    slower = (1, 1, 10, 50, 100)  # from block to block; each has four calls, after one of the warm-up

    def cost(once_ns: int) -> Callable[[int], int]:
        return lambda serial: once_ns * slower[max(serial - 1, 0) // 4]

    effort = Effort(blocks=5, calls=4, warm_up=1)
    timed = alternate([machine.system("a", cost(3000)), machine.system("b", cost(2000))], effort, machine)
    a, b = compared(timed, part="p", setting="s", unit="us", against="b")
    assert (a.ratio, b.ratio) == pytest.approx((1.5, 1.0))
    assert timed["a"].by_block == pytest.approx(3e-6 * np.array(slower))


def test_preparing_is_not_timed_and_knows_what_comes() -> None:
    machine, prepared = Machine(), list[int]()

    def prepare(serials: range) -> None:
        prepared.extend(serials)
        machine.now_ns += 10**9

    effort = Effort(blocks=2, calls=100, warm_up=1, most_s=10.0)
    timed = alternate([machine.system("a", lambda _: 5, prepare=prepare)], effort, machine)
    assert prepared == [serial for _, serial in machine.log]
    assert timed["a"].seconds == pytest.approx(np.full((2, 4), 5e-9))  # but it is planned with: a second and 5 ns


def test_a_slow_system_gets_fewer_calls_and_a_very_slow_one_none() -> None:
    machine = Machine()
    effort = Effort(blocks=5, calls=100, warm_up=10, most_s=2.0, longest_step_s=3.0)
    timed = alternate(
        [
            machine.system("fast", lambda _: 1000),
            machine.system("slow", lambda _: 10**8),
            machine.system("slower", lambda _: 10**9),
            machine.system("hopeless", lambda _: 4 * 10**9, note="its note"),
        ],
        effort,
        machine,
    )
    assert {name: found.seconds.size for name, found in timed.items()} == {
        "fast": 500,
        "slow": 20,
        "slower": 5,
        "hopeless": 0,
    }
    assert timed["hopeless"].note == "its note; left out: one call takes 4.0 s"
    assert Counter(name for name, _ in machine.log)["hopeless"] == 1


def test_what_cannot_be_run_has_a_row_that_says_why() -> None:
    machine = Machine()
    absent = Contender(name="b", step=None, note="not installed: pip install b")
    rows = compared(
        alternate([machine.system("a", lambda _: 1000), absent], SMALL, machine),
        part="p",
        setting="s",
        unit="us",
        against="b",
        budgets={"a": Budget(of="ratio", limit=0.5)},
    )
    assert [row.system for row in rows] == ["a", "b"]
    assert rows[0].p50 == pytest.approx(1.0)
    assert (rows[0].ratio, rows[0].holds) == (None, None)  # nothing to compare with: no verdict
    assert (rows[1].p50, rows[1].count, rows[1].note) == (None, 0, "not installed: pip install b")


numbers = st.none() | st.floats(0, 1e9)
budgets = st.builds(
    Budget, of=st.sampled_from(["best", "p50", "ratio"]), limit=st.floats(0, 1e9), at_least=st.booleans()
)
rows = st.builds(
    Row,
    part=st.text(),
    setting=st.text(),
    system=st.text(),
    unit=st.sampled_from(["us", "ms", "s", "MB", "calls/s"]),
    best=numbers,
    p50=numbers,
    p95=numbers,
    count=st.integers(0, 10**6),
    ratio=numbers,
    budget=st.none() | budgets,
    note=st.text(),
)


@given(st.lists(rows, max_size=5))
def test_a_report_survives_json(made: list[Row]) -> None:
    report = BenchReport(rows=tuple(made), about={"mixllm": "1", "packages": {"numpy": "2", "torch": None}})
    written = json.dumps(report.as_dict(), allow_nan=False)
    assert BenchReport.from_dict(json.loads(written)) == report


@pytest.mark.parametrize(
    ("p50", "at_least", "holds"),
    [(5.0, False, True), (5.1, False, False), (5.0, True, True), (4.9, True, False), (None, True, None)],
)
def test_budgets(p50: float | None, at_least: bool, holds: bool | None) -> None:
    row = Row(
        part="p", setting="s", system="a", unit="ms", p50=p50, budget=Budget(of="p50", limit=5.0, at_least=at_least)
    )
    assert row.holds is holds
    assert BenchReport(rows=(row, replace(row, budget=None)), about={}).missed == ((row,) if holds is False else ())


def test_tables_show_every_row_and_its_verdict() -> None:
    base = Row(part="decisions", setting="3 candidates", system="a", unit="us", p50=40.0, ratio=1.0)
    report = BenchReport(
        rows=(
            replace(base, budget=Budget(of="p50", limit=50.0)),
            replace(base, system="b", p50=60.0, ratio=1.5, budget=Budget(of="p50", limit=50.0)),
            replace(base, system="c", p50=None, ratio=None, note="not installed: pip install c"),
            replace(base, part="feedback", setting="10 candidates"),
        ),
        about={},
    )
    out = io.StringIO()
    console = Console(file=out, width=160)
    for table in report.tables():
        console.print(table)
    text = out.getvalue()
    for expected in ("p50 <= 50: kept", "p50 <= 50: missed", "not installed: pip install c", "10 candidates", "1.50"):
        assert expected in text
    assert text.count("3 candidates") == 1  # said once for the rows that share it


def test_inputs_are_repeatable_and_different_from_one_another() -> None:
    texts = texts_of(200, 300)
    assert len(set(texts)) == 300 and {len(text.split()) for text in texts} == {200}
    assert len(set(prompts(256))) == 256
    assert list(prices(names_of(3))) == sorted(names_of(3))
    table = outcomes(prompts(50), names_of(2))
    assert table.keys() == {"prompt", *(f"{n}|{k}" for n in names_of(2) for k in ("quality", "response_tokens"))}
    assert np.array_equal(table["llm0000|quality"], outcomes(prompts(50), names_of(2))["llm0000|quality"])


def test_learning_is_given_each_decision_once() -> None:
    class Recorder:
        note = "n"

        def __init__(self) -> None:
            self.learned: list[int] = []

        def decide(self, serial: int) -> int:
            return serial

        def learn(self, reference: int, reward: float) -> None:
            self.learned.append(reference)

    recorder = Recorder()
    _, learn = contenders("r", lambda: recorder)
    alternate([learn], SMALL)
    assert recorder.learned == list(range(SMALL.most_calls))


def test_decisions_have_a_row_for_every_system() -> None:
    pytest.importorskip("pareto_bandit")
    made = deciding.decisions((3, 10), SMALL)
    systems = {"MixLLM", "MixLLM, all new", PARETO, MABWISER}
    chosen = [row for row in made if row.part == "decision without encoding"]
    assert {(row.setting, row.system) for row in chosen} == {(f"{k} candidates", s) for k in (3, 10) for s in systems}
    for row in made:
        if row.p50 is not None:
            assert row.best is not None and row.p95 is not None and 0 < row.best <= row.p50 <= row.p95
            assert row.ratio is not None and (row.ratio == 1.0) == (row.system == PARETO)
        else:
            assert row.system == MABWISER and row.note.startswith("not installed")
    with_budget = {(row.part, row.setting) for row in made if row.budget}
    assert with_budget == {
        ("decision without encoding", "10 candidates"),
        ("feedback", "3 candidates"),
        ("feedback", "10 candidates"),
    }


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pareto_bandit", "pareto_bandit.feature_service", "mabwiser.mab"):
        monkeypatch.setitem(sys.modules, module, None)
    made = deciding.decisions((3,), SMALL) + deciding.from_text((20,), SMALL)
    notes = {(row.part, row.system): row.note for row in made if row.p50 is None}
    assert notes == {
        ("decision without encoding", PARETO): "not installed: pip install paretobandit==0.1.1",
        ("decision without encoding", MABWISER): "not installed: pip install mabwiser",
        ("feedback", PARETO): "not installed: pip install paretobandit==0.1.1",
        ("feedback", MABWISER): "not installed: pip install mabwiser",
        ("text to decision", PARETO): "not installed: pip install paretobandit==0.1.1",
    }
    [ours] = [row for row in made if row.part == "text to decision" and row.system == "MixLLM"]
    assert 2 <= ours.count <= 6 and ours.ratio is None and ours.holds is None


class Asked:
    """Clients that remember what they were asked, and by how many threads."""

    def __init__(self) -> None:
        self.bare: list[str] = []
        self.routed: list[str] = []
        self.threads: set[int] = set()

    def clients(self) -> calls.Clients:
        def ask(texts: list[str]) -> Callable[[str], object]:
            def asked(text: str) -> None:
                self.threads.add(threading.get_ident())
                texts.append(text)

            return asked

        return calls.Clients(names=("bare", "routed"), bare=ask(self.bare), routed=ask(self.routed))


def test_single_calls_tell_known_prompts_from_new_ones() -> None:
    asked, machine = Asked(), Machine()
    clients = asked.clients()

    def bare(text: str) -> None:
        clients.bare(text)
        machine.now_ns += 2_000_000

    def routed(text: str) -> None:
        machine.now_ns += 2_500_000 if text in asked.routed else 6_000_000
        clients.routed(text)

    made = calls.single_calls(replace(clients, bare=bare, routed=routed), SMALL, machine)
    by_system = {row.system: row for row in made}
    assert by_system["bare"].p50 == pytest.approx(2.0)
    assert by_system["routed"].p50 == pytest.approx(2.5)
    assert by_system["routed, new prompts"].p50 == pytest.approx(6.0)
    added = by_system["added beyond encoding"]
    assert added.p50 == pytest.approx(0.5) and added.holds is True
    assert by_system["added with encoding"].p50 == pytest.approx(4.0)


def test_throughput_gives_both_clients_the_same_work() -> None:
    asked = Asked()
    sizes = calls.Sizes(effort=SMALL, threads=(16,), blocks=2, calls=8)
    bare, routed = calls.throughput(asked.clients(), 16, sizes, "at once", time.perf_counter_ns)
    assert Counter(asked.bare) == Counter(asked.routed) and len(asked.bare) == 3 * 32  # with the warm-up
    assert threading.get_ident() not in asked.threads
    assert bare.p50 and routed.p50 and routed.ratio and bare.ratio == 1.0
    assert (bare.unit, bare.count, bare.budget) == ("calls/s", 2, None)
    assert routed.budget == Budget(of="ratio", limit=0.9, at_least=True)


def test_throughput_is_calls_per_second_and_its_share_is_taken_block_by_block() -> None:
    machine = Machine()

    def ask(cost_ns: int) -> Callable[[str], object]:
        def asked(text: str) -> None:
            machine.now_ns += cost_ns

        return asked

    clients = calls.Clients(names=("bare", "routed"), bare=ask(1_000_000), routed=ask(1_250_000))
    sizes = calls.Sizes(effort=SMALL, threads=(1,), blocks=2, calls=8)
    bare, routed = calls.throughput(clients, 1, sizes, "at once", machine)
    assert (bare.p50, routed.p50, routed.ratio) == pytest.approx((1000.0, 800.0, 0.8))
    assert (bare.setting, routed.budget) == ("1 thread, answers at once", None)


def test_the_server_runs_in_another_process() -> None:
    question = {"model": "small", "messages": [{"role": "user", "content": "Hello?"}]}
    with fresh.llm_server(["small"]) as address, httpx.Client() as client:
        answer = client.post(f"{address}/chat/completions", json=question, headers={"Authorization": "Bearer x"})
        assert answer.json()["choices"][0]["message"]["content"].startswith("It depends")
    with pytest.raises(httpx.ConnectError), httpx.Client() as client:
        client.post(f"{address}/chat/completions", json=question)


def test_imports_are_timed_in_new_processes_and_failures_are_told() -> None:
    made = footprint.import_times(2, ["import mixllm_engine", "import no_such_module"])
    assert made[0].count == 2 and made[0].p50 is not None and made[0].budget == Budget(of="best", limit=0.3)
    assert made[1].count == 0
    assert made[1].note == "can't be imported: ModuleNotFoundError: No module named 'no_such_module'"


def test_a_serving_process_needs_no_torch() -> None:
    found = footprint._serving("decide")
    assert found["loaded"] == []
    assert 50 < found["peak_mb"] < 400


def test_a_process_that_fails_says_so() -> None:
    with pytest.raises(fresh.FreshProcessError, match="ValueError: no"):
        fresh.printed(["-c", "raise ValueError('no')"])
    [row] = suite._calls("ChatMixLLM over ChatLiteLLM", "no_such_module", True)
    assert row.system == "ChatMixLLM" and row.p50 is None and "No module named" in row.note


@pytest.mark.slow
def test_a_quick_run_measures_everything() -> None:
    report = suite.run(quick=True, progress=False, clock=lambda: 0.0)
    assert BenchReport.from_dict(json.loads(json.dumps(report.as_dict(), allow_nan=False))) == report
    parts = {row.part for row in report.rows}
    assert parts == {
        "decision without encoding",
        "feedback",
        "text to decision",
        "decisions with feedback, without encoding",
        "RoutedClient over litellm.completion",
        "ChatMixLLM over ChatLiteLLM",
        "import, in a new process",
        "memory of a serving process",
    }
    for part in parts:
        assert any(row.p50 for row in report.rows if row.part == part), part
    assert report.about["began"] == "1970-01-01T00:00:00Z" and report.about["quick"] is True
    assert report.about["packages"]["numpy"] == np.__version__
    # A budget is a goal for a quiet machine; here it is only judged wherever there is a number to judge.
    assert all(row.holds is not None for row in report.rows if row.budget and row.p50 and row.budget.of != "ratio")


def contestants(machine: Machine, **cost_ns: int) -> list[storing.Contestant]:
    """Return contestants that take so long, with bare commits before them; they may only be asked by one thread."""
    steps = {name: machine.system(name, lambda _, cost=cost: cost).step for name, cost in cost_ns.items()}  # type: ignore[misc]
    return [storing.Contestant(name=name.replace("_", " "), step=step) for name, step in steps.items()]


def test_pairs_are_per_second_and_compared_with_bare_commits_block_by_block() -> None:
    machine = Machine()
    made = contestants(machine, SQLite_alone=250_000, MixLLM_in_memory=100_000, MixLLM_on_SQLite=1_000_000)
    absent = storing.Contestant(name="MixLLM on PostgreSQL", step=None, note="no URL")
    rows = storing.compared([*made, absent], 1, storing.Sizes(threads=(1,), blocks=2, pairs=4), machine)
    assert [row.system for row in rows] == [one.name for one in (*made, absent)]
    assert [row.best for row in rows] == pytest.approx([4000.0, 10_000.0, 1000.0, None])
    assert [row.ratio for row in rows] == pytest.approx([1.0, None, 0.25, None])
    assert [row.count for row in rows] == [2, 2, 2, 0]
    assert {row.setting for row in rows} == {"1 thread"}
    assert [row.holds for row in rows] == [None, True, None, None]
    assert rows[-1].note == "no URL"
    # The first block warms up; each contestant has its turn in each, and no serial comes twice.
    assert [serial for who, serial in machine.log if who == "MixLLM_on_SQLite"] == list(range(12))
    assert [who for who, _ in machine.log][:8] == ["SQLite_alone"] * 4 + ["MixLLM_in_memory"] * 4


def test_all_threads_have_a_share_of_the_pairs_except_for_what_is_alone() -> None:
    seen: dict[str, list[tuple[int, int]]] = {"SQLite alone": [], "MixLLM on SQLite": []}
    together = threading.Barrier(4)

    def step(serial: int) -> None:
        together.wait(10.0)  # breaks unless all four threads are at it at once
        seen["MixLLM on SQLite"].append((threading.get_ident(), serial))

    def alone(serial: int) -> None:
        seen["SQLite alone"].append((threading.get_ident(), serial))

    made = [
        storing.Contestant(name="SQLite alone", step=alone, alone=True),
        storing.Contestant(name="MixLLM on SQLite", step=step),
    ]
    rows = storing.compared(made, 4, storing.Sizes(threads=(4,), blocks=1, pairs=8), time.perf_counter_ns)
    for pairs in seen.values():
        assert sorted(serial for _, serial in pairs) == list(range(16))
    assert len({thread for thread, _ in seen["MixLLM on SQLite"]}) == 4
    assert {row.setting for row in rows} == {"4 threads"}


def test_every_store_keeps_what_is_decided_and_said() -> None:
    with postgres.postgres_server() as server:
        url = server.render_as_string(hide_password=False)
        rows = storing.stored_pairs(storing.Sizes(threads=(1, 128), blocks=1, pairs=128), url)
        schemas = sa.inspect(sa.create_engine(server, poolclass=sa.NullPool)).get_schema_names()
    assert all(row.best and row.best > 0 for row in rows)
    with_budget = {(row.system, row.setting, str(row.budget)) for row in rows if row.budget}
    assert with_budget == {
        ("MixLLM in memory", "1 thread", "best >= 4000"),
        ("MixLLM on SQLite", "128 threads", "best >= 1000"),
        ("MixLLM on PostgreSQL", "128 threads", "best >= 300"),
    }
    assert not [name for name in schemas if name.startswith("mixllm_bench_")]


def test_a_database_that_is_not_there_is_told() -> None:
    sizes = storing.Sizes(threads=(1,), blocks=1, pairs=2)
    *_, row = storing.stored_pairs(sizes, "postgresql+psycopg://nobody:sesame@127.0.0.1:1/none")
    assert row.system == "MixLLM on PostgreSQL" and row.best is None and row.count == 0
    assert "no schema can be made" in row.note and "sesame" not in row.note
