"""Chromium, two demos that run while the tests of this folder do, and their visitors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, Page

from mixllm_engine.testing import ScriptedServer
from tests.app.demo_browser import browser
from tests.app.demo_browser.browser import Demo, Visitors
from tests.app.demo_browser.steps import KEY, NEWCOMER, SECOND, TOKEN, answers, join


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as running:
        yield running


@pytest.fixture(scope="package")
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture(scope="package")
def started(tmp_path_factory: pytest.TempPathFactory, scripted: ScriptedServer) -> Iterator[tuple[Demo, Demo]]:
    """Start both demos at once: each learns for some seconds before it opens."""
    answering = {"OPENAI_API_KEY": KEY, "OPENAI_API_BASE": scripted.base_url}
    with ExitStack() as stack:
        alone = stack.enter_context(browser.demo(tmp_path_factory.mktemp("demo")))
        folder = tmp_path_factory.mktemp("open")
        shared = stack.enter_context(browser.demo(folder, "--host", "0.0.0.0", "--token", TOKEN, **answering))
        yield alone, shared


@pytest.fixture(scope="package")
def demo(started: tuple[Demo, Demo]) -> Demo:
    """The demo as a new user starts it: on this machine, without any key."""
    return started[0].wait()


@pytest.fixture(scope="package")
def shared(started: tuple[Demo, Demo]) -> Demo:
    """A demo that other machines can reach, behind a token; its LLMs answer, from a scripted server."""
    return started[1].wait()


@contextmanager
def visiting(chromium: Browser, demo: Demo) -> Iterator[Visitors]:
    """Let visitors in who must have nothing to complain of at the end."""
    arriving = Visitors(chromium, demo.url)
    try:
        yield arriving
    finally:
        arriving.close()
    assert not arriving.watch.complaints


@pytest.fixture
def visitors(chromium: Browser, demo: Demo) -> Iterator[Visitors]:
    with visiting(chromium, demo) as arriving:
        yield arriving


@pytest.fixture
def page(visitors: Visitors) -> Page:
    return visitors.open()


@pytest.fixture
def open_page(chromium: Browser, shared: Demo, scripted: ScriptedServer) -> Iterator[Page]:
    """A page of the demo where an LLM has joined whose key is set."""
    scripted.clear()
    for name in (NEWCOMER, SECOND):
        answers(scripted, name, "It is blue, as far as I know.")
    with visiting(chromium, shared) as arriving:
        page = arriving.open(f"?token={TOKEN}")
        join(page, NEWCOMER)
        yield page


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a measured time whether or not the test passes."""

    def saying(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")  # noqa: T201

    return saying
