"""What routing adds to a LangChain chat model, beside other routers: measured by `langchain_mixllm._bench_overhead`.

The engine imports no framework, so this only starts that module in a process of its own and adds the versions.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from mixllm_engine.evaluation.bench.fresh import FreshProcessError, printed
from mixllm_engine.evaluation.bench.report import BenchReport, Row
from mixllm_engine.evaluation.bench.suite import about_here

_MODULE: Final = "langchain_mixllm._bench_overhead"
_RIVALS: Final = ("langchain-model-router", "routesmith-llm")


def langchain_overhead(*, quick: bool = False, clock: Callable[[], float] = time.time) -> BenchReport:
    """Time LangChain's bare chat model, ours and other routers on one server, in one run.

    Parameters
    ----------
    quick : bool
        Measure so little that it takes seconds; good for a look, too little for a claim.
    clock : callable
        Seconds since the epoch, for the report.

    Returns
    -------
    BenchReport
        A row for every system, also for those that are not installed.
    """
    began, load_before = clock(), _load()
    try:
        found = json.loads(printed(["-W", "ignore", "-m", _MODULE, *(["--quick"] if quick else [])]))
    except FreshProcessError as error:
        found = [Row(part="LangChain chat models", setting="", system="all", unit="ms", note=str(error)).as_dict()]
    here = about_here()
    about: dict[str, Any] = here | {
        "packages": here["packages"] | {name: _version(name) for name in _RIVALS},
        "quick": quick,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "took_s": round(clock() - began, 1),
        "load_before": load_before,
        "load_after": _load(),
    }
    return BenchReport(rows=tuple(Row.from_dict(row) for row in found), about=about)


def _load() -> float | None:
    """Return the load of the last minute, where the system tells: figures of a busy machine say little."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
