"""The blocks of docs/commands.md run as one session, and every command has its place on the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from mixllm_engine.app.cli import app
from mixllm_engine.app.ending import EXIT_CODES
from tests.app.running import ROOT

PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """Run all blocks in one shell that stops at the first error."""
    folder = tmp_path_factory.mktemp("session")
    programs = tmp_path_factory.mktemp("bin")
    for name, arguments in (("python", ""), ("mixllm", "-m mixllm_engine.app.cli ")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    script = "set -euo pipefail\n" + "\n".join(BLOCK.findall(PAGE))
    environment = {name: value for name, value in os.environ.items() if name != "MIXLLM_STORE"}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=folder, env=environment, check=False, timeout=300
    )


@pytest.mark.slow
def test_every_block_runs(session: subprocess.CompletedProcess[str]) -> None:
    assert session.returncode == 0, session.stdout + session.stderr
    assert session.stderr == "mixllm: there is no store 'typo.db'; give the path or URL that the router was made with\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "said",
    [
        r"^applied: openai/gpt-4o(-mini)? got 1 from 'user'\n^duplicate: .*\n^replaced: .*\n^applied: .* 'support'$",
        r"^candidate +quality +cost \$.* score$",
        r"^feedback replaced +1\n",
        r"^learned from 4 queries; saved in state$",
        r"^\d+ rows written to log.jsonl\n\d+ rows read from log.jsonl$",
        r"^written to mixllm-report/report.html$",
        r"^exit code 1\ndecisions +20\nopenai/gpt-4o-mini +20 ",
    ],
)
def test_the_session_says_what_the_page_promises(said: str, session: subprocess.CompletedProcess[str]) -> None:
    assert re.search(said, session.stdout, re.MULTILINE), session.stdout


def test_every_command_has_its_section() -> None:
    names = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}
    headings = " ".join(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))
    assert {name for name in names if not re.search(rf"\b{name}\b", headings)} <= {"demo"}  # it has a page of its own


def test_the_exit_codes_of_the_page_are_those_of_the_help() -> None:
    table = re.findall(r"^\| (\d+) \| (\w+)", PAGE, re.MULTILINE)
    assert table == re.findall(r"(\d+) (\w+)", EXIT_CODES)
