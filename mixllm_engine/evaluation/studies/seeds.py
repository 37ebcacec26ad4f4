"""Which seeds a study runs with, and in how many processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mixllm_engine.evaluation.parallel import each
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
        """Return the figures of a study on a pool, from what `work` measures for each seed; see `parallel.each`."""
        by_seed = each(work, self.values, f"{study}, {pool}", jobs=self.jobs, progress=self.progress)
        return collect(study, pool, by_seed)
