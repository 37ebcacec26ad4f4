"""All systems on several splits of a pool: the paper's overall study, without a time limit and under load."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

from mixllm_engine.errors import ConfigError
from mixllm_engine.evaluation.contest.intervals import Outcomes
from mixllm_engine.evaluation.contest.measures import cheapest
from mixllm_engine.evaluation.contest.run import Curve, curve
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.contest.traffic import Traffic
from mixllm_engine.evaluation.parallel import each
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.systems import lineup
from mixllm_engine.evaluation.workbench import Workbench
from mixllm_engine.types import Vector


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a contest is held.

    Attributes
    ----------
    seeds : tuple of int
        One split each.
    share : float
        What is learned from; the rest of the pool is the stream.
    max_wait_s : float, optional
        tau under simulated load; without it there is neither load nor limit.
    systems : tuple of str, optional
        Who plays, by the names of `systems.lineup`; all by default.
    """

    seeds: tuple[int, ...]
    share: float = 0.5
    max_wait_s: float | None = None
    systems: tuple[str, ...] | None = None

    @property
    def setting(self) -> str:
        """Name the load, for tables."""
        return "no time limit" if self.max_wait_s is None else f"{self.max_wait_s:g} s under load"


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """One split: what all systems did on the same stream.

    Attributes
    ----------
    task : Task
        The split.
    curves : dict of str to Curve
        By system.
    """

    task: Task
    curves: dict[str, Curve]

    @cached_property
    def _cheapest_quality(self) -> Vector:
        return cheapest(self.task).quality

    def outcomes(self, name: str) -> Outcomes:
        """Return what a system and the single LLMs did, for bootstrap intervals."""
        done, stream = self.curves[name], self.task.stream
        return Outcomes(
            quality=done.quality,
            cost_usd=done.cost_usd,
            single_quality=stream.quality,
            single_cost_usd=stream.cost_usd,
            cheapest_quality=self._cheapest_quality,
        )


def hold(data: FullFeedback, bench: Workbench, rules: Rules, *, jobs: int = 1, progress: bool = False) -> list[Round]:
    """Let all systems play on every split.

    Parameters
    ----------
    data : FullFeedback
        The pool.
    bench : Workbench
        Makes routers; its encoder makes everybody's embeddings.
    rules : Rules
        Splits, load and players.
    jobs : int
        Processes; what comes out does not depend on them.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Round
        In the order of the seeds.

    Raises
    ------
    ConfigError
        If a system is unknown.
    """
    known = tuple(lineup(domains=data.domains is not None))
    names = rules.systems or known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"there is no system {unknown[0]!r}; there are {', '.join(known)}")
    games = [(seed, name) for seed in rules.seeds for name in names]
    bench.encoder.remember(data.texts, progress=progress)
    play = partial(_play, data=data, bench=bench, rules=rules)
    played = each(play, games, f"{data.name}, {rules.setting}", jobs=jobs, progress=progress)
    done = dict(zip(games, played, strict=True))
    return [
        Round(task=_task(seed, data, bench, rules), curves={name: done[seed, name] for name in names})
        for seed in rules.seeds
    ]


def _play(game: tuple[int, str], *, data: FullFeedback, bench: Workbench, rules: Rules) -> Curve:
    seed, name = game
    system = lineup(domains=data.domains is not None, seed=seed)[name]
    return curve(system, _task(seed, data, bench, rules))


def _task(seed: int, data: FullFeedback, bench: Workbench, rules: Rules) -> Task:
    traffic = None if rules.max_wait_s is None else Traffic.of(data, max_wait_s=rules.max_wait_s)
    return Task.split(data, bench, share=rules.share, seed=seed, traffic=traffic)
