"""The command line as tests run it: in this process, or in one of its own where that makes a difference."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mixllm_engine import Candidate, Router

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


def process(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
    """Run the command line in a process of its own, into pipes."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=ROOT, env={**os.environ, **(env or {})}, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def terminal(*arguments: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run the command line on a terminal of 100 columns; returns what a person sees, signs of control included."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", **(env or {})}
    running = subprocess.Popen(
        command(*arguments), stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=environment, close_fds=True
    )
    os.close(slave)
    shown = b""
    with suppress(OSError), open(master, "rb", buffering=0) as file:  # EIO: the other side is closed
        while some := file.read(4096):
            shown += some
    running.wait()
    return shown.decode()


def command(*arguments: str | Path) -> list[str]:
    """Return what starts the command line."""
    return [sys.executable, "-m", "mixllm_engine.app.cli", *map(str, arguments)]


def pool() -> list[Candidate]:
    """Return two candidates whose prices LiteLLM's map does not know."""
    return [
        Candidate(name="cheap", model="openai/cheap", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4),
        Candidate(
            name="dear", model="openai/dear", input_usd_per_mtok=2.0, output_usd_per_mtok=8.0, supports_tools=True
        ),
    ]


def router(store: Path | None, **settings: Any) -> Router:
    """Return a router over `pool` with the packaged encoder."""
    return Router(settings.pop("candidates", pool()), store=store, **{"seed": 0, **settings})
