"""The demo without a mouse: the keyboard is enough, and Tab goes in the order of reading."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.app.demo_browser import looks
from tests.app.demo_browser.steps import CONTROLS, RECORDED, ask_sample, box, chosen, renewed


def test_the_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator("#sample input")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(box(page)).not_to_have_value("")
    page.keyboard.press("Tab")
    expect(box(page)).to_be_focused()
    with renewed(page, "candidates"):
        page.keyboard.press("Enter")
    name = chosen(page)
    page.keyboard.press("Tab")
    expect(page.locator("#budget").get_by_label("Medium", exact=True)).to_be_focused()
    with renewed(page, "candidates"):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#choice")).to_contain_text("at a high budget")
    with renewed(page, "candidates"):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#choice")).to_contain_text("at a very high budget")
    expect(page.locator("#up")).to_be_enabled()
    page.keyboard.press("Tab")
    expect(page.locator("#ask")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#up")).to_be_focused()
    with renewed(page, "receipt"):
        page.keyboard.press("Space")
    expect(page.locator("#receipt")).to_contain_text("thumbs up")
    expect(page.locator("#up")).to_be_focused()  # and the next key goes on from there
    assert name in RECORDED


def test_tab_reaches_every_control_in_the_order_of_reading(page: Page) -> None:
    ask_sample(page)
    stops = looks.tab_stops(page)
    order = list(dict.fromkeys(stop["home"] for stop in stops))
    assert [home for home in order if home in CONTROLS] == list(CONTROLS)
    assert [stop["home"] for stop in stops if not stop["visible"]] == []
