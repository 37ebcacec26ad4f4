"""The page needs nothing but itself, tells how it was made and who wins, and no name in it becomes code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from mixllm_engine.evaluation.report import Report, write_report
from mixllm_engine.evaluation.report.markup import Markup, element
from mixllm_engine.evaluation.report.model import OURS
from tests.evaluation.report.made import ABOUT, contest
from tests.evaluation.report.page import Page, row_of

NASTY = "</script><script>alert('$x$ & $y$')</script><!-- \"[bold]"


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
