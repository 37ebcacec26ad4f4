"""(c) Feedback that arrives later, from another process, by nothing but the decision's id."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console


def run(console: Console, store: Path, decision_id: str) -> bool:
    """Run ``mixllm feedback`` and count before and after; returns whether the store took it, once."""
    console.rule("(c) a late feedback from a second process")
    before = mixllm("stats", "--store", str(store), "--json")
    receipt = mixllm("feedback", decision_id, "1.0", "--store", str(store), "--json")
    again = mixllm("feedback", decision_id, "1.0", "--store", str(store), "--json")
    after = mixllm("stats", "--store", str(store), "--json")
    console.print(f"mixllm feedback {decision_id} 1.0 --store {store.name}")
    console.print(f"  {receipt['status']}, credited to {receipt['candidate']}; sent again: {again['status']}")
    console.print(f"  feedback in the store: {before['feedback']} before, {after['feedback']} after")
    statuses = (receipt["status"], again["status"])
    return statuses == ("applied", "duplicate") and int(after["feedback"]) == int(before["feedback"]) + 1


def mixllm(*arguments: str) -> dict[str, Any]:
    """Run the command line in a process of its own and read its JSON."""
    command = [sys.executable, "-m", "mixllm_engine.app.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
