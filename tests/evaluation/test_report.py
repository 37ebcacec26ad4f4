from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from rich.console import Console

from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.judged import LeftOut
from mixllm_engine.evaluation.off_policy import Estimates, OffPolicyEstimate
from mixllm_engine.evaluation.report import (
    About,
    Band,
    Contest,
    Contestant,
    Counterfactual,
    LogReport,
    LogSaving,
    Regret,
    Report,
    Saving,
    Score,
    Shares,
    Single,
    Trace,
    Waiting,
    Waits,
    show,
    write_report,
)
from mixllm_engine.evaluation.report.drawing import NARROW, WIDE, Sheet, drawn
from mixllm_engine.evaluation.report.files import plain, plots
from mixllm_engine.evaluation.report.labels import spread_out
from mixllm_engine.evaluation.report.markdown import markdown
from mixllm_engine.evaluation.report.markup import Markup, element
from mixllm_engine.evaluation.report.model import MEASURES, OURS, Role
from mixllm_engine.evaluation.report.palette import OTHERS, inks
from mixllm_engine.evaluation.report.verdict import verdict, wins
from mixllm_engine.evaluation.report.wording import clipped, short_names
from mixllm_engine.types import Matrix

NASTY = "</script><script>alert('$x$ & $y$')</script><!-- \"[bold]"
LLMS = (
    "mistralai/mistral-7b-chat",
    "meta/code-llama-instruct-34b-chat",
    "mistralai/mixtral-8x7b-chat",
    "gpt-4-preview",
)
COST_USD = (0.0002, 0.0005, 0.0006, 0.012)
QUALITY = (0.5, 0.42, 0.63, 0.79)
ABOUT = About(
    title="What would routing save?",
    date="1 May 2026",
    data={"Data": "a pool", "Licence": "MIT", "Queries": "400"},
    seeds=(1, 2),
    learned_share=0.5,
    versions={"mixllm": "0.1.0"},
    configuration={"decision": {"mode": "thompson"}},
    command="mixllm evaluate pool.csv --seeds 2",
)


class Page(HTMLParser):
    """Reads a page as a browser would: its elements, its text, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, key: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(key)) is not None]


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value=value, standard_error=half / 2.0, low=value - half, high=value + half)


def points(strength: float) -> Matrix:
    cost = np.geomspace(0.0002, 0.012, 8)
    return np.stack([cost, 0.5 + 0.3 * (np.log(cost / 0.0002) / np.log(60.0)) ** (1.0 / strength)], axis=1)


def contestant(name: str, role: Role, strength: float, splits: int, **gaps: Estimate) -> Contestant:
    scores = {
        "cost@99": Score.of([60.0 / strength + split for split in range(splits)], gaps.get("cost")),
        "area": Score.of([0.7 + 0.02 * strength + 0.001 * split for split in range(splits)], gaps.get("area")),
    }
    band = Band.of([points(strength + 0.02 * split) for split in range(splits)], np.geomspace(0.0002, 0.012, 30))
    return Contestant(name=name, role=role, scores=scores, band=band)


def contest(splits: int = 2, rival: str = "OptLLM (forest, Pareto search)") -> Contest:
    tested = splits > 1
    loses = {"cost": estimate(9.0, 4.0), "area": estimate(-0.01, 0.005)} if tested else {}
    leads = {"cost": estimate(-6.0, 3.0), "area": estimate(0.001, 0.005)} if tested else {}
    knows = {"cost": estimate(-20.0, 3.0), "area": estimate(0.05, 0.005)} if tested else {}
    return Contest(
        name="No time limit",
        about="Every answer counts.",
        savings=(Saving(quality_percent=99.0, best=LLMS[3], cost_percent=estimate(41.2, 6.5 if tested else math.nan)),),
        contestants=(
            contestant(OURS, "ours", 2.0, splits),
            contestant("oracle", "bound", 3.5, splits, **knows),
            contestant(rival, "rival", 2.1, splits, **leads),
            *(contestant(f"rival {number}", "rival", 1.8 - 0.1 * number, splits, **loses) for number in range(8)),
        ),
        singles=tuple(
            Single(name=name, cost_usd=cost, quality=quality)
            for name, cost, quality in zip(LLMS, COST_USD, QUALITY, strict=True)
        ),
    )


def full() -> Report:
    rng = np.random.default_rng(0)
    lost = rng.random((2, 500)).cumsum(axis=1)
    systems = (OURS, "LinUCB", "rival 0")
    return Report(
        about=ABOUT,
        contests=(contest(),),
        shares=Shares.of(rng.integers(0, 4, 500), LLMS, "the medium budget"),
        regret=Regret(
            setting="the medium budget",
            unit="in units of reward",
            against="the best choice for each query",
            traces=tuple(Trace.of(name, lost * (1 + place)) for place, name in enumerate(systems)),
        ),
        waiting=Waiting(
            setting="the medium budget",
            max_wait_s=10.0,
            waits=tuple(Waits.of(name, rng.gamma(2.0, 2.0 + place, 500), 10.0) for place, name in enumerate(systems)),
        ),
        notes=("Waiting times are simulated.",),
    )


def log() -> LogReport:
    def told(reward: float, cost_usd: float | None, *warnings: str) -> OffPolicyEstimate:
        def three(value: float, logged: float) -> Estimates:
            own = estimate(value, value / 10.0)
            return Estimates(ips=own, snips=own, dr=own, logged=estimate(logged, logged / 20.0), rows=400)

        return OffPolicyEstimate(
            reward=three(reward, 0.7),
            cost_usd=None if cost_usd is None else three(cost_usd, 0.002),
            left_out=LeftOut(),
            effective_rows=300.0,
            largest_weight=3.0,
            mean_weight=estimate(1.0, 0.1),
            unsupported=0.0,
            warnings=warnings,
        )

    return LogReport(
        about=dataclasses.replace(ABOUT, seeds=(), learned_share=None),
        savings=(
            LogSaving(against="gpt-4", cost_percent=estimate(26.0, 3.0), reward_difference=estimate(-0.03, 0.02)),
            LogSaving(
                against="rare",
                cost_percent=estimate(50.0, 30.0),
                reward_difference=estimate(0.1, 0.3),
                warnings=("it was hardly ever asked",),
            ),
        ),
        counterfactuals=(
            Counterfactual(name="always gpt-4", made=told(0.75, 0.012)),
            Counterfactual(name="always rare", made=told(0.6, None, "it was hardly ever asked")),
        ),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(full(), tmp_path_factory.mktemp("report") / "new" / "folder").parent


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def row_of(html: str, name: str) -> str:
    return next(part for part in html.split("<tr")[1:] if f'scope="row">{name}' in part)


def test_the_page_needs_nothing_but_itself(html: str) -> None:
    page = Page(html)
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "base", "form", "img", "image"}
    assert page.attributes("src") == []
    assert all(reference.startswith("#") for reference in page.attributes("href"))
    assert "http" not in html.replace("http-equiv", "") and "@import" not in html and "//" not in html
    assert set(part.split(")")[0][:1] for part in html.split("url(")[1:]) == {"#"}
    policy = next(attributes for _, attributes in page.tags if "http-equiv" in attributes)["content"]
    assert policy is not None and policy.startswith("default-src 'none'")
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {reference[1:] for reference in page.attributes("href")} <= set(ids)


def test_the_page_tells_how_it_was_made(html: str) -> None:
    text = Page(html).text
    for told in (
        "What would routing save?",
        "1 May 2026",
        "MIT",
        "50 % of the queries",
        "1, 2",
        "0.1.0",
        ABOUT.command,
    ):
        assert told in text
    assert '"mode": "thompson"' in text
    assert "Waiting times are simulated." in text


def test_the_headline_is_a_saving_in_plain_words(html: str) -> None:
    text = Page(html).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "\N{MINUS SIGN}59 %" in text
    assert (
        "The same quality as always gpt-4-preview minus 1 % costs 41 % of its price (95 % interval 35 to 48)." in text
    )


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


def test_every_drawing_is_in_the_page_twice_and_beside_it_as_png(folder: Path, html: str) -> None:
    found = {path.stem for path in folder.glob("*.png")}
    assert found == {"1-hull", "1-curves", "shares", "regret", "waiting", "waiting-over-time"}
    for path in folder.glob("*.png"):
        picture = imread(path)
        rim = np.concatenate(
            [picture[:30].reshape(-1, 4), picture[:, :30].reshape(-1, 4), picture[:, -30:].reshape(-1, 4)]
        )
        assert len(picture) > 900 and (rim == rim[0]).all() and (picture != rim[0]).any()
    drawings = [attributes for tag, attributes in Page(html).tags if tag == "svg"]
    assert [drawing["class"] for drawing in drawings] == ["wide", "narrow"] * len(found)
    assert all(drawing["role"] == "img" and len(drawing["aria-label"] or "") > 30 for drawing in drawings)
    assert "#0b5fcc" not in html.split("</style>")[1] and "stroke: var(--ours)" in html


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


def test_the_page_says_where_a_rival_wins(html: str) -> None:
    row = row_of(html, "OptLLM (forest, Pareto search)")
    assert f"better than {OURS} in 1 of 2" in row
    assert row.count('<td class="better">▲ ') == 1
    assert "▲" not in row_of(html, "oracle") and "a bound, no rival" in row_of(html, "oracle")
    assert "▲" not in row_of(html, "rival 0")
    text = Page(html).text
    assert f"OptLLM (forest, Pareto search) is better than {OURS} in cost at 99" in text
    assert "difference \N{MINUS SIGN}6.0" in text
    assert 'class="ours"' in next(part for part in html.split("<tr")[1:] if f">{OURS}<" in part).join(["<tr", ""])


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


def test_names_never_become_code(tmp_path: Path) -> None:
    game = contest(rival=NASTY)
    best = max(game.singles, key=lambda single: single.quality)
    singles = tuple(dataclasses.replace(one, name=NASTY) if one is best else one for one in game.singles)
    savings = (dataclasses.replace(game.savings[0], best=NASTY),)
    nasty = dataclasses.replace(game, name=NASTY, about=NASTY, singles=singles, savings=savings)
    about = dataclasses.replace(
        ABOUT, title=NASTY, date=NASTY, data={NASTY: NASTY}, configuration={NASTY: NASTY}, command=NASTY
    )
    html = write_report(Report(about=about, contests=(nasty,), notes=(NASTY,)), tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(NASTY) > 10
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)


@given(st.text(alphabet=st.characters(exclude_categories=["C"])))
def test_elements_escape_any_text(text: str) -> None:
    page = Page(element("p", text, title=text))
    assert page.tags == [("p", {"title": text})]
    assert page.text == text


def test_elements_keep_markup() -> None:
    inner = element("b", "x & y")
    assert element("p", inner, ["<", inner]) == "<p><b>x &amp; y</b>&lt;<b>x &amp; y</b></p>"
    assert isinstance(inner, Markup) and not isinstance(inner + "<i>", Markup)


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
