"""The demo as its visitors meet it: a process of its own, and Debian's Chromium before it.

The browser can reach nothing but this machine. Whatever a visitor could find broken is a complaint: an error on the
console, a script that threw, a request that failed, and any request that would have left the machine.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).parents[3]
CHROMIUM = Path(os.environ.get("MIXLLM_TEST_CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    # Names other than this machine's don't resolve, so that a forgotten address fails even where there is a network.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)  # fmt: skip
LOOPBACK = ("127.0.0.1", "localhost", "::1")
START_S = 300.0
END_S = 30.0
STEP_MS = 60_000.0  # for one step of a visitor, on a machine that does other things as well


# The server


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A demo that was started."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def printed(self) -> str:
        """Return all that it wrote so far, to standard output and error."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self) -> Demo:
        """Wait until it can be visited."""
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if httpx.get(self.url, timeout=10.0).status_code in (200, 401):
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"`mixllm demo` did not start: {self.printed()[-3000:]}")


def keyless(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a user who has set nothing up."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ") if name in os.environ}
    fixed = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return {**kept, **fixed, "HOME": str(home), "TMPDIR": str(home), **more}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@contextmanager
def demo(folder: Path, *options: str, **environment: str) -> Iterator[Demo]:
    """Start ``mixllm demo`` and end it with the block; `folder` is its working directory and its home."""
    port = free_port()
    command = [sys.executable, "-m", "mixllm_engine.app.cli", "demo", "--port", str(port), *options]
    log = folder / "demo.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=keyless(folder, **environment), stdout=out, stderr=out)
    try:
        yield Demo(url=f"http://127.0.0.1:{port}/", log=log, process=process)
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"`mixllm demo` did not end within {END_S:.0f} s of SIGTERM") from None


# The browser


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium, or fail the test with what to do."""
    if not CHROMIUM.is_file():
        pytest.fail(
            f"{CHROMIUM} is missing: install Chromium (Debian: apt-get install chromium), or name it with "
            "MIXLLM_TEST_CHROMIUM=...",
            pytrace=False,
        )
    expect.set_options(timeout=STEP_MS)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Watch:
    """What a visitor would have to complain of."""

    complaints: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        """Listen to all pages of a context."""
        context.on("request", self._requested)
        context.on("requestfailed", self._failed)
        context.on("response", self._responded)
        context.on("console", self._said)
        context.on("weberror", lambda error: self.complaints.append(f"page error: {error.error}"))

    def _requested(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname not in LOOPBACK:
            self.complaints.append(f"leaves this machine: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page itself gave it up, such as a stream that it has read
            self.complaints.append(f"failed request: {request.url} {request.failure}")

    def _responded(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"status {response.status}: {response.url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")


class Visitors:
    """Opens pages of one demo, each with a visitor of its own, and closes them all."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self.url = url
        self._opened: list[BrowserContext] = []
        self.watch = Watch()

    def open(self, query: str = "", **options: Any) -> Page:
        """Show the demo to a new visitor; `options` are those of Playwright's ``Browser.new_context``."""
        page = self.blank(**options)
        page.goto(self.url + query, wait_until="commit")
        ready(page)
        return page

    def blank(self, **options: Any) -> Page:
        """Return a new visitor's empty page, with an empty cache and no cookies."""
        context = self._browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(STEP_MS)
        self.watch.over(context)
        self._opened.append(context)
        return context.new_page()

    def close(self) -> None:
        """Close all pages."""
        for context in self._opened:
            context.close()


def ready(page: Page) -> None:
    """Wait until the page can be used."""
    page.locator("#ask:enabled, #ask button:enabled").first.wait_for()


# What a page holds


def numbers(text: str) -> list[float]:
    """Return the numbers that a text shows, such as ``"0.71 cents, 1.2 s"``."""
    return [float(found.replace("−", "-")) for found in re.findall(r"[-−]?\d+(?:\.\d+)?", text)]


def picture(page: Page, name: str) -> None:
    """Keep a picture of the whole page where MIXLLM_TEST_SCREENSHOTS names a folder."""
    if folder := os.environ.get("MIXLLM_TEST_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
