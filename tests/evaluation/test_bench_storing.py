"""What stores take: pairs per second beside bare commits, shared by all threads, on every database."""

from __future__ import annotations

import threading
import time

import pytest
import sqlalchemy as sa

from mixllm_engine.evaluation.bench import storing
from tests.engine import postgres
from tests.evaluation.bench_machine import Machine


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
