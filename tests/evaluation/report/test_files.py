"""The report besides its page: as JSON, as pictures, on the terminal and as Markdown."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mixllm_engine.evaluation.report import LogReport, Report, Score, show, write_report
from mixllm_engine.evaluation.report.files import plain
from mixllm_engine.evaluation.report.markdown import markdown
from mixllm_engine.evaluation.report.model import OURS
from mixllm_engine.evaluation.report.verdict import wins
from tests.evaluation.report.made import ABOUT, full, log


def test_json_holds_all_numbers(folder: Path) -> None:
    loaded = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    report = full()
    ours, told = report.contests[0].contestants[0], loaded["contests"][0]["contestants"][0]
    assert ours.band is not None and report.regret is not None and report.shares is not None
    assert told["name"] == OURS
    assert told["scores"]["cost@99"]["mean"] == ours.scores["cost@99"].mean
    assert told["scores"]["cost@99"]["difference"] is None
    np.testing.assert_array_equal(told["band"]["quality"], ours.band.quality)
    np.testing.assert_array_equal(loaded["shares"]["share"], report.shares.share)
    np.testing.assert_array_equal(loaded["regret"]["traces"][1]["value"], report.regret.traces[1].value)
    assert loaded["about"]["configuration"] == ABOUT.configuration


@given(st.recursive(st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=8))
def test_plain_data_survive_json(value: object) -> None:
    loaded = json.loads(json.dumps(plain(value), allow_nan=False))
    assert loaded == plain(value)


def test_what_is_no_number_becomes_null() -> None:
    score = Score(mean=1.0, standard_error=math.nan)
    assert plain(score) == {"mean": 1.0, "standard_error": None, "difference": None, "missed_percent": 0.0}
    assert plain({"a": np.array([1.0, np.inf]), "b": np.int64(3)}) == {"a": [1.0, None], "b": 3}


def test_a_report_is_the_same_when_made_again(folder: Path, tmp_path: Path) -> None:
    again = write_report(dataclasses.replace(full(), shares=None, regret=None, waiting=None), tmp_path).parent
    assert (again / "1-hull.png").read_bytes() == (folder / "1-hull.png").read_bytes()
    (first, second) = ((place / "report.html").read_text(encoding="utf-8") for place in (folder, again))
    drawing = first[first.index("<svg") : first.index("</svg>")]
    assert drawing in second


@pytest.mark.parametrize("report", [full(), log()], ids=["replay", "log"])
def test_the_terminal_shows_headline_table_and_warnings(report: Report | LogReport) -> None:
    nasty = dataclasses.replace(report, notes=("a [bold]note",))
    console = Console(file=io.StringIO(), width=160)
    show(nasty, console)
    assert isinstance(console.file, io.StringIO)
    text = " ".join(console.file.getvalue().split())
    assert "What would routing save?" in text and "warning: a [bold]note" in text
    if isinstance(report, Report):
        assert "costs 41 % of its price" in text and "▲ 29.1 ± 0.5" in text
        assert f"is better than {OURS} in cost at 99 %" in text
    else:
        assert "Your routing cost 26 %" in text and "what you did" in text and "$12.0" in text


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install \"mixllm\[evaluate\]\""):
        write_report(full(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_markdown_has_a_row_for_everybody_and_marks_who_is_better(folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text == markdown(full())
    for made in full().contests:
        section = text.split(f"## {made.name}\n")[1].split("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| ")]
        assert len(rows) == len(made.contestants) + 2
        assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
        won = {win.rival for win in wins(made, full().measures)}
        for one in made.contestants:
            (row,) = (line for line in rows if one.name.replace("|", "\\|") in line)
            assert ("▲" in row) == (one.name in won)
            assert ("(a bound)" in row) == (one.role == "bound")
            assert row.startswith("| **") == (one.role == "ours")
