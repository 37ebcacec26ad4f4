"""What a visitor teaches the router: with thumbs, with the recorded quality, and with samples in a row."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.app.demo_browser.browser import picture
from tests.app.demo_browser.steps import RECORDED, ask_sample, cell, judge, labels, mean, run


def test_thumbs_change_what_is_learned(page: Page) -> None:
    name = ask_sample(page)
    others = [one for one in RECORDED if one != name]
    before, means = labels(page, name), [mean(page, one) for one in others]
    started = mean(page, name)
    expected = cell(page, "learned", name, "Expected here")

    assert f"applied: thumbs up for {name}" in judge(page, "up")
    assert labels(page, name) == before + 1
    praised = mean(page, name)
    assert praised > started
    assert cell(page, "learned", name, "Moved by you") > 0
    assert cell(page, "learned", name, "Expected here") > expected

    assert f"replaced: thumbs down for {name}" in judge(page, "down")
    assert labels(page, name) == before + 1  # the second thumb stands in for the first
    assert mean(page, name) < started < praised
    assert cell(page, "learned", name, "Moved by you") < 0
    assert [mean(page, one) for one in others] == means
    picture(page, "thumbs")


def test_the_recorded_quality_can_be_fed_back(page: Page) -> None:
    name = ask_sample(page, 2)
    before, started = labels(page, name), mean(page, name)
    true = cell(page, "candidates", name, "True quality")
    receipt = judge(page, "grade")
    assert f"the recorded quality {true:.2f} for {name}" in receipt
    assert labels(page, name) == before + 1
    moved = mean(page, name) - started
    assert (moved > 0) == (true > started)
    assert moved == pytest.approx((true - started) / (before + 1), abs=2e-4)


def test_samples_in_a_row_move_shares_and_savings(page: Page) -> None:
    ask_sample(page)
    before = sum(labels(page, name) for name in RECORDED)
    spent = page.locator("#savings").inner_text()
    run(page)
    expect(page.locator("#shares")).to_contain_text("Share of this visit's 21 queries")
    counts = [int(count) for count in re.findall(r"\((\d+)\)", page.locator("#shares").inner_text())]
    assert sum(counts) == 21
    assert sum(labels(page, name) for name in RECORDED) == pytest.approx(before + 20)
    assert page.locator("#savings").inner_text() != spent
    expect(page.locator("#spending svg:visible")).to_have_count(1)
    picture(page, "stream")
