"""A provider in a process of its own, which fails by lot. It says its address, and ends with its standard input."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from subprocess import PIPE, Popen

from mixllm_engine.testing import Cut, Failure, Hang, Malformed, Reply, ScriptedServer
from mixllm_engine.testing.behaviours import Behaviour, RecordedRequest

NAMES = ("cheap", "middle", "dear")
# A question with this word in it is answered slowly, so that its client can leave in the middle.
SLOWLY = "slowly"

_FAULTS: Sequence[tuple[float, Callable[[str], Behaviour]]] = (
    (0.04, lambda text: Failure(status=429, retry_after_s=1.0)),
    (0.04, lambda text: Failure(status=500)),
    (0.005, lambda text: Hang(seconds=20.0)),
    (0.02, lambda text: Cut(text=text, after_tokens=0)),
    (0.02, lambda text: Cut(text=text, after_tokens=2)),
    (0.01, lambda text: Cut(text=text, after_tokens=1, clean=True)),
    (0.01, lambda text: Malformed(body="<html>busy</html>")),
    (0.03, lambda text: Reply(text=text, delay_s=0.3)),
    (0.02, lambda text: Reply(text=text, token_delay_s=0.1)),
)


def behave(request: RecordedRequest) -> Behaviour:
    """Answer with one's own name and the token of the question, or fail; the same for the same question."""
    messages = request.body["messages"]
    assert isinstance(messages, list)
    question = str(messages[-1]["content"])
    token = question.split()[-1]
    text = f"{request.model} {token} done"
    if SLOWLY in question:
        return Reply(text=text, token_delay_s=0.4)
    lot = random.Random(f"{request.model} {token}")
    drawn = lot.random()
    for share, fault in _FAULTS:
        if drawn < share:
            return fault(text)
        drawn -= share
    return Reply(text=text, delay_s=lot.uniform(0.0, 0.05))


@contextmanager
def provider() -> Iterator[str]:
    """Start the provider; yields its address."""
    with Popen([sys.executable, "-m", "tests.soak.provider"], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def main() -> None:
    """Serve until the standard input is closed."""
    ended = threading.Event()
    with ScriptedServer() as server:
        for name in NAMES:
            server.script(name, behave)
        sys.stdout.write(server.base_url + "\n")
        sys.stdout.flush()
        threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
        while not ended.wait(1.0):
            server.clear()  # else its records would fill the memory


def _wait_for_end(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    main()
