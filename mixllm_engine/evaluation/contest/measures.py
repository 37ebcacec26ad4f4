"""Numbers of a curve: what quality costs, how many answers are late, how far it stays behind the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from mixllm_engine.decision.score import trade_weights
from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.run import Curve, Run, run
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.frontier import against_singles, aiq, unit_usd
from mixllm_engine.types import Vector

_SLOWEST: Final = 95.0


def measures(curves: Mapping[str, Curve], task: Task) -> dict[tuple[str, str], float]:
    """Measure all systems on one stream.

    Returns
    -------
    dict of (str, str) to float
        By system and measure. Those of `frontier.against_singles`, where the single LLMs are measured without load;
        ``AIQ``; and at the setting with the highest mean quality that ``quality``, its ``cost`` in percent of
        `frontier.unit_usd`, and under load the percentage of ``late`` answers and the 95th percentile of the seconds
        until an answer, ``p95_s``.
    """
    spend, worth = task.stream.cost_usd.mean(axis=0), task.stream.quality.mean(axis=0)
    floor = float(cheapest(task).quality.mean())
    by_range = aiq({name: curve.points for name, curve in curves.items()})
    found: dict[tuple[str, str], float] = {}
    for name, curve in curves.items():
        told = against_singles(curve.points, spend, worth, floor) | {"AIQ": by_range[name]} | _at_its_best(curve)
        told["cost"] *= 100.0 / unit_usd(spend, worth)
        if task.traffic is None:
            del told["late"], told["p95_s"]
        found |= {(name, measure): value for measure, value in told.items()}
    return found


def cheapest(task: Task) -> Run:
    """Run always the cheapest LLM of the stream."""
    return run(Planned(np.full(len(task.stream), task.stream.cheapest)), task)


def _at_its_best(curve: Curve) -> dict[str, float]:
    place = int(curve.points[:, 1].argmax())
    cost, quality = curve.points[place]
    return {
        "quality": float(quality),
        "cost": float(cost),
        "late": 100.0 * float(curve.late[place].mean()),
        "p95_s": float(np.percentile(curve.latency_s[place], _SLOWEST)),
    }


def regret(curve: Curve, oracle: Curve, task: Task, setting: int) -> Vector:
    """Return the cumulative regret against the oracle at one lambda of the grid, shape (m,).

    A query's regret is the difference in lambda/(lambda+1) q - 1/(lambda+1) c, with c in units of the dearest LLM's
    mean cost; both curves must have one setting for each lambda.
    """
    on_quality, on_cost = trade_weights(float(task.grid[setting]))
    ahead = on_quality * (oracle.quality[setting] - curve.quality[setting])
    saved = on_cost * (oracle.cost_usd[setting] - curve.cost_usd[setting]) / task.reference_cost_usd
    total: Vector = np.cumsum(ahead - saved)
    return total
