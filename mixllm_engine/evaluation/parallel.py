"""The same work for many items, one after the other or in several processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from typing import TypeVar

from mixllm_engine.encoding.progress import shown

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, *, jobs: int = 1, progress: bool = False
) -> list[Result]:
    """Return what `work` makes of each item, in their order, whatever the number of processes.

    Parameters
    ----------
    work : callable
        With several jobs a partial of a module's function.
    items : sequence
        What it is given.
    what : str
        Stands before the progress bar.
    jobs : int
        Processes.
    progress : bool
        Show a progress bar.
    """
    # fork would copy the threads' locks of an ONNX session
    pool = ProcessPoolExecutor(jobs, get_context("spawn")) if jobs > 1 else nullcontext()
    with pool as processes:
        results = map(work, items) if processes is None else processes.map(work, items)
        return list(shown(results, what, len(items), progress))
