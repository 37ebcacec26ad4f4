"""The paper's adaptive study: LLMs that join while a router serves, without any label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.events import Arrival
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.prices import candidates
from mixllm_engine.evaluation.replay import Feedback, Replay, in_units_of, replay
from mixllm_engine.evaluation.studies.figures import Figure, Measured
from mixllm_engine.evaluation.studies.seeds import Seeds
from mixllm_engine.evaluation.studies.shares import by_window, queries_until, share
from mixllm_engine.evaluation.workbench import Workbench

OFFLINE_SHARE = 0.3
GRID = (3.0, 10.0, 30.0)
ARRIVES_AT = 200
PATIENCE = 300
SETTLED = 0.9
_LAST_PART = 0.3


def adaptive(
    data: FullFeedback,
    bench: Workbench,
    seeds: Seeds,
    *,
    config: RouterConfig | None = None,
    grid: Sequence[float] = GRID,
    feedback: Feedback = "refined",
) -> list[Figure]:
    """Hold out LLMs that an informed router would use, and add them after 200 queries of a stream.

    Parameters
    ----------
    data : FullFeedback
        The pool, of three candidates or more; 30 % of it is fitted on, without the LLMs that are held out.
    bench : Workbench
        Makes the routers.
    seeds : Seeds
        Splits and streams.
    config : RouterConfig, optional
        Settings; the default ones by default.
    grid : sequence of float
        Values of lambda, in units of the dearest LLM's mean cost.
    feedback : str
        What comes back; see `replay`.

    Returns
    -------
    list of Figure
        For each lambda. Where ``one`` was added, the one that an informed router would use most: its ``final`` share
        (in the last 30 % of the stream), the ``informed`` share that a router gives it that was fitted with it, and the
        former ``of informed`` in percent, without which an early end of a small share would look like success;
        ``queries`` from its arrival until its share in the latest 50 was 90 % of the final one (never counts as the
        rest of the stream), and in how many percent of the seeds that was ``in time %``, within 300. Exploring draws
        are not counted in shares. Where ``two`` were added, the two that an informed router would use most, the dearest
        left aside (the paper adds two cheap ones): quality per dollar on the queries from 300 behind the arrival on,
        ``without`` and ``with`` the two, the ``rise %`` between these, and that of quality and of utility.
    """
    work = partial(
        _one,
        data=data,
        bench=bench,
        config=config or RouterConfig.default(),
        grid=tuple(grid),
        feedback=feedback,
    )
    return seeds.figures("adaptive", data.name, work)


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
    train, stream = data.split(OFFLINE_SHARE, seed)
    sold = candidates(data)
    for willingness in grid:
        lam = in_units_of(config, willingness, train.reference_cost_usd)

        def run(held_out: Sequence[str], arrive: bool, feedback: Feedback, lam: float = lam) -> Replay:
            fitted = bench.fitted(train, config, seed=seed, without=held_out, sold_as=sold)
            events = [Arrival(at=ARRIVES_AT, candidate=name) for name in held_out if arrive]
            return replay(fitted, stream, willingness_to_pay=lam, feedback=feedback, events=events, seed=seed)

        informed = run((), False, "none")
        liked = sorted(data.names, key=lambda name: -share(informed.takes(name)))
        pair = [name for name in liked if name != data.names[data.dearest]][:2]
        known = share(informed.takes(liked[0])[ARRIVES_AT:])
        one = _arrival(run(liked[:1], True, feedback), liked[0], known)
        two = _pair(run(pair, False, feedback), run(pair, True, feedback), willingness, train.reference_cost_usd)
        for added, measured in {"one": one, "two": two}.items():
            setting = f"{added} added, lambda {willingness:g}"
            found |= {(setting, "default", measure): value for measure, value in measured.items()}
    return found


def _arrival(run: Replay, name: str, informed: float) -> dict[str, float]:
    last = int((1.0 - _LAST_PART) * len(run.chosen))
    free = ~run.explored
    final = share(run.takes(name)[last:][free[last:]])
    taken = run.takes(name)[ARRIVES_AT:]
    # an exploring draw is not a choice: it counts neither for nor against the newcomer
    chosen_at = np.flatnonzero(free[ARRIVES_AT:])
    needed = queries_until(taken[chosen_at], SETTLED * final, rising=True)
    queries = len(taken) if needed is None else int(chosen_at[needed - 1]) + 1
    measured = {"final": final, "informed": informed}
    if informed > 0.0:
        measured["of informed %"] = 100.0 * final / informed
    if final > 0.0:
        measured |= {"queries": queries, "in time %": 100.0 * (needed is not None and queries <= PATIENCE)}
    return measured | {f"[share +{50 * place}": value for place, value in enumerate(by_window(taken))}


def _pair(without: Replay, joined: Replay, willingness: float, reference_cost_usd: float) -> dict[str, float]:
    settled = min(ARRIVES_AT + PATIENCE, len(without.chosen) // 2)
    runs = [run.since(settled) for run in (without, joined)]
    per_dollar = [run.point[1] / run.point[0] for run in runs]
    quality = [run.point[1] for run in runs]
    utility = [run.utility(willingness, reference_cost_usd) for run in runs]
    return {
        "per dollar without": per_dollar[0],
        "with": per_dollar[1],
        "rise %": 100.0 * (per_dollar[1] / per_dollar[0] - 1.0),
        "quality without": quality[0],
        "quality with": quality[1],
        "quality %": 100.0 * (quality[1] / quality[0] - 1.0),
        "utility %": 100.0 * (utility[1] - utility[0]) / abs(utility[0]),
    }
