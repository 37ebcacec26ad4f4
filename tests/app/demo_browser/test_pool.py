"""An LLM joins and leaves; a name or a query that can't be used is explained."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.app.demo_browser.browser import picture
from tests.app.demo_browser.steps import NEWCOMER, RECORDED, ask_sample, choose, join, names, renewed

ALL_REFRESHED_MS = 2000.0


def test_an_llm_is_added_and_removed(page: Page) -> None:
    ask_sample(page)
    with renewed(page, "candidates"):
        join(page, NEWCOMER)
    for panel in ("candidates", "learned"):
        assert {*names(page, panel)} >= {*RECORDED, NEWCOMER}
    picture(page, "added")

    choose(page, "remove-name", NEWCOMER)
    with renewed(page, "candidates"):
        page.locator("#remove").click()
    expect(page.locator("#pool-message")).to_contain_text(f"{NEWCOMER} has left")
    for panel in ("candidates", "learned"):
        assert NEWCOMER not in names(page, panel) and {*names(page, panel)} >= {*RECORDED}


@pytest.mark.parametrize(("model", "why"), [("nobody/nothing-1", "price"), ("", "name")], ids=["unknown", "empty"])
def test_an_llm_that_cannot_be_added_is_explained(page: Page, model: str, why: str) -> None:
    if model:
        choose(page, "add-model", model)
    page.locator("#add").click()
    trouble = page.locator("#pool-message .trouble")
    expect(trouble).to_contain_text(why)
    page.wait_for_timeout(ALL_REFRESHED_MS)
    expect(trouble).to_contain_text(model)
    assert "Traceback" not in page.locator("body").inner_text()
    assert sorted(names(page, "learned")) == list(RECORDED)


def test_an_empty_query_is_explained(page: Page) -> None:
    page.locator("#ask").click()
    expect(page.locator("#choice .trouble")).to_contain_text("empty")
    page.wait_for_timeout(ALL_REFRESHED_MS)
    expect(page.locator("#choice .trouble")).to_contain_text("empty")
    ask_sample(page)
    expect(page.locator("#choice .trouble")).to_have_count(0)
