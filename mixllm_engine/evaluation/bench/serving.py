"""A process that serves a hundred queries and says how much memory it has needed.

It imports what a server would import, and hardly anything else.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

_QUERIES: Final = 100
_WORDS: Final = 20
_CANDIDATES: Final = 10
_HEAVY: Final = ("torch", "litellm", "langchain_core", "llama_index")


def decide() -> None:
    """Decide on texts."""
    from mixllm_engine.encoding.encoder import OnnxEncoder
    from mixllm_engine.evaluation.bench.deciders import MixLLMText
    from mixllm_engine.evaluation.bench.inputs import names_of, texts_of

    system = MixLLMText(names_of(_CANDIDATES), OnnxEncoder())
    for text in texts_of(_WORDS, _QUERIES):
        system.decide(text)


def call(address: str) -> None:
    """Decide on texts and call the chosen model through LiteLLM."""
    from mixllm_engine.evaluation.bench.calls import litellm_clients
    from mixllm_engine.evaluation.bench.inputs import texts_of

    clients = litellm_clients(address)
    for text in texts_of(_WORDS, _QUERIES):
        clients.routed(text)


def decide_with_paretobandit() -> None:
    """Decide on texts with ParetoBandit."""
    from mixllm_engine.evaluation.bench.inputs import names_of, texts_of
    from mixllm_engine.evaluation.bench.rivals import ParetoText

    system = ParetoText(names_of(_CANDIDATES))
    for text in texts_of(_WORDS, _QUERIES):
        system.decide(text)


def peak_mb() -> float:
    """Return the most physical memory that this process has held, in MB (10^6 bytes).

    Raises
    ------
    OSError
        If the system does not tell.
    """
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, where getrusage counts what the parent held before this process began
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError as error:
        raise OSError("this system does not tell how much memory a process has held") from error
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def main() -> None:
    """Serve, then print the peak and what heavy packages were loaded, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["decide", "call", "paretobandit"])
    parser.add_argument("--address", default="", help="of an LLM server, for calls")
    given = parser.parse_args()
    match given.what:
        case "decide":
            decide()
        case "call":
            call(given.address)
        case _:
            decide_with_paretobandit()
    loaded = [name for name in _HEAVY if name in sys.modules]
    sys.stdout.write(json.dumps({"peak_mb": peak_mb(), "loaded": loaded}) + "\n")


if __name__ == "__main__":
    main()
