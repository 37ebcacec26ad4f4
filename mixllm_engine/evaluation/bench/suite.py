"""The whole benchmark: every part, with the versions and the machine that it ran on."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import mixllm_engine
from mixllm_engine.encoding.progress import shown
from mixllm_engine.evaluation.bench.deciding import decisions, from_text
from mixllm_engine.evaluation.bench.footprint import import_times, memory
from mixllm_engine.evaluation.bench.fresh import FreshProcessError, printed
from mixllm_engine.evaluation.bench.report import BenchReport, Row
from mixllm_engine.evaluation.bench.storing import Sizes as StoringSizes
from mixllm_engine.evaluation.bench.storing import stored_pairs
from mixllm_engine.evaluation.bench.timing import Effort

_PACKAGES: Final = (
    "numpy",
    "pydantic",
    "SQLAlchemy",
    "onnxruntime",
    "tokenizers",
    "litellm",
    "langchain-core",
    "langchain-litellm",
    "llama-index-core",
    "paretobandit",
    "scikit-learn",
    "sentence-transformers",
    "torch",
    "mabwiser",
)
# The engine imports no framework: what is measured with one is measured by the module that belongs to it.
_CALLS: Final = {
    "RoutedClient over litellm.completion": "mixllm_engine.evaluation.bench.calls",
    "ChatMixLLM over ChatLiteLLM": "langchain_mixllm._bench",
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes
    ----------
    candidates : tuple of int
        Sizes of pools.
    words : tuple of int
        Lengths of texts.
    decisions, texts : Effort
        For decisions without encoding, and for those from texts.
    stores : StoringSizes
        Of decisions with feedback on every kind of store.
    imports : int
        How often everything is imported.
    """

    candidates: tuple[int, ...]
    words: tuple[int, ...]
    decisions: Effort
    texts: Effort
    stores: StoringSizes
    imports: int


FULL: Final = Sizes(
    candidates=(3, 10, 100, 1000),
    words=(20, 200),
    decisions=Effort(blocks=20, calls=50, warm_up=50, most_s=1.5),
    texts=Effort(blocks=20, calls=10, warm_up=10, most_s=3.0),
    stores=StoringSizes(threads=(1, 16, 128), blocks=3, pairs=1000),
    imports=5,
)
QUICK: Final = Sizes(
    candidates=(3, 10),
    words=(20,),
    decisions=Effort(blocks=2, calls=20, warm_up=10, most_s=0.2),
    texts=Effort(blocks=2, calls=5, warm_up=2, most_s=0.5),
    stores=StoringSizes(threads=(1, 128), blocks=1, pairs=128),
    imports=1,
)


def run(
    *,
    quick: bool = False,
    postgresql: str | None = None,
    progress: bool = True,
    clock: Callable[[], float] = time.time,
) -> BenchReport:
    """Measure MixLLM's speed and size beside other systems, on this machine.

    A missed budget is told, not raised: on a busy machine every one of them can be missed.

    Parameters
    ----------
    quick : bool
        Measure so little that it takes seconds; good for a look, too little for a claim.
    postgresql : str, optional
        URL of a database in which a schema may be made for a while; without it that store is not measured.
    progress : bool
        Show a progress bar.
    clock : callable
        Seconds since the epoch, for the report.

    Returns
    -------
    BenchReport
        A row for every system, also for those that are not installed.
    """
    sizes, began = QUICK if quick else FULL, clock()
    parts: list[Callable[[], Sequence[Row]]] = [
        partial(decisions, sizes.candidates, sizes.decisions),
        partial(from_text, sizes.words, sizes.texts),
        partial(stored_pairs, sizes.stores, postgresql),
        *(partial(_calls, part, module, quick) for part, module in _CALLS.items()),
        partial(import_times, sizes.imports),
        partial(memory, quick=quick),
    ]
    load_before = _load()
    rows = [row for part in shown(parts, "measuring", len(parts), progress) for row in part()]
    about = about_here() | {
        "quick": quick,
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "took_s": round(clock() - began, 1),
        "load_before": load_before,
        "load_after": _load(),
    }
    return BenchReport(rows=tuple(rows), about=about)


def about_here() -> dict[str, Any]:
    """Return the versions and the machine; a package that is not installed has no version."""
    return {
        "mixllm": mixllm_engine.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": {name: value for name, value in sorted(os.environ.items()) if name.endswith("_NUM_THREADS")},
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _calls(part: str, module: str, quick: bool) -> list[Row]:
    """Measure calls in a process of their own."""
    try:
        found = json.loads(printed(["-W", "ignore", "-m", module, *(["--quick"] if quick else [])]))
    except FreshProcessError as error:
        return [Row(part=part, setting="", system=part.split()[0], unit="ms", note=str(error))]
    return [Row.from_dict(row) for row in found]


def _load() -> float | None:
    """Return the load of the last minute, where the system tells: figures of a busy machine say little."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
