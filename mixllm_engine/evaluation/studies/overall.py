"""MixLLM against every rival: the paper's overall study, and the same under load with a time limit."""

from __future__ import annotations

from mixllm_engine.evaluation.contest.measures import measures
from mixllm_engine.evaluation.contest.overall import Rules, hold
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.studies.figures import Figure, collect
from mixllm_engine.evaluation.studies.seeds import Seeds
from mixllm_engine.evaluation.workbench import Workbench

MAX_WAIT_S = 10.0


def overall(data: FullFeedback, bench: Workbench, seeds: Seeds) -> list[Figure]:
    """Compare all systems of `systems.lineup`; see `contest.measures` for the measures. Half is learned from."""
    return _contest(data, bench, seeds, Rules(seeds=seeds.values))


def latency(data: FullFeedback, bench: Workbench, seeds: Seeds) -> list[Figure]:
    """Compare them under simulated load, where an answer that takes longer than 10 s is worth nothing."""
    return _contest(data, bench, seeds, Rules(seeds=seeds.values, max_wait_s=MAX_WAIT_S))


def _contest(data: FullFeedback, bench: Workbench, seeds: Seeds, rules: Rules) -> list[Figure]:
    rounds = hold(data, bench, rules, jobs=seeds.jobs, progress=seeds.progress)
    by_seed = [
        {(rules.setting, name, measure): value for (name, measure), value in measures(one.curves, one.task).items()}
        for one in rounds
    ]
    return collect("overall", data.name, by_seed)
