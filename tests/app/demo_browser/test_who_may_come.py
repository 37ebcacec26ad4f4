"""Strangers need the token, visitors see nothing of each other, and nothing that they write is run."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from mixllm_engine.testing import ScriptedServer
from tests.app.demo_browser import browser
from tests.app.demo_browser.browser import Demo, Visitors
from tests.app.demo_browser.steps import (
    NEWCOMER,
    RECORDED,
    TOKEN,
    answers,
    ask,
    ask_sample,
    box,
    choose,
    chosen,
    judge,
    labels,
    pick,
)

RAN = "window.__ran='it'"
SCRIPT = f'<img src=x onerror="{RAN}"><script>{RAN}</script>${{{RAN}}}{{{{{RAN}}}}}'


def test_other_machines_need_the_token(shared: Demo) -> None:
    with httpx.Client(base_url=shared.url) as stranger:
        for path in ("/", "/config", "/gradio_api/info", "/assets/none.js"):
            assert stranger.get(path).status_code == 401, path
        assert stranger.post("/gradio_api/queue/join", json={}).status_code == 401
        assert stranger.get("/", params={"token": TOKEN[:-1]}).status_code == 401
        assert not stranger.cookies


def test_the_link_with_the_token_opens_the_page(open_page: Page) -> None:
    assert TOKEN not in open_page.url
    ask(_filled(open_page, "Hello?"))
    cookies = open_page.context.cookies()
    assert [cookie["httpOnly"] for cookie in cookies if cookie["value"] == TOKEN] == [True]


def _filled(page: Page, text: str) -> Page:
    box(page).fill(text)
    return page


def test_visitors_see_nothing_of_each_other(visitors: Visitors) -> None:
    one, other = visitors.open(), visitors.open()
    text = pick(one, 0)
    name = ask(one)
    expect(other.locator("#candidates tr[data-candidate]")).to_have_count(0)
    ask_sample(other, 9)
    for thumb in ("up", "down"):
        judge(other, thumb)
    assert text[-60:] not in other.content()  # the list of samples shows how each begins
    assert chosen(one) == name
    assert box(one).input_value() == text
    expect(one.locator("#receipt")).to_have_text("")
    expect(one.locator("#shares")).to_contain_text("1 query")
    assert sum(labels(one, each) for each in RECORDED) == sum(labels(other, each) for each in RECORDED) - 1


def test_who_asks_before_the_page_has_begun_shares_nothing(visitors: Visitors) -> None:
    """The page gets its visit from its first event; until that has come, there is no visit that a query could go to."""
    for _ in range(2):
        page = visitors.blank()
        held = hold_the_first(page, "**/gradio_api/queue/join*")
        page.goto(visitors.url, wait_until="commit")
        box(page).wait_for()
        page.wait_for_timeout(1000)
        if box(page).is_enabled():
            box(page).fill("What is the capital of France?")
            box(page).press("Enter")
            page.wait_for_timeout(1000)
        assert not page.locator("#candidates tr[data-candidate]").count()
        held[0].continue_()
        browser.ready(page)
        box(page).fill("What is the capital of France?")
        ask(page)
        expect(page.locator("#shares")).to_contain_text("1 query")


def hold_the_first(page: Page, address: str) -> list[Route]:
    """Keep the first request to an address back, and let the others through."""
    held: list[Route] = []

    def handle(route: Route) -> None:
        if held:
            route.continue_()
        held.append(route)

    page.route(address, handle)
    return held


@pytest.mark.parametrize("where", ["query and answer", "added model"])
def test_what_others_wrote_is_never_run(open_page: Page, scripted: ScriptedServer, where: str) -> None:
    if where == "added model":
        choose(open_page, "add-model", SCRIPT)
        open_page.locator("#add").click()
        expect(open_page.locator("#pool-message .trouble")).to_contain_text("<img src=x onerror=")
    else:
        answers(scripted, NEWCOMER, f"See: {SCRIPT} !")
        box(open_page).fill(SCRIPT)
        ask(open_page)
        expect(open_page.locator("#up")).to_be_enabled()
        expect(open_page.locator("#answer")).to_contain_text(f"See: {SCRIPT} !")
    open_page.wait_for_timeout(300)  # what would run may take a moment
    assert open_page.evaluate("window.__ran") is None
    assert open_page.locator("img[src=x]").count() == 0
