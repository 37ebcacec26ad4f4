"""MixLLM in five minutes, on real data and a real local model, without any key.

(a) learn from real graded outcomes of three LLMs and report, on other queries, what routing saves;
(b) route a LangChain chain and a LlamaIndex query engine with ONE router between two local candidates, grade the
    answers, feed the grades back, and watch the better candidate win;
(c) give a late feedback from a second process.

Exits 0 only if all three parts held.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the three parts are modules beside this file

from rich.console import Console

from examples.quickstart_parts import late_feedback, local_models, recorded_outcomes


def main() -> int:
    """Run the three parts; returns the exit code."""
    console = Console(width=110)
    started = time.perf_counter()
    held = {"(a) savings on real outcomes": recorded_outcomes.run(console)}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "mixllm.db"
        held["(b) learning with local models"], decision_id = local_models.run(console, store)
        held["(c) late feedback from a second process"] = late_feedback.run(console, store, decision_id)
    console.rule("result")
    for part, ok in held.items():
        console.print(f"{'held' if ok else 'DID NOT HOLD':14}{part}")
    console.print(f"{time.perf_counter() - started:.0f} s")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
