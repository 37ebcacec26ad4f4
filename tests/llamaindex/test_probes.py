"""The 46 probes, in a process that has no `mcp`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .probes import PROBES


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.llamaindex.probes"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_there_are_46() -> None:
    assert len(PROBES) == 46


@pytest.mark.parametrize("name", PROBES)
def test_probe(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == "ok"
