"""What it costs to have MixLLM in a process: seconds to import it, and memory to serve with it.

Every measurement takes a process of its own, which for memory is `mixllm_engine.evaluation.bench.serving`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from mixllm_engine.evaluation.bench.calls import MODELS
from mixllm_engine.evaluation.bench.fresh import FreshProcessError, llm_server, printed
from mixllm_engine.evaluation.bench.report import Budget, Row, compared
from mixllm_engine.evaluation.bench.timing import Timed

_IMPORT_S: Final = 0.3
_MEMORY_MB: Final = 400.0
_ENGINE: Final = "import mixllm_engine"
_IMPORTS: Final = (
    _ENGINE,
    "from mixllm_engine import Router",
    "from langchain_mixllm import ChatMixLLM",
    "from pareto_bandit import BanditRouter",
)
_SERVING: Final = "mixllm_engine.evaluation.bench.serving"
_TIMED_IMPORT: Final = (
    "import time; before = time.perf_counter_ns(); {statement}; print(time.perf_counter_ns() - before)"
)


def import_times(rounds: int, statements: Sequence[str] = _IMPORTS) -> list[Row]:
    """Time imports in new processes, in turn; the best counts, since the first one may wait for the disk."""
    spent: dict[str, list[float]] = {statement: [] for statement in statements}
    notes = dict.fromkeys(statements, "")
    for _ in range(rounds):
        for statement in (known for known in statements if not notes[known]):
            try:
                nanoseconds = int(printed(["-W", "ignore", "-c", _TIMED_IMPORT.format(statement=statement)]))
            except FreshProcessError as error:
                notes[statement] = f"can't be imported: {error}"
            else:
                spent[statement].append(nanoseconds * 1e-9)
    return compared(
        {s: Timed(seconds=np.reshape(spent[s], (-1, 1)), note=notes[s]) for s in statements},
        part="import, in a new process",
        setting=f"best of {rounds}",
        unit="s",
        against=_ENGINE,
        budgets={_ENGINE: Budget(of="best", limit=_IMPORT_S)},
    )


def memory(*, quick: bool) -> list[Row]:
    """Measure the most memory that serving processes have held; in a quick run those that load the least."""
    budget = Budget(of="p50", limit=_MEMORY_MB)
    return [
        _memory_row("MixLLM, 100 decisions from texts", lambda: _serving("decide"), budget),
        _memory_row("MixLLM, 100 calls through LiteLLM", _too_long if quick else _calling, budget),
        _memory_row("ParetoBandit, 100 decisions from texts", _too_long if quick else _pareto_serving, None),
    ]


def _memory_row(system: str, serve: Callable[[], dict[str, Any]], budget: Budget | None) -> Row:
    row = Row(part="memory of a serving process", setting="peak", system=system, unit="MB", budget=budget)
    try:
        found = serve()
    except FreshProcessError as error:
        return replace(row, note=str(error))
    heavy = ", ".join(found["loaded"]) or "neither torch nor LiteLLM"
    return replace(row, best=found["peak_mb"], p50=found["peak_mb"], count=1, note=f"loaded: {heavy}")


def _serving(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(["-W", "ignore", "-m", _SERVING, *arguments]))
    return found


def _pareto_serving() -> dict[str, Any]:
    return _serving("paretobandit")


def _too_long() -> dict[str, Any]:
    raise FreshProcessError("measured in a full run only")


def _calling() -> dict[str, Any]:
    with llm_server(MODELS) as address:
        return _serving("call", "--address", address)
