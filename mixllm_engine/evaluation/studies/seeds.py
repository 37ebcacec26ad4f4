"""Run the same work for every seed, one after the other or in several processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context

from mixllm_engine.encoding.progress import shown
from mixllm_engine.evaluation.studies.figures import Figure, Measured, collect


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Which seeds, and how they are run; what comes out does not depend on `jobs`.

    Attributes
    ----------
    values : tuple of int
        The seeds. Each decides the split, the order of the stream and every draw.
    jobs : int
        Processes.
    progress : bool
        Show a progress bar.
    """

    values: tuple[int, ...]
    jobs: int = 1
    progress: bool = False

    def figures(self, study: str, pool: str, work: Callable[[int], Measured]) -> list[Figure]:
        """Return the figures of a study on a pool, from what `work` measures for each seed; see `map`."""
        return collect(study, pool, self.map(work, f"{study}, {pool}"))

    def map(self, work: Callable[[int], Measured], what: str) -> list[Measured]:
        """Return what `work` measured for each seed; with several jobs it must be a partial of a module's function."""
        # fork would copy the threads' locks of an ONNX session
        pool = ProcessPoolExecutor(self.jobs, get_context("spawn")) if self.jobs > 1 else nullcontext()
        with pool as processes:
            results = map(work, self.values) if processes is None else processes.map(work, self.values)
            return list(shown(results, what, len(self.values), self.progress))
