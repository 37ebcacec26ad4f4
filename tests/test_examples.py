"""Every example runs to its end: the quickstart on real local models, the others on scripted ones."""

from __future__ import annotations

import os
import re
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


# What the last lines of each example must say; each is run as a person would run it.
SAYS = {
    "langchain.chain": r"last 60 questions:\s+(9\d|100)% right; {'cheap for capitals': \d+.* 'dear for products': \d+}",
    "langchain.rag": r"feedback applied for (cheap|dear)",
    "langchain.agent": r"Together: 1088395\nsteps: (\w+) -> \1 -> \1 -> \1\n4 decisions learned from one thumbs-up",
    "langchain.structured": r"third 10 texts: 10 answers fit the schema",
    "langchain.graph": r"(?s)monday: 700 \(\w+\)\nmonday: feedback applied.*tuesday: feedback applied",
    "langchain.langsmith_scores": r"(?s)Synced\(applied=10.*again: Synced\(applied=0, replaced=0, duplicate=10",
    "llamaindex.query_engine": r"turn 5: 4 of 4 answers good",
    "llamaindex.router_query_engine": r"last 60 questions:\s+(9\d|100)% right; {'cheap for capitals': \d+.*products'",
    "llamaindex.agent": r"Together: 1088395\nsteps: (\w+) -> \1 -> \1 -> \1\n4 decisions learned from one thumbs-up",
    "llamaindex.evaluator_loop": r"second 40 questions: (9\d|100)% found good",
    "llamaindex.shared_router": r"100 labels\nLangChain then mostly asks {'capitals': 'cheap', 'products': 'dear'}",
    "langchain.streaming_server": r"answer: 42\nfeedback: applied\ntwice: duplicate\nnonsense: 400",
}


def test_no_example_is_left_out() -> None:
    elsewhere = ("quickstart_parts", "litellm")  # the latter are run by tests/litellm/test_examples.py
    files = (path for path in (ROOT / "examples").glob("*/*.py") if path.parent.name not in elsewhere)
    assert {f"{path.parent.name}.{path.stem}" for path in files} == SAYS.keys()


@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_says_what_it_promises(name: str) -> None:
    keyless = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"], capture_output=True, text=True, cwd=ROOT, timeout=120, env=keyless
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SAYS[name], done.stdout), done.stdout
