"""Everything can be read, in light, in dark and on a narrow screen; labels and units are there."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.app.demo_browser import looks
from tests.app.demo_browser.browser import Visitors, picture
from tests.app.demo_browser.steps import CONTROLS, PANELS, fill

THEMES = {"light": ("", "light"), "dark": ("", "dark"), "asked dark": ("?__theme=dark", "light")}


@pytest.mark.parametrize("theme", sorted(THEMES))
def test_everything_can_be_read(visitors: Visitors, theme: str) -> None:
    query, scheme = THEMES[theme]
    page = visitors.open(query, color_scheme=scheme)
    assert ("dark" in theme) == page.evaluate("document.body.classList.contains('dark')")
    fill(page)
    picture(page, f"full {theme}")
    assert looks.faint(page) == []
    assert looks.collisions(page, (*CONTROLS, *PANELS)) == []
    assert looks.cut_off(page) == []


def test_labels_and_units_are_there(page: Page) -> None:
    fill(page)
    heads = " ".join(page.locator("#candidates thead").inner_text().split())
    for wanted in (
        "Expected quality 0 to 1",
        "Expected cost US cents",
        "Waiting time s",
        "True cost recorded, US cents",
    ):
        assert wanted in heads
    assert "with 95 % interval" in page.locator("#learned thead").inner_text()
    curve = page.locator("#curve").inner_text()
    assert "US cents per query" in curve and "Mean quality, 0 to 1" in curve
    spending = page.locator("#spending").inner_text()
    assert "US cents" in spending and "queries of this visit" in spending
    assert "in %" in page.locator("#shares").inner_text()
    assert "US cents" in page.locator("#savings").inner_text()
    unnamed = page.locator("input:visible, textarea:visible, button:visible").evaluate_all(
        "all => all.filter(one => !one.labels?.length && !one.ariaLabel && !one.innerText.trim())"
        ".map(one => one.outerHTML)"
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_has_all_of_it(visitors: Visitors, scheme: str) -> None:
    page = visitors.open(viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True, color_scheme=scheme)
    fill(page)
    wide, screen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= screen == 400
    for control in CONTROLS:
        place = page.locator(f"#{control}")
        frame = place.bounding_box()
        assert frame is not None and frame["x"] >= 0 and frame["x"] + frame["width"] <= 400, control
        target = place if place.evaluate("one => one.matches('button')") else place.locator("input, textarea").first
        target.click(trial=True)  # it can be scrolled to, and nothing lies over it
    picture(page, f"narrow {scheme}")
    assert looks.faint(page) == []
    assert looks.collisions(page, (*CONTROLS, *PANELS)) == []
    assert looks.cut_off(page) == []
