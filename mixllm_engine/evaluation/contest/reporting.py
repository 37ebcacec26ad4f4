"""What a contest measured -> a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from mixllm_engine.evaluation.contest.intervals import interval, resampled
from mixllm_engine.evaluation.contest.measures import measures, regret
from mixllm_engine.evaluation.contest.overall import Round, Rules
from mixllm_engine.evaluation.contest.policy import Planned
from mixllm_engine.evaluation.contest.run import run
from mixllm_engine.evaluation.report.model import (
    OURS,
    About,
    Band,
    Contest,
    Contestant,
    Report,
    Role,
    Saving,
    Score,
    Single,
)
from mixllm_engine.evaluation.report.over_time import Regret, Shares, Trace, Waiting, Waits
from mixllm_engine.evaluation.systems import BOUNDS, LEARNERS, ORACLE
from mixllm_engine.types import Vector

_SAVINGS: Final = (97.25, 99.0)
_DRAWS_SEED: Final = 0
_GRID: Final = 60
# What happens over time is shown where an answer of full quality is worth about so many calls to the dearest LLM.
_SHOWN_WILLINGNESS: Final = 10.0
_SHOWN_WAITS: Final = 4
_OF_THE_DEAREST: Final = (
    "There, costs are in percent of the dearest LLM's, and there is nothing to save against the best."
)


def contest_report(about: About, held: Mapping[Rules, Sequence[Round]], notes: Sequence[str] = ()) -> Report:
    """Sum up one or more contests on the same pool.

    Parameters
    ----------
    about : About
        How the numbers came about.
    held : mapping of Rules to sequence of Round
        Contests; the first is the headline's. Shares and regret over time are those of the first, waiting times those
        of the first under load.
    notes : sequence of str
        What to know before believing it.
    """
    first = next(iter(held.values()))
    free = sum(_best_is_free(one) for one in first)
    if free:
        notes = [*notes, f"The best single LLM of {free} of {len(first)} splits is free. {_OF_THE_DEAREST}"]
    loaded = [rounds for rules, rounds in held.items() if rules.max_wait_s is not None]
    return Report(
        about=about,
        contests=tuple(_contest(rules, rounds) for rules, rounds in held.items()),
        shares=_shares(first) if OURS in first[0].curves else None,
        regret=_regret(first) if ORACLE in first[0].curves else None,
        waiting=_waiting(loaded[0]) if loaded else None,
        notes=tuple(notes),
    )


def _contest(rules: Rules, rounds: Sequence[Round]) -> Contest:
    names = list(rounds[0].curves)
    by_split = [measures(one.curves, one.task) for one in rounds]
    values = {key: [told[key] for told in by_split] for key in by_split[0]}
    draws = {name: resampled([one.outcomes(name) for one in rounds], seed=_DRAWS_SEED) for name in names}
    return Contest(
        name=rules.setting[0].upper() + rules.setting[1:],
        about=_circumstances(rounds),
        savings=_savings(values, draws, rounds) if OURS in names else (),
        contestants=tuple(_contestant(name, values, draws, rounds) for name in names),
        singles=_singles(rounds),
    )


def _circumstances(rounds: Sequence[Round]) -> str:
    traffic = rounds[0].task.traffic
    if traffic is None:
        return "Every answer comes at once, and no call waits for another."
    return (
        f"{traffic.queries_per_s:g} queries come every second, each LLM serves {traffic.slots} calls at once, and an "
        f"answer that takes longer than {traffic.max_wait_s:g} s is worth nothing. Speeds are simulated: the dearer an "
        "LLM, the slower."
    )


Values = Mapping[tuple[str, str], Sequence[float]]
Draws = Mapping[str, Mapping[str, Vector]]


def _best_is_free(one: Round) -> bool:
    stream = one.task.stream
    return not stream.cost_usd[:, stream.best].any()


def _savings(values: Values, draws: Draws, rounds: Sequence[Round]) -> tuple[Saving, ...]:
    found: list[Saving] = []
    if any(map(_best_is_free, rounds)):
        return ()  # nobody saves anything against what costs nothing
    for percent in _SAVINGS:
        measure = f"cost@{percent:g}"
        cost = interval(float(np.mean(values[OURS, measure])), draws[OURS][measure])
        stream = rounds[0].task.stream
        found.append(
            Saving(
                quality_percent=percent,
                best=stream.names[stream.best],
                cost_percent=cost,
                missed_percent=float(np.mean(values[OURS, f"missed@{percent:g} %"])),
            )
        )
    return tuple(found)


def _contestant(name: str, values: Values, draws: Draws, rounds: Sequence[Round]) -> Contestant:
    scores = {}
    for (system, measure), own in values.items():
        if system != name or measure.startswith("missed"):
            continue
        difference = None
        if OURS in draws and name != OURS and measure in draws[name]:
            gap = float(np.mean(own) - np.mean(values[OURS, measure]))
            difference = interval(gap, draws[name][measure] - draws[OURS][measure])
        missed = values.get((name, f"missed@{measure.removeprefix('cost@')} %"), (0.0,))
        scores[measure] = Score.of(own, difference, missed_percent=float(np.mean(missed)))
    role: Role = "ours" if name == OURS else "bound" if name in BOUNDS else "rival"
    band = Band.of([one.curves[name].points for one in rounds], _costs(rounds))
    return Contestant(name=name, role=role, scores=scores, band=band)


def _costs(rounds: Sequence[Round]) -> Vector:
    """Return the costs at which hulls are read: from below the cheapest LLM to the dearest."""
    spend = np.array([one.task.stream.cost_usd.mean(axis=0) for one in rounds])
    positive = spend[spend > 0]  # LLMs may be free
    low = float(positive.min()) if len(positive) else 1e-9
    grid: Vector = np.geomspace(low, max(float(spend.max()), 2.0 * low), _GRID)
    return grid


def _singles(rounds: Sequence[Round]) -> tuple[Single, ...]:
    """Let each LLM answer everything, under the same circumstances."""
    found = []
    for column, name in enumerate(rounds[0].task.stream.names):
        alone = [run(Planned(np.full(len(one.task.stream), column)), one.task) for one in rounds]
        cost = float(np.mean([one.cost_usd.mean() for one in alone]))
        found.append(Single(name=name, cost_usd=cost, quality=float(np.mean([one.quality.mean() for one in alone]))))
    return tuple(found)


def _shown(rounds: Sequence[Round]) -> tuple[int, str]:
    grid = rounds[0].task.grid
    place = int(np.abs(grid - _SHOWN_WILLINGNESS).argmin())
    return place, f"willingness to pay {grid[place]:.3g}"


def _shares(rounds: Sequence[Round]) -> Shares:
    place, setting = _shown(rounds)
    return Shares.of(rounds[0].curves[OURS].column[place], rounds[0].task.stream.names, setting)


def _regret(rounds: Sequence[Round]) -> Regret | None:
    place, setting = _shown(rounds)
    grid = len(rounds[0].task.grid)
    learners = [name for name, curve in rounds[0].curves.items() if name in LEARNERS and len(curve.quality) == grid]
    traces = tuple(
        Trace.of(name, np.stack([regret(one.curves[name], one.curves[ORACLE], one.task, place) for one in rounds]))
        for name in learners
    )
    if not traces:
        return None
    return Regret(setting=setting, unit="in quality, less its cost", against="the oracle", traces=traces)


def _waiting(rounds: Sequence[Round]) -> Waiting | None:
    one = rounds[0]
    traffic = one.task.traffic
    if traffic is None:
        return None
    best = {name: int(curve.points[:, 1].argmax()) for name, curve in one.curves.items()}
    reached = {name: float(one.curves[name].points[place, 1]) for name, place in best.items() if name not in BOUNDS}
    order = sorted(reached, key=lambda name: (name != OURS, -reached[name]))[:_SHOWN_WAITS]
    waits = tuple(Waits.of(name, one.curves[name].latency_s[best[name]], traffic.queries_per_s) for name in order)
    return Waiting(setting="each at its highest quality", max_wait_s=traffic.max_wait_s, waits=waits)
