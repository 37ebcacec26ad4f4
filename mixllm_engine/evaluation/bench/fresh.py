"""Run parts of the benchmark in processes of their own, and an LLM server beside them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import mixllm_engine
from mixllm_engine.testing import Reply, ScriptedServer

_LONGEST_S: Final = 300.0


class FreshProcessError(RuntimeError):
    """A process of the benchmark failed; the message is the last line that it wrote."""


def printed(arguments: Sequence[str]) -> str:
    """Run Python with some arguments and return what it prints.

    Raises
    ------
    FreshProcessError
        If it fails, or is not done after five minutes.
    """
    try:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, env=_environment(), timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired as error:
        raise FreshProcessError(f"not done after {_LONGEST_S:.0f} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise FreshProcessError(lines[-1])
    return done.stdout


@contextmanager
def llm_server(models: Sequence[str], delay_s: float = 0.0) -> Iterator[str]:
    """Run a scripted server in a process of its own; yields its address.

    In the client's process it would compete with the client for the interpreter, and hide what a router costs.

    Parameters
    ----------
    models : sequence of str
        Which models it serves.
    delay_s : float
        How long it thinks about each answer.
    """
    command = [sys.executable, "-m", __name__, "--delay", str(delay_s), *models]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise FreshProcessError("the server did not start")
            yield address
        finally:
            process.stdin.close()  # it serves until then


def _environment() -> dict[str, str]:
    """Return an environment in which this very package is found, and nothing is fetched from the network."""
    root = str(Path(mixllm_engine.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    offline = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "TOKENIZERS_PARALLELISM": "false"}
    return {**offline, **os.environ, "PYTHONPATH": path}


def _serve() -> None:
    parser = argparse.ArgumentParser(description="Answer chat completions until standard input ends.")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    with ScriptedServer() as server:
        for model in given.models:
            server.script(model, Reply(text="It depends on what you ask.", delay_s=given.delay))
        sys.stdout.write(server.base_url + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    _serve()
