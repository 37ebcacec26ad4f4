"""What feedback adds to a fit: the paper's study of continual training, on streams through a real router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.frontier import gain_at_equal_cost
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.prices import candidates
from mixllm_engine.evaluation.replay import PLAIN_THUMBS, Feedback, Replay, Thumbs, in_units_of, replay
from mixllm_engine.evaluation.studies.figures import Figure, Measured
from mixllm_engine.evaluation.studies.seeds import Seeds
from mixllm_engine.evaluation.studies.variants import changed
from mixllm_engine.evaluation.workbench import Workbench
from mixllm_engine.types import Candidate, Matrix

SHARES = (0.8, 0.5, 0.3, 0.05)
# Values of lambda from nearly the cheapest to nearly the best, in units of the dearest LLM's mean cost. Curves are
# compared at equal cost between these points, so there must be many: with six of them, two curves that lie on the same
# line but at other costs differ by up to 0.4 %.
GRID = (0.5, 0.86, 1.5, 2.6, 4.4, 7.6, 13.0, 23.0, 39.0, 67.0, 116.0, 200.0)


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A configuration and what comes back to it; `scaled` thumbs count as the table's grades on their side."""

    feedback: Feedback
    scaled: bool = False
    config: RouterConfig = field(default_factory=RouterConfig.default)


def paper_modes() -> dict[str, Mode]:
    """Return no online training (the base of comparison), and refined and binary feedback, also for the paper's preset.

    The paper's refined feedback teaches its predictors, its binary feedback f_df alone. Without feedback it decides as
    the default does: after full feedback the uncertainty is the same for all candidates.

    ``scaled binary`` takes thumbs for the table's grades on their side of a half, which matters where those are not 0
    and 1. ``all labels`` also learns what the others would have answered. No router can have this: it is the bound of
    what online labels can teach.
    """
    return {
        "none": Mode(feedback="none"),
        "refined": Mode(feedback="refined"),
        "binary": Mode(feedback="binary"),
        "scaled binary": Mode(feedback="binary", scaled=True),
        "paper refined": Mode(feedback="refined", config=changed(RouterConfig.paper(), learning__binary="labels")),
        "paper binary": Mode(feedback="binary", config=RouterConfig.paper()),
        "all labels": Mode(feedback="all"),
    }


def continual(
    data: FullFeedback,
    bench: Workbench,
    seeds: Seeds,
    *,
    shares: Sequence[float] = SHARES,
    modes: Mapping[str, Mode] | None = None,
    grid: Sequence[float] = GRID,
) -> list[Figure]:
    """Fit on a share of a pool and replay the rest, once for each mode and lambda.

    Parameters
    ----------
    data : FullFeedback
        The pool.
    bench : Workbench
        Makes the routers.
    seeds : Seeds
        Splits and streams.
    shares : sequence of float
        Offline shares; the rest of the pool is the stream.
    modes : mapping of str to Mode, optional
        What to compare; `paper_modes` by default. The first is what the others are compared with.
    grid : sequence of float
        Values of lambda, in units of the dearest LLM's mean cost.

    Returns
    -------
    list of Figure
        By mode: mean quality and utility over the grid; then relative gains over the first mode, in percent: quality
        at equal cost, mean quality and mean utility at equal lambda. Settings are "offline:online".
    """
    named = dict(modes or paper_modes())
    work = partial(
        _one, data=data, bench=bench, sold=candidates(data), shares=tuple(shares), modes=named, grid=tuple(grid)
    )
    return seeds.figures("continual", data.name, work)


def _one(
    seed: int,
    *,
    data: FullFeedback,
    bench: Workbench,
    sold: Sequence[Candidate],
    shares: Sequence[float],
    modes: Mapping[str, Mode],
    grid: Sequence[float],
) -> Measured:
    found: Measured = {}
    for share in shares:
        train, stream = data.split(share, seed)
        setting = f"{100 * share:.0f}:{100 - 100 * share:.0f}"
        curves = {name: curve(mode, train, stream, bench, sold, grid, seed) for name, mode in modes.items()}
        found |= {(setting, *key): value for key, value in compared(curves, grid, train.reference_cost_usd).items()}
    return found


def curve(
    mode: Mode,
    train: FullFeedback,
    stream: FullFeedback,
    bench: Workbench,
    sold: Sequence[Candidate],
    grid: Sequence[float],
    seed: int,
) -> list[Replay]:
    """Replay a stream once for each lambda, each time with a fresh router."""
    return [
        replay(
            bench.fitted(train, mode.config, seed=seed, sold_as=sold),
            stream,
            willingness_to_pay=in_units_of(mode.config, willingness, train.reference_cost_usd),
            feedback=mode.feedback,
            seed=seed,
            thumbs=Thumbs.worth(train.quality) if mode.scaled else PLAIN_THUMBS,
        )
        for willingness in grid
    ]


def compared(
    curves: Mapping[str, Sequence[Replay]], grid: Sequence[float], reference_cost_usd: float
) -> dict[tuple[str, str], float]:
    """Return the measures of `continual` by curve, relative to the first curve."""
    found: dict[tuple[str, str], float] = {}
    base = next(iter(curves))
    points = {name: _points(replays) for name, replays in curves.items()}
    utility = {
        name: float(np.mean([r.utility(w, reference_cost_usd) for r, w in zip(replays, grid, strict=True)]))
        for name, replays in curves.items()
    }
    for name, curve_points in points.items():
        quality = float(curve_points[:, 1].mean())
        found[name, "quality"], found[name, "utility"] = quality, utility[name]
        if name != base:
            found[name, "equal cost %"] = gain_at_equal_cost(curve_points, points[base])
            found[name, "quality %"] = 100.0 * (quality / float(points[base][:, 1].mean()) - 1.0)
            found[name, "utility %"] = 100.0 * (utility[name] - utility[base]) / abs(utility[base])
        for willingness, (cost, reached) in zip(grid, curve_points, strict=True):
            found[name, f"[cost {willingness:g}"] = float(cost)
            found[name, f"[quality {willingness:g}"] = float(reached)
    return found


def _points(replays: Sequence[Replay]) -> Matrix:
    return np.array([run.point for run in replays])
