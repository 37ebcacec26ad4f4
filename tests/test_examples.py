"""Every example runs to its end, on real local models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.local_model
def test_the_quickstart_holds_in_all_three_parts() -> None:
    done = subprocess.run(
        [sys.executable, "examples/quickstart.py"], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("held          (") == 3
