"""A changing world: an LLM gets worse, or cheaper, in the middle of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.events import Decay, Event, PriceChange, decayed, repriced, with_price
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.prices import candidates
from mixllm_engine.evaluation.replay import Feedback, Replay, in_units_of, replay
from mixllm_engine.evaluation.studies.figures import Figure, Measured
from mixllm_engine.evaluation.studies.seeds import Seeds
from mixllm_engine.evaluation.studies.shares import Taken, by_window, queries_until, share
from mixllm_engine.evaluation.studies.variants import ready_for_drift
from mixllm_engine.evaluation.workbench import Workbench
from mixllm_engine.types import Candidate

OFFLINE_SHARE = 0.3
GRID = (3.0, 10.0)
KEEPS = 0.5
PRICE_FACTOR = 0.1
PATIENCE = 300
MOVED = 0.8
# Where even somebody who knows of the change would move less than this share, there is nothing to measure.
_WORTH_MOVING = 0.05


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A change, whom it befalls, and what somebody who knows of it would fit on and buy from."""

    name: str
    candidate: str
    event: Event
    informed: FullFeedback
    sold: Sequence[Candidate]


def drift(
    data: FullFeedback,
    bench: Workbench,
    seeds: Seeds,
    *,
    configs: Mapping[str, RouterConfig] | None = None,
    grid: Sequence[float] = GRID,
    feedback: Feedback = "refined",
) -> list[Figure]:
    """Replay a stream undisturbed, and with each change at its middle.

    Parameters
    ----------
    data : FullFeedback
        The pool; 30 % of it is fitted on.
    bench : Workbench
        Makes the routers.
    seeds : Seeds
        Splits and streams.
    configs : mapping of str to RouterConfig, optional
        `variants.ready_for_drift` by default; the first is what the stationary cost of the others is measured against.
    grid : sequence of float
        Values of lambda, in units of the dearest LLM's mean cost.
    feedback : str
        What comes back; see `replay`.

    Returns
    -------
    list of Figure
        Setting ``stationary``: mean quality and utility, and their relative difference to the first configuration in
        percent. Settings ``quality halved`` (of the LLM with most traffic) and ``price cut`` (of the dearest, to a
        tenth): its share ``before``; of the queries 251 to 300 afterwards; the ``informed`` share that a router fitted
        with the change in its data gives it on the same queries; how much of the way between them was ``moved %`` by
        then; ``queries`` until 80 % of it was moved in the latest 50 (never counts as the rest of the stream), and in
        how many percent of the seeds that was ``in time %``, within 300. For halved quality also ``fallen %``: the part
        of the old share that was gone by then. Moves are left out of seeds in which the informed share is within 0.05
        of the old one. Files also have the share in every window of 50 queries from the event on.
    """
    work = partial(
        _one,
        data=data,
        bench=bench,
        configs=dict(configs or ready_for_drift()),
        grid=tuple(grid),
        feedback=feedback,
    )
    return seeds.figures("drift", data.name, work)


def _one(
    seed: int,
    *,
    data: FullFeedback,
    bench: Workbench,
    configs: Mapping[str, RouterConfig],
    grid: Sequence[float],
    feedback: Feedback,
) -> Measured:
    found: Measured = {}
    train, stream = data.split(OFFLINE_SHARE, seed)
    trial = _Trial(bench=bench, train=train, stream=stream, sold=candidates(data), feedback=feedback, seed=seed)
    for willingness in grid:
        base: Replay | None = None
        for name, config in configs.items():
            quiet = trial.run(config, willingness)
            base = base or quiet
            stationary = _stationary(quiet, base, willingness, train.reference_cost_usd)
            for case, measures in {"stationary": stationary, **trial.changed(config, willingness, quiet)}.items():
                found |= {(f"{case}, lambda {willingness:g}", name, m): value for m, value in measures.items()}
    return found


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """One seed's data, and the streams that are replayed over it."""

    bench: Workbench
    train: FullFeedback
    stream: FullFeedback
    sold: Sequence[Candidate]
    feedback: Feedback
    seed: int

    def run(self, config: RouterConfig, willingness: float, *events: Event) -> Replay:
        """Replay the whole stream with a router that was fitted before any change."""
        fitted = self.bench.fitted(self.train, config, seed=self.seed, sold_as=self.sold)
        lam = in_units_of(config, willingness, self.train.reference_cost_usd)
        options: dict[str, Any] = {"feedback": self.feedback, "events": events, "seed": self.seed}
        return replay(fitted, self.stream, willingness_to_pay=lam, **options)

    def changed(self, config: RouterConfig, willingness: float, quiet: Replay) -> dict[str, dict[str, float]]:
        """Measure how traffic follows each change at the middle of the stream."""
        middle = len(self.stream) // 2
        rest = self.stream.take(range(middle, len(self.stream)))
        lam = in_units_of(config, willingness, self.train.reference_cost_usd)
        measured = {}
        for case in _cases(self.train, self.sold, quiet, middle, self.seed):
            informed = self.bench.fitted(case.informed, config, seed=self.seed, sold_as=case.sold)
            goal = replay(informed, rest, willingness_to_pay=lam).takes(case.candidate)
            taken = self.run(config, willingness, case.event).takes(case.candidate)
            measured[case.name] = migration(taken, middle, share(goal))
        return measured


def _cases(train: FullFeedback, sold: Sequence[Candidate], quiet: Replay, middle: int, seed: int) -> Iterator[_Case]:
    leader = max(quiet.names, key=lambda name: share(quiet.takes(name)[:middle]))
    yield _Case(
        name="quality halved",
        candidate=leader,
        event=Decay(at=middle, candidate=leader, keeps=KEEPS),
        informed=decayed(train, leader, KEEPS, seed),
        sold=sold,
    )
    dearest = train.names[train.dearest]
    yield _Case(
        name="price cut",
        candidate=dearest,
        event=PriceChange(at=middle, candidate=dearest, factor=PRICE_FACTOR),
        informed=with_price(train, dearest, PRICE_FACTOR),
        sold=[repriced(c, PRICE_FACTOR) if c.name == dearest else c for c in sold],
    )


def _stationary(run: Replay, base: Replay, willingness: float, reference: float) -> dict[str, float]:
    utility, base_utility = run.utility(willingness, reference), base.utility(willingness, reference)
    return {
        "quality": run.point[1],
        "utility": utility,
        "quality %": 100.0 * (run.point[1] / base.point[1] - 1.0),
        "utility %": 100.0 * (utility - base_utility) / abs(base_utility),
    }


def migration(taken: Taken, at: int, informed: float) -> dict[str, float]:
    """Measure how a share of traffic follows a change; see `drift`.

    Parameters
    ----------
    taken : array of shape (n,), bool
        Which queries the candidate answered.
    at : int
        Row of the change.
    informed : float
        The share that it should have afterwards.
    """
    before, after = share(taken[:at]), taken[at:]
    then = share(after[PATIENCE - 50 : PATIENCE])
    measured = {"before": before, "after 300": then, "informed": informed}
    measured |= {f"[share +{50 * place}": value for place, value in enumerate(by_window(after))}
    if abs(informed - before) < _WORTH_MOVING:
        return measured
    if informed < before:
        measured["fallen %"] = 100.0 * (1.0 - then / before)
    measured["moved %"] = 100.0 * (then - before) / (informed - before)
    goal = before + MOVED * (informed - before)
    needed = queries_until(after, goal, rising=informed > before)
    measured["queries"] = len(after) if needed is None else needed
    measured["in time %"] = 100.0 * (needed is not None and needed <= PATIENCE)
    return measured
