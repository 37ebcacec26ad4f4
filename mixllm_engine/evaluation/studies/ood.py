"""Queries of a domain that was never fitted on: what is lost, and what feedback brings back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.frontier import gain_at_equal_cost
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.prices import candidates
from mixllm_engine.evaluation.replay import Feedback
from mixllm_engine.evaluation.studies.continual import GRID, Mode, curve
from mixllm_engine.evaluation.studies.figures import Figure, Measured
from mixllm_engine.evaluation.studies.seeds import Seeds
from mixllm_engine.evaluation.workbench import Workbench
from mixllm_engine.types import Matrix

_LEAST_QUERIES = 40


def ood(
    data: FullFeedback,
    bench: Workbench,
    seeds: Seeds,
    *,
    config: RouterConfig | None = None,
    grid: Sequence[float] = GRID,
    feedback: Feedback = "refined",
) -> list[Figure]:
    """Leave one domain out after the other; half of its queries are the stream.

    Parameters
    ----------
    data : FullFeedback
        The pool. Domains of fewer than 40 queries are not left out.
    bench : Workbench
        Makes the routers.
    seeds : Seeds
        Halves and streams.
    config : RouterConfig, optional
        Settings; the default ones by default.
    grid : sequence of float
        Values of lambda, in units of the dearest LLM's mean cost.
    feedback : str
        What comes back online; see `replay`.

    Returns
    -------
    list of Figure
        For each domain, and for their mean: mean quality over the grid without and with online learning, after a fit
        with (``seen``) and without (``unseen``) the other half of the domain's queries; and the relative difference of
        unseen to seen in percent, at equal lambda (``offline %``, ``online %``, the paper's form) and at equal cost.
    """
    work = partial(
        _one,
        data=data,
        bench=bench,
        config=config or RouterConfig.default(),
        grid=tuple(grid),
        feedback=feedback,
    )
    return seeds.figures("ood", data.name, work)


def _one(
    seed: int,
    *,
    data: FullFeedback,
    bench: Workbench,
    config: RouterConfig,
    grid: Sequence[float],
    feedback: Feedback,
) -> Measured:
    found: Measured = {}
    sold = candidates(data)
    domains = [parts for parts in data.by_domain() if len(parts[2]) >= _LEAST_QUERIES]
    for domain, others, own in domains:
        half, stream = own.split(0.5, seed)
        points: dict[tuple[str, str], Matrix] = {}
        for fit, train in {"seen": others.joined(half), "unseen": others}.items():
            for back in dict.fromkeys(("none", feedback)):
                mode = Mode(feedback=back, config=config)
                points[fit, back] = np.array([run.point for run in curve(mode, train, stream, bench, sold, grid, seed)])
        found |= {(domain, "default", measure): value for measure, value in _losses(points, feedback).items()}
    measures = dict.fromkeys(measure for _, _, measure in found)
    for measure in measures:
        values = [value for key, value in found.items() if key[2] == measure]
        found["mean of domains", "default", measure] = float(np.mean(values))
    return found


def _losses(points: Mapping[tuple[str, str], Matrix], feedback: Feedback) -> dict[str, float]:
    measured: dict[str, float] = {}
    for phase, back in {"offline": "none", "online": feedback}.items():
        seen, unseen = points["seen", back], points["unseen", back]
        qualities = {"seen": float(seen[:, 1].mean()), "unseen": float(unseen[:, 1].mean())}
        measured |= {f"{fit} {phase}": quality for fit, quality in qualities.items()}
        measured[f"{phase} %"] = 100.0 * (qualities["unseen"] / qualities["seen"] - 1.0)
        measured[f"{phase} % at equal cost"] = gain_at_equal_cost(unseen, seen)
    return measured
