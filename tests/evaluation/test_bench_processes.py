"""What new processes take: imports, memory, and a quick run of everything."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mixllm_engine.evaluation.bench import footprint, fresh, suite
from mixllm_engine.evaluation.bench.report import BenchReport, Budget


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
