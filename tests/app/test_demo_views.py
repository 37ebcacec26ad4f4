"""What is shown: escaped, with units, signs and the chosen row marked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from mixllm_engine.app.demo import drawings, views
from mixllm_engine.app.demo.page import inert, style
from mixllm_engine.app.demo.samples import Recorded
from mixllm_engine.app.demo.screen import Alert, Answer, CandidateRow, Choice, LearnedRow, Screen
from mixllm_engine.app.demo.session import Visit
from mixllm_engine.app.demo.tally import Savings
from mixllm_engine.counterfactual import Counterfactual
from mixllm_engine.evaluation.report.palette import COLOURS
from tests.app.demo_stage import make_stage

EVIL = "<img src=x onerror=alert(1)>\"'&${7*7}{{value}}"


class Tags(HTMLParser):
    """Names of all elements, and their texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def row(name: str, **changes: object) -> CandidateRow:
    parts = {"quality": 0.6, "cost": -0.2, "late": 0.0, "unsure": 0.01, "feedback": 0.0, "optimism": 0.0}
    made = CandidateRow(
        name=name,
        chosen=False,
        eligible=True,
        quality=0.8,
        cost_usd=0.0012,
        waiting_s=3.21,
        score=0.41,
        recorded=Recorded(quality=0.75, cost_usd=0.002, response_tokens=1234.0),
        parts=parts,
        reason="",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def choice(*rows: CandidateRow, **changes: object) -> Choice:
    made = Choice(
        candidate=rows[0].name,
        explored=False,
        budget="very_low",
        willingness_to_pay=3.0,
        sample=True,
        rows=rows,
        counterfactual=Counterfactual(
            runner_up=rows[-1].name, gap=0.05, quality=0.9, cost_usd=0.0005, willingness_to_pay=None
        ),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def screen(name: str) -> Screen:
    learned = LearnedRow(
        name=name, labels=12.4, mean=0.5, low=0.4, high=0.6, moved=0.01, expected=0.7, expected_before=0.71
    )
    return Screen(
        choice=choice(row(name, chosen=True), row("other", eligible=False, reason=f"paused {name}")),
        learned=(learned,),
        shares=((name, 3), ("other", 1)),
        savings=Savings(
            queries=2, recorded=1, spent_usd=(0.01, 0.02), dearest_usd=(0.1, 0.2), quality=0.8, dearest_quality=0.9
        ),
        dearest=name,
        alerts=(Alert(candidate=name, shift=-0.3, labels=40),),
        receipt=f"applied {name}",
        progress=f"running {name}",
        message=f"{name} has joined",
        judges=name,
        graded=True,
    )


def test_whatever_a_name_an_answer_or_an_error_says_it_stays_text() -> None:
    shown = views.panels(screen(EVIL))
    answer = views.answered(Answer(source="", text=EVIL))
    trouble = views.trouble(EVIL)
    for html in (*map(inert, shown.values()), inert(answer), inert(trouble)):
        found = Tags(html)
        assert not {"img", "script", "a"} & set(found.tags)
        assert not any(name.startswith("on") for name, _ in found.attributes)
        assert not set("${}`") & set(html)
    assert sum(EVIL in Tags(inert(html)).text for html in (*shown.values(), answer, trouble)) >= 12


def test_the_table_of_candidates_has_units_and_marks_the_chosen_row() -> None:
    html = views.candidates(choice(row("a", chosen=True), row("b", recorded=None, eligible=False, reason="paused")))
    found = Tags(html)
    for words in ("US cents", "Waiting time", "0 to 1", "recorded, US cents"):
        assert words in found.text
    rows = re.findall(r"<tr[^>]*data-candidate[^>]*>.*?</tr>", html)
    assert len(rows) == 2
    assert 'aria-current="true"' in rows[0] and "aria-current" not in rows[1]
    assert 'data-candidate="a"' in rows[0] and "excluded" in rows[1]
    assert [Tags(rows[0]).text.count(part) for part in ("0.800", "0.12", "3.2", "0.410", "0.75", "0.2")][:5] == [1] * 5
    assert Tags(rows[1]).text.endswith("––")


def test_own_queries_have_no_true_columns() -> None:
    html = views.candidates(choice(row("a", recorded=None, chosen=True), sample=False))
    assert "True" not in html


def test_stacked_bars_stand_on_both_sides_of_zero_and_add_up() -> None:
    html = views.why(choice(row("a", chosen=True), row("b", score=0.1)))
    places = [tuple(map(float, found)) for found in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", html)]
    zero = float(re.findall(r'<b style="left:([\d.]+)%', html)[0])
    quality, cost, unsure = places[:3]
    assert quality[0] == pytest.approx(zero) and cost[0] + cost[1] == pytest.approx(zero, abs=0.02)
    assert unsure[0] == pytest.approx(quality[0] + quality[1], abs=0.02)
    assert quality[1] / cost[1] == pytest.approx(3.0, rel=0.01)
    assert max(left + width for left, width in places) <= 100.01
    assert "feedback" not in html  # no LLM has that part
    assert "quality +0.600 · cost −0.200 · unsure +0.010" in Tags(html).text


def test_the_choice_is_one_sentence() -> None:
    drawn = choice(row("a", chosen=True), explored=True)
    assert Tags(views.chosen(choice(row("a", chosen=True)))).text == (
        "a has the best score at a very low budget: an expected quality of 0.80 for 0.12 US cents, in about 3.2 s."
    )
    assert "was drawn to learn more about it" in views.chosen(drawn)


def test_what_would_have_to_change_is_told_in_cents() -> None:
    made = choice(row("a", chosen=True), row("b"))
    assert Tags(views.counterfactual(made)).text == (
        "b is behind by 0.050. To draw level it would need an expected quality of 0.900 instead of 0.800, "
        "or a cost of 0.05 instead of 0.12 US cents."
    )
    change = made.counterfactual
    assert change is not None
    nothing = replace(change, quality=None, cost_usd=None)
    assert "no single change helps" in views.counterfactual(replace(made, counterfactual=nothing))
    assert "has a better score, by 0.020" in views.counterfactual(
        replace(made, counterfactual=replace(change, gap=-0.02))
    )
    assert "no runner-up" in views.counterfactual(replace(made, counterfactual=None))


def test_who_was_excluded_is_told_with_the_reason() -> None:
    assert "Nobody was excluded" in views.excluded(choice(row("a", chosen=True)))
    out = row("b", eligible=False, reason="denied for this call")
    assert Tags(views.excluded(choice(row("a", chosen=True), out))).text == "b: denied for this call"


def test_what_was_learned_is_told_with_its_interval_and_its_change() -> None:
    text = Tags(views.panels(screen("a"))["learned"]).text
    for words in ("12.4", "0.5000", "0.400 to 0.600", "+0.0100", "0.7000", "−0.0100"):
        assert words in text
    unknown = LearnedRow(
        name="new", labels=0.0, mean=None, low=None, high=None, moved=0.0, expected=None, expected_before=None
    )
    assert Tags(views.learned([unknown])).text.endswith("new0–±0–")


def test_savings_shares_and_alerts() -> None:
    shown = views.panels(screen("a"))
    assert "90.0 %" in shown["savings"] and "2 US cents spent, instead of 20 for always a" in shown["savings"]
    assert "(−0.100)" in shown["savings"] and "recorded outcomes for 1 query" in shown["savings"]
    assert "75 % (3)" in shown["shares"] and "25 % (1)" in shown["shares"] and "4 queries, in %" in shown["shares"]
    assert "−0.30 since 40 labels" in Tags(shown["alerts"]).text
    assert "none" in views.alerts(())
    assert "Nothing was spent yet" in views.savings(None, "a")


def test_a_recorded_outcome_stands_for_an_answer_that_nobody_has() -> None:
    known = Recorded(quality=0.75, cost_usd=0.0002, response_tokens=1234.0)
    text = Tags(views.answered(Answer(source="", text="", recorded=known))).text
    assert text == "True quality0.75 of 1True cost0.02 US centsLength1,234 tokens"


@pytest.mark.parametrize(
    ("usd", "said"), [(0.15, "15"), (0.0123456, "1.23"), (1e-7, "0.00001"), (-0.001, "−0.1"), (12.0, "1,200")]
)
def test_cents(usd: float, said: str) -> None:
    assert views.cents(usd) == said


# -- drawings and colours --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visit() -> Iterator[Visit]:
    stage = make_stage()
    made = Visit(stage, seed=0)
    yield made
    made.close()
    stage.close()


def test_the_curve_is_drawn_with_every_llm_and_the_present_point(visit: Visit) -> None:
    visit.ask("code code w1", "Medium")
    html = drawings.curve(visit.curve())
    svg = ElementTree.fromstring(re.findall(r"<svg.*?</svg>", html, re.DOTALL)[0])
    words = " ".join(svg.itertext())
    for text in ("US cents per query (log scale)", "Mean quality, 0 to 1", "you are here", *visit.names):
        assert text in words
    assert "var(--ours)" in html and "#0b5fcc" not in html
    assert "two LLMs" in drawings.curve(None)


def test_spending_is_drawn_from_nothing_to_its_sum() -> None:
    made = screen("a").savings
    assert made is not None and views.spending(None) == ""
    html = views.spending(made)
    dearest, spent = re.findall(r'points="([^"]+)"', html)
    assert dearest == "0.00,100.00 50.00,50.00 100.00,0.00" and spent == "0.00,100.00 50.00,95.00 100.00,90.00"
    assert "Sum in US cents over the 2 queries" in html and "After 2 queries 2 US cents, instead of 20." in html


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255.0 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("role", ["ink", "muted", "ours", "bad", "rival-2"])
def test_texts_have_enough_contrast_on_page_and_cards(role: str, dark: bool) -> None:
    own = {name: re.findall(rf"--{name}: (#\w{{6}})", style())[dark] for name in ("raised", "bad")}
    colour = own.get(role) or COLOURS[role][dark]
    for ground in (COLOURS["page"][dark], own["raised"]):
        bright, dim = sorted((_luminance(colour), _luminance(ground)), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5  # WCAG 2, level AA


def test_the_style_fetches_nothing() -> None:
    assert not re.search(r"@import|url\((?![\"']?data:)", style())
