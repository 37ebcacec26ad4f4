"""Reports to test with: of contests between systems, and of a log."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from mixllm_engine.evaluation.estimators import Estimate
from mixllm_engine.evaluation.judged import LeftOut
from mixllm_engine.evaluation.off_policy import Estimates, OffPolicyEstimate
from mixllm_engine.evaluation.report import (
    About,
    Band,
    Contest,
    Contestant,
    Counterfactual,
    LogReport,
    LogSaving,
    Regret,
    Report,
    Saving,
    Score,
    Shares,
    Single,
    Trace,
    Waiting,
    Waits,
)
from mixllm_engine.evaluation.report.model import OURS, Role
from mixllm_engine.types import Matrix

LLMS = (
    "mistralai/mistral-7b-chat",
    "meta/code-llama-instruct-34b-chat",
    "mistralai/mixtral-8x7b-chat",
    "gpt-4-preview",
)
COST_USD = (0.0002, 0.0005, 0.0006, 0.012)
QUALITY = (0.5, 0.42, 0.63, 0.79)
ABOUT = About(
    title="What would routing save?",
    date="1 May 2026",
    data={"Data": "a pool", "Licence": "MIT", "Queries": "400"},
    seeds=(1, 2),
    learned_share=0.5,
    versions={"mixllm": "0.1.0"},
    configuration={"decision": {"mode": "thompson"}},
    command="mixllm evaluate pool.csv --seeds 2",
)


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value=value, standard_error=half / 2.0, low=value - half, high=value + half)


def points(strength: float) -> Matrix:
    cost = np.geomspace(0.0002, 0.012, 8)
    return np.stack([cost, 0.5 + 0.3 * (np.log(cost / 0.0002) / np.log(60.0)) ** (1.0 / strength)], axis=1)


def contestant(name: str, role: Role, strength: float, splits: int, **gaps: Estimate) -> Contestant:
    scores = {
        "cost@99": Score.of([60.0 / strength + split for split in range(splits)], gaps.get("cost")),
        "area": Score.of([0.7 + 0.02 * strength + 0.001 * split for split in range(splits)], gaps.get("area")),
    }
    band = Band.of([points(strength + 0.02 * split) for split in range(splits)], np.geomspace(0.0002, 0.012, 30))
    return Contestant(name=name, role=role, scores=scores, band=band)


def contest(splits: int = 2, rival: str = "OptLLM (forest, Pareto search)") -> Contest:
    tested = splits > 1
    loses = {"cost": estimate(9.0, 4.0), "area": estimate(-0.01, 0.005)} if tested else {}
    leads = {"cost": estimate(-6.0, 3.0), "area": estimate(0.001, 0.005)} if tested else {}
    knows = {"cost": estimate(-20.0, 3.0), "area": estimate(0.05, 0.005)} if tested else {}
    return Contest(
        name="No time limit",
        about="Every answer counts.",
        savings=(Saving(quality_percent=99.0, best=LLMS[3], cost_percent=estimate(41.2, 6.5 if tested else math.nan)),),
        contestants=(
            contestant(OURS, "ours", 2.0, splits),
            contestant("oracle", "bound", 3.5, splits, **knows),
            contestant(rival, "rival", 2.1, splits, **leads),
            *(contestant(f"rival {number}", "rival", 1.8 - 0.1 * number, splits, **loses) for number in range(8)),
        ),
        singles=tuple(
            Single(name=name, cost_usd=cost, quality=quality)
            for name, cost, quality in zip(LLMS, COST_USD, QUALITY, strict=True)
        ),
    )


def full() -> Report:
    rng = np.random.default_rng(0)
    lost = rng.random((2, 500)).cumsum(axis=1)
    systems = (OURS, "LinUCB", "rival 0")
    return Report(
        about=ABOUT,
        contests=(contest(),),
        shares=Shares.of(rng.integers(0, 4, 500), LLMS, "the medium budget"),
        regret=Regret(
            setting="the medium budget",
            unit="in units of reward",
            against="the best choice for each query",
            traces=tuple(Trace.of(name, lost * (1 + place)) for place, name in enumerate(systems)),
        ),
        waiting=Waiting(
            setting="the medium budget",
            max_wait_s=10.0,
            waits=tuple(Waits.of(name, rng.gamma(2.0, 2.0 + place, 500), 10.0) for place, name in enumerate(systems)),
        ),
        notes=("Waiting times are simulated.",),
    )


def log() -> LogReport:
    def told(reward: float, cost_usd: float | None, *warnings: str) -> OffPolicyEstimate:
        def three(value: float, logged: float) -> Estimates:
            own = estimate(value, value / 10.0)
            return Estimates(ips=own, snips=own, dr=own, logged=estimate(logged, logged / 20.0), rows=400)

        return OffPolicyEstimate(
            reward=three(reward, 0.7),
            cost_usd=None if cost_usd is None else three(cost_usd, 0.002),
            left_out=LeftOut(),
            effective_rows=300.0,
            largest_weight=3.0,
            mean_weight=estimate(1.0, 0.1),
            unsupported=0.0,
            warnings=warnings,
        )

    return LogReport(
        about=dataclasses.replace(ABOUT, seeds=(), learned_share=None),
        savings=(
            LogSaving(against="gpt-4", cost_percent=estimate(26.0, 3.0), reward_difference=estimate(-0.03, 0.02)),
            LogSaving(
                against="rare",
                cost_percent=estimate(50.0, 30.0),
                reward_difference=estimate(0.1, 0.3),
                warnings=("it was hardly ever asked",),
            ),
        ),
        counterfactuals=(
            Counterfactual(name="always gpt-4", made=told(0.75, 0.012)),
            Counterfactual(name="always rare", made=told(0.6, None, "it was hardly ever asked")),
        ),
    )
