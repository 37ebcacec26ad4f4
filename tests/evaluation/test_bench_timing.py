"""Timing: blocks alternate, only the calls count, and whoever is slow gets fewer of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from mixllm_engine.evaluation.bench.report import Budget, compared
from mixllm_engine.evaluation.bench.timing import Contender, Effort, alternate
from tests.evaluation.bench_machine import SMALL, Machine


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
