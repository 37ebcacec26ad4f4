"""Two minutes of traffic over a provider that fails; MIXLLM_TEST_SOAK_S asks for more (1800 = half an hour).

How many questions a second this machine manages is told, and is no condition.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("MIXLLM_TEST_SOAK_S", "120"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")
def test_nothing_leaks_and_nothing_is_credited_wrongly() -> None:
    command = [sys.executable, "-m", "tests.soak", "--seconds", str(SECONDS), "--rate", "50"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    sys.stdout.write(done.stdout)  # shown if it fails, or with -rP
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    assert "questions a second" in done.stdout
