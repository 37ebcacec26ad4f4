"""The report of a bench: it survives JSON, and every row has its verdict."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mixllm_engine.evaluation.bench.report import BenchReport, Budget, Row

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
