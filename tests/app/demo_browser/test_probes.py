"""The tests' own eyes: the probes see what is wrong, and a browser that is missing is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.app.demo_browser import browser, looks


def test_the_probes_see_what_is_wrong(chromium: Browser) -> None:
    page = chromium.new_page(viewport={"width": 800, "height": 600})
    page.set_content(
        f"""
        <style>button:focus {{ outline: none }} #seen:focus {{ outline: 2px solid blue }}</style>
        <div id="good">{"<p>text</p>" * 60}</div><p id="faint" style="color: #999">pale</p>
        <svg id="drawing" width="300" height="60"><rect width="100" height="60" fill="#333"/>
          <text x="5" y="20" fill="#222">dark</text><text x="120" y="20">one</text><text x="125" y="22">two</text>
          <text x="290" y="50">sticks out</text>
          {"".join(f'<text x="{110 + 12 * place}" y="55" font-size="6">{place}</text>' for place in range(12))}
        </svg>
        <div id="low" style="margin-top: -30px; height: 20px"></div>
        <p style="width: 50px; overflow: hidden; white-space: nowrap">much too long for this</p>
        <button id="unseen">unseen</button><button id="seen">seen</button>
        """
    )
    assert [found.split()[2] for found in looks.faint(page)] == ["#faint", "#drawing"]
    blocks = ("good", "faint", "drawing", "low", "unseen", "seen")
    assert looks.collisions(page, blocks) == [
        '#drawing: "two" over "one"', '#drawing: "sticks out" sticks out of its picture', "#low over #drawing",
    ]  # fmt: skip
    assert looks.cut_off(page) == ["P: much too long for this"]
    assert [(stop["home"], stop["visible"]) for stop in looks.tab_stops(page)] == [("unseen", False), ("seen", True)]
    page.close()


def test_without_a_browser_the_tests_say_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(browser, "CHROMIUM", tmp_path / "chromium")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"), browser.chromium():
        pass
