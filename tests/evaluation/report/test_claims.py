"""What a report claims of the numbers, and what it does where some of them are missing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mixllm_engine.evaluation.report import (
    Band,
    Contest,
    Contestant,
    Report,
    Saving,
    Score,
    Shares,
    Trace,
    Waits,
    write_report,
)
from mixllm_engine.evaluation.report.model import MEASURES, OURS, Role
from mixllm_engine.evaluation.report.verdict import verdict, wins
from tests.evaluation.report.made import ABOUT, contest, estimate
from tests.evaluation.report.page import Page, row_of


@pytest.mark.parametrize(
    ("saving", "text"),
    [
        (Saving(quality_percent=100.0, best="a", cost_percent=estimate(80.0, math.nan)), "always a costs 80 % of its"),
        (
            Saving(quality_percent=99.0, best="a", cost_percent=estimate(150.0, 0.0), missed_percent=100.0),
            "not reached",
        ),
        (Saving(quality_percent=99.0, best="a", cost_percent=estimate(90.0, 5.0), missed_percent=20.0), "20 % of the"),
    ],
)
def test_a_saving_tells_what_is_missing(saving: Saving, text: str) -> None:
    assert text in str(saving)
    assert "nan" not in str(saving)


@pytest.mark.parametrize(("value", "won"), [(-3.0, True), (3.0, False), (-0.5, False)])
def test_a_win_needs_the_good_side_and_the_whole_interval(value: float, won: bool) -> None:
    cost, area = MEASURES[2], MEASURES[4]
    assert cost.lower_is_better and not area.lower_is_better
    for measure, sign in ((cost, 1.0), (area, -1.0)):
        score = Score(mean=1.0, difference=estimate(sign * value, 1.0))
        own = Contestant(name=OURS, role="ours", scores={measure.key: Score(mean=1.0)})
        rival = Contestant(name="rival", role="rival", scores={measure.key: score})
        game = Contest(name="", about="", savings=(), contestants=(own, rival), singles=())
        assert bool(wins(game, MEASURES)) == won
        assert ("rival is better" in " ".join(verdict(game, MEASURES))) == won


def test_one_split_has_no_standard_errors_and_claims_nothing(tmp_path: Path) -> None:
    report = Report(about=ABOUT, contests=(contest(splits=1),))
    html = write_report(report, tmp_path).read_text(encoding="utf-8")
    text = Page(html).text
    assert "No difference between systems was tested" in text
    assert "±" not in text and "nan" not in text and "▲" not in text and "interval" not in text
    assert "Over time" not in text
    assert {path.stem for path in tmp_path.glob("*.png")} == {"1-hull", "1-curves"}
    loaded = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert loaded["contests"][0]["contestants"][0]["scores"]["area"]["standard_error"] is None
    assert loaded["waiting"] is None


def test_measures_may_be_missing(tmp_path: Path) -> None:
    bare = Contest(
        name="Bare",
        about="",
        savings=(),
        contestants=(
            Contestant(name=OURS, role="ours", scores={"late": Score(mean=3.0)}),
            Contestant(name="rival", role="rival", scores={}),
        ),
        singles=(),
    )
    html = write_report(Report(about=ABOUT, contests=(bare,)), tmp_path).read_text(encoding="utf-8")
    assert list(tmp_path.glob("*.png")) == []
    assert "<td>–</td>" in row_of(html, "rival")
    assert ">Late<" in html and ">Area<" not in html
    assert "Ordered by" not in html


def test_what_is_never_reached_is_no_number(tmp_path: Path) -> None:
    def told(name: str, role: Role, area: float, missed_percent: float) -> Contestant:
        cost = Score.of([150.0, 150.0], estimate(50.0, 1.0), missed_percent=missed_percent)
        return Contestant(name=name, role=role, scores={"cost@99": cost, "area": Score(mean=area)})

    game = Contest(
        name="Hard",
        about="",
        savings=(Saving(quality_percent=99.0, best="a", cost_percent=estimate(150.0, 0.0), missed_percent=100.0),),
        contestants=(
            told(OURS, "ours", 0.5, 100.0),
            told("low", "rival", 0.4, 50.0),
            told("high", "rival", 0.6, 100.0),
        ),
        singles=(),
    )
    html = write_report(Report(about=ABOUT, contests=(game,)), tmp_path).read_text(encoding="utf-8")
    assert "not reached" in row_of(html, "high") and "150" not in row_of(html, "high")
    assert "missed by 50\N{NO-BREAK SPACE}%" in row_of(html, "low") and "150.0" in row_of(html, "low")
    assert "Ordered by area." in html
    assert html.index('scope="row">high') < html.index(f'scope="row">{OURS}') < html.index('scope="row">low')
    assert "was not reached in any split" in html and 'class="big bad">not reached<' in html


def test_bands_average_hulls() -> None:
    low, high = np.array([[1.0, 0.2], [3.0, 0.6]]), np.array([[2.0, 0.4], [3.0, 0.8]])
    band = Band.of([low, high], np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(band.quality, [np.nan, 0.4, 0.7])
    np.testing.assert_allclose(band.standard_error, [np.nan, 0.0, 0.1])
    np.testing.assert_allclose(band.settings, [[1.5, 0.3], [3.0, 0.7]])
    assert np.isnan(Band.of([low], np.array([1.0])).standard_error).all()
    assert Band.of([low, high[:1]], np.array([3.0])).settings.shape == (0, 2)


def test_series_over_time_sum_up_a_stream() -> None:
    told = Shares.of(np.array([0] * 40 + [1] * 40), ["a", "b"], "")
    np.testing.assert_allclose(told.share.sum(axis=1), 1.0)
    assert told.share[0].tolist() == [1.0, 0.0] and told.share[-1].tolist() == [0.0, 1.0]
    assert told.position[0] == 1.0
    waits = Waits.of("a", np.arange(101.0), 10.0)
    assert waits.latency_s[95] == 95.0 and waits.share[95] == pytest.approx(0.95)
    assert waits.arrival_s[-1] <= 10.0
    trace = Trace.of("a", np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert trace.value.tolist() == [2.0, 3.0] and trace.standard_error.tolist() == [1.0, 1.0]
