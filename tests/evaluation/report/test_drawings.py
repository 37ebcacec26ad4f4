"""Drawings: axes are labelled, no texts overlap, names fit, and everybody has a colour and a place."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from mixllm_engine.evaluation.report import Band, LogReport, Report, Single
from mixllm_engine.evaluation.report.drawing import NARROW, WIDE, Sheet, drawn
from mixllm_engine.evaluation.report.files import plots
from mixllm_engine.evaluation.report.labels import spread_out
from mixllm_engine.evaluation.report.model import OURS
from mixllm_engine.evaluation.report.palette import OTHERS, inks
from mixllm_engine.evaluation.report.wording import clipped, short_names
from tests.evaluation.report.made import ABOUT, contest, full, log, points


@pytest.mark.parametrize("sheet", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("report", [full(), log()], ids=["replay", "log"])
def test_axes_are_labelled_and_no_texts_overlap(report: Report | LogReport, sheet: Sheet) -> None:
    for plot in plots(report).values():
        with drawn(plot, sheet) as figure:
            (axes,) = figure.axes
            assert len(axes.get_xlabel()) > 3 and len(axes.get_ylabel()) > 3
            figure.draw_without_rendering()
            boxes = [(text.get_text(), Text.get_window_extent(text).padded(-1.0)) for text in texts_of(figure)]
            assert len(boxes) > 8
            for (one, box), (other, another) in itertools.combinations(boxes, 2):
                assert not box.overlaps(another), f"{plot.name}: {one!r} on {other!r}"
            for one, box in boxes:
                assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, f"{plot.name}: {one!r} is cut"
                assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, f"{plot.name}: {one!r} is cut"


def texts_of(figure: Figure) -> list[Text]:
    """Return the texts that are drawn: matplotlib keeps ticks beyond the limits."""
    (axes,) = figure.axes
    beyond = [
        tick.label1
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim()))
        for tick in axis.get_major_ticks()
        if not low <= tick.get_loc() <= high
    ]
    found = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    return [text for text in found if text.get_visible() and text not in beyond]


def test_a_far_bound_does_not_squeeze_the_others() -> None:
    game = contest()
    far = dataclasses.replace(
        game.contestants[1], band=Band.of([points(2.0) + [0.0, 0.9]], np.geomspace(2e-4, 0.012, 9))
    )
    near = dataclasses.replace(game, contestants=(game.contestants[0], far, *game.contestants[2:]))
    with drawn(plots(Report(about=ABOUT, contests=(near,)))["1-curves"], WIDE) as figure:
        assert figure.axes[0].get_ylim()[1] < 1.0
        assert "oracle, up to 1.70" in [text.get_text() for text in texts_of(figure)]


def test_free_llms_have_a_place(tmp_path: Path) -> None:
    game = contest()
    free = dataclasses.replace(game, singles=(*game.singles, Single(name="local", cost_usd=0.0, quality=0.3)))
    plot = plots(Report(about=ABOUT, contests=(free,)))["1-hull"]
    with drawn(plot, WIDE) as figure:
        figure.draw_without_rendering()
        assert "free" in [label.get_text() for label in figure.axes[0].get_xticklabels()]
        left, right = figure.axes[0].get_xlim()
        assert 0 < left < 0.05 and right > 12.0


@given(st.lists(st.floats(0.0, 300.0), min_size=1, max_size=12))
def test_labels_move_apart_and_keep_their_order(heights: list[float]) -> None:
    placed = spread_out(sorted(heights), 14.0, 0.0, 300.0)
    assert (np.diff(placed) >= 14.0 - 1e-9).all()
    assert placed[0] >= -1e-9 and placed[-1] <= 300.0 + 1e-9
    alone = spread_out([10.0, 100.0], 14.0, 0.0, 300.0)
    assert alone.tolist() == [10.0, 100.0]


@given(st.text(max_size=60), st.integers(2, 30))
def test_clipped_names_fit_on_a_line(name: str, limit: int) -> None:
    short = clipped(name, limit)
    assert len(short) <= limit
    assert short.isprintable()


def test_names_lose_their_provider_only_where_that_is_clear() -> None:
    assert short_names(["a/x", "b/x", "c/y"]) == {"a/x": "a/x", "b/x": "b/x", "c/y": "y"}


def test_inks_differ_until_they_run_out_and_stay_with_their_system() -> None:
    names = [f"r{number}" for number in range(8)]
    first = inks([(OURS, "ours"), ("oracle", "bound"), *((name, "rival") for name in names)])
    named = [ink for ink in first.values() if ink != OTHERS]
    assert len({ink.colour for ink in named}) == len(named) == 8
    assert first["r6"] == first["r7"] == OTHERS
    again = inks([("new", "rival"), ("r0", "rival")], first)
    assert again["r0"] == first["r0"] != again["new"]
