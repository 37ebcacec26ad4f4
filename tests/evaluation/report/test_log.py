"""A report of a log says what it can support, and draws no more than that."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from mixllm_engine.evaluation.report import write_report
from mixllm_engine.evaluation.report.files import plots
from tests.evaluation.report.made import estimate, log
from tests.evaluation.report.page import Page


def test_a_log_report_says_what_it_can_support(tmp_path: Path) -> None:
    html = write_report(log(), tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert page.open == []
    assert "Your routing cost 26 % (95 % interval 23 to 29) of what always gpt-4 would have cost" in text
    assert "0.030 lower (95 % interval \N{MINUS SIGN}0.050 to \N{MINUS SIGN}0.010)" in text
    assert "The log can't support this: it was hardly ever asked." in text
    assert "not known" in text and "\N{MINUS SIGN}74 %" in text and "\N{MINUS SIGN}50 %" not in text
    assert "what you did" in text and "$12.0" in text and "$2.00" in text
    assert {path.stem for path in tmp_path.glob("*.png")} == {"reward", "cost"}
    loaded = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert loaded["counterfactuals"][0]["made"]["cost_usd"]["dr"]["value"] == 0.012
    assert loaded["counterfactuals"][1]["made"]["cost_usd"] is None


def test_a_log_without_costs_has_no_drawing_of_them() -> None:
    report = log()
    assert set(plots(dataclasses.replace(report, counterfactuals=report.counterfactuals[1:]))) == {"reward"}
    unknown = dataclasses.replace(report.savings[0], cost_percent=estimate(math.nan, 0.0))
    assert str(unknown) == "This log can't tell what always gpt-4 would have cost."
