"""A sample query: what is expected beside what is true, whose parts add up, and what a budget changes."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app.demo_browser.browser import numbers, picture
from tests.app.demo_browser.steps import RECORDED, ask_sample, cell, names, set_budget


def test_a_sample_shows_what_is_expected_beside_what_is_true(page: Page) -> None:
    name = ask_sample(page)
    assert sorted(names(page, "candidates")) == list(RECORDED)
    assert page.locator("#choice").inner_text().startswith(name)
    for one in RECORDED:
        for head in ("Expected quality", "True quality"):
            assert 0.0 <= cell(page, "candidates", one, head) <= 1.0
        assert cell(page, "candidates", one, "Expected cost") > 0.0
        assert cell(page, "candidates", one, "True cost") > 0.0
        assert cell(page, "candidates", one, "Waiting time") > 0.0
    best = max(RECORDED, key=lambda one: cell(page, "candidates", one, "Score"))
    if "has the best score" in page.locator("#choice").inner_text():
        assert name == best
    answer = numbers(page.locator("#answer").inner_text())
    assert cell(page, "candidates", name, "True quality") == answer[0]
    assert cell(page, "candidates", name, "True cost") == pytest.approx(answer[2], rel=0.01)
    expect(page.locator("#judges")).to_contain_text(name)
    expect(page.locator("#excluded")).to_contain_text("Nobody was excluded")
    picture(page, "sample")


def test_the_parts_of_every_score_add_up(page: Page) -> None:
    ask_sample(page)
    set_budget(page, "Very Low")  # where every part counts
    rows = page.locator("#why li:has(.stack)").all()
    assert len(rows) == len(RECORDED)
    drawn, scores = [], []
    for row in rows:
        name, score = row.locator(".who").inner_text(), numbers(row.locator(".score").inner_text())[0]
        parts = [numbers(part)[0] for part in row.locator(".told").inner_text().split("·")]
        assert sum(parts) == pytest.approx(score, abs=0.0006 * (len(parts) + 1)), name
        assert score == cell(page, "candidates", name, "Score")
        drawn.append(row.evaluate(_DRAWN))
        scores.append(score)
    legend = page.locator("#why .legend li").all_inner_texts()
    assert {part.strip() for part in legend} >= {"quality", "cost"}
    # The bars have one scale: what is right of the line at 0, less what is left of it, is the score.
    scale = max(drawn) / max(scores)
    assert [bar / scale for bar in drawn] == pytest.approx(scores, abs=0.01)


_DRAWN = """
row => {
  const zero = row.querySelector('.stack b').getBoundingClientRect();
  const at = (zero.left + zero.right) / 2;
  return [...row.querySelectorAll('.stack i')].map(part => part.getBoundingClientRect())
    .reduce((sum, part) => sum + ((part.left + part.right) / 2 > at ? 1 : -1) * part.width, 0);
}
"""


def test_what_would_have_to_change_fits_the_table(page: Page) -> None:
    ask_sample(page)
    first, second = names(page, "candidates")[:2]
    gap = cell(page, "candidates", first, "Score") - cell(page, "candidates", second, "Score")
    told = page.locator("#counterfactual").inner_text()
    assert told.startswith(f"{second} is behind by ")
    assert numbers(told.removeprefix(second))[0] == pytest.approx(gap, abs=0.0011)
    expected = cell(page, "candidates", second, "Expected quality")
    if needed := re.search(r"an expected quality of (\S+) instead of (\S+)[.,]", told):
        assert float(needed[1]) > float(needed[2]) == expected


def test_the_budget_alters_the_choice(page: Page) -> None:
    """A larger budget never takes an LLM that is expected to be both dearer and worse."""
    found = []
    for place in range(6):
        ask_sample(page, place)
        low, high = set_budget(page, "Very Low"), set_budget(page, "Very High")
        if low != high:
            assert cell(page, "candidates", low, "Expected cost") < cell(page, "candidates", high, "Expected cost")
            found.append((low, high))
            break
    assert found, "no sample was found whose choice depends on the budget"
    expect(page.locator("#curve")).to_contain_text("you are here")
    expect(page.locator("#shares")).to_contain_text("queries" if place else "1 query")  # a change counts no query
    picture(page, "budget")
