from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine.evaluation.contest.intervals import Outcomes, interval, resampled
from mixllm_engine.evaluation.contest.measures import measures, regret
from mixllm_engine.evaluation.contest.policy import Answer, Planned
from mixllm_engine.evaluation.contest.run import Curve, curve, run
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.contest.traffic import Servers, Traffic, answer_tokens
from mixllm_engine.evaluation.frontier import Frontier, aiq
from mixllm_engine.evaluation.rivals import QueryBlind
from mixllm_engine.evaluation.systems.mixllm import MixLLM, MixLLMFit
from mixllm_engine.evaluation.systems.oracle import Oracle
from mixllm_engine.evaluation.systems.predicting import Predicting
from tests.evaluation import synthetic

GRID = np.array([0.0, 1.0, 5.0, 20.0, np.inf])


def task(*, traffic: Traffic | None = None, queries: int = 240) -> Task:
    return Task.split(synthetic.pool(queries), synthetic.bench(), share=0.5, seed=3, traffic=traffic, grid=GRID)


def slow(*, slots: int, max_wait_s: float = 10.0, service_s: float = 4.0) -> Traffic:
    """Every call takes the same time."""
    names = len(synthetic.NAMES)
    return Traffic(
        startup_s=np.full(names, service_s), tokens_per_s=np.full(names, 1e12), max_wait_s=max_wait_s, slots=slots
    )


class Watching:
    """Calls one candidate, or several, for all, and writes down what it is told."""

    def __init__(self, *columns: int) -> None:
        self.columns, self.told = columns, list[tuple[int, Answer, float]]()

    def choose(self, row: int, now_s: float) -> Sequence[int]:
        return self.columns

    def finish(self, row: int, answer: Answer, now_s: float) -> None:
        self.told.append((row, answer, now_s))


class Knows:
    """A policy that was given the true outcomes, but finds its own way to use them."""

    def policies(self, of: Task) -> list[Planned]:
        chosen = []
        for willingness in of.grid:
            rows = []
            for quality, cost in zip(of.stream.quality, of.stream.cost_usd / of.reference_cost_usd, strict=True):
                worth = [
                    (q if np.isinf(willingness) else willingness * q - c, -c)
                    for q, c in zip(quality, cost, strict=True)
                ]
                rows.append([max(range(len(worth)), key=worth.__getitem__)])
            chosen.append(Planned(rows))
        return chosen


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 5)), min_size=1, max_size=30),
    st.integers(1, 4),
)
def test_slots_serve_in_order_and_never_idle_while_somebody_waits(gaps: list[tuple[float, float]], slots: int) -> None:
    servers, now_s, ends = Servers(candidates=1, slots=slots), 0.0, list[tuple[float, float, float]]()
    for gap_s, service_s in gaps:
        now_s += gap_s
        ends.append((now_s, servers.call(0, now_s=now_s, service_s=service_s), service_s))
    starts = [end - service for _, end, service in ends]
    assert starts == pytest.approx(sorted(starts))  # first come, first served
    for place, (arrived, end, service) in enumerate(ends):
        busy = sum(1 for other in ends[:place] if other[1] > arrived + 1e-9)
        assert end >= arrived + service - 1e-9
        if busy < slots:
            assert end == pytest.approx(arrived + service)


def test_without_load_everybody_gets_what_is_recorded() -> None:
    given = task()
    result = run(Watching(2), given)
    assert result.quality.tolist() == given.stream.quality[:, 2].tolist()
    assert result.cost_usd.tolist() == given.stream.cost_usd[:, 2].tolist()
    assert not result.late.any()
    assert not result.latency_s.any()


def test_planned_and_simulated_runs_agree_and_all_calls_are_paid() -> None:
    given = task()
    planned, simulated = run(Planned([[0, 2]] * len(given.stream)), given), run(Watching(0, 2), given)
    for one, other in ((planned.quality, simulated.quality), (planned.cost_usd, simulated.cost_usd)):
        assert one == pytest.approx(other)
    assert (planned.calls == 2).all()
    assert planned.cost_usd == pytest.approx(given.stream.cost_usd[:, [0, 2]].sum(axis=1))
    assert planned.quality.tolist() == given.stream.quality[:, 2].tolist()


def test_answers_come_back_once_each_in_the_order_of_their_times() -> None:
    policy, given = Watching(1), task(traffic=slow(slots=8))
    result = run(policy, given)
    assert sorted(row for row, _, _ in policy.told) == list(range(len(given.stream)))
    times = [now_s for _, _, now_s in policy.told]
    assert times == sorted(times)
    assert {row: answer.value for row, answer, _ in policy.told} == dict(enumerate(result.quality.tolist()))


def test_a_late_answer_is_worth_nothing_and_still_paid() -> None:
    given = task(traffic=slow(slots=8))  # 2 calls end in a second, 10 queries come
    result = run(Watching(2), given)
    assert 0.0 < result.late.mean() < 1.0
    assert (result.late == (result.latency_s > 10.0)).all()
    assert not result.quality[result.late].any()
    assert result.quality[~result.late].tolist() == given.stream.quality[~result.late, 2].tolist()
    assert result.cost_usd.tolist() == given.stream.cost_usd[:, 2].tolist()


def test_with_slots_for_all_only_the_call_itself_takes_time() -> None:
    result = run(Watching(2), task(traffic=slow(slots=1000)))
    assert result.latency_s == pytest.approx(4.0)
    cascade = run(Watching(0, 2), task(traffic=slow(slots=1000)))
    assert cascade.latency_s == pytest.approx(8.0)


def test_speeds_fall_with_the_price() -> None:
    data = synthetic.pool()
    traffic = Traffic.of(data)
    order = data.cost_usd.mean(axis=0).argsort()
    assert (np.diff(traffic.tokens_per_s[order]) < 0).all()
    assert (np.diff(traffic.startup_s[order]) > 0).all()
    assert traffic.service_s(data) == pytest.approx(traffic.startup_s + data.response_tokens / traffic.tokens_per_s)


def test_unknown_lengths_follow_the_cost() -> None:
    data = synthetic.pool()
    data.response_tokens[:] = np.nan
    assert answer_tokens(data).mean(axis=0) == pytest.approx(300.0)
    ratio = answer_tokens(data)[:, 0] / data.cost_usd[:, 0]
    assert ratio == pytest.approx(ratio[0])


def test_nobody_is_better_than_the_oracle() -> None:
    given = task()
    curves = {
        "oracle": curve(Oracle(), given),
        "fit": curve(MixLLMFit(), given),
        "online": curve(MixLLM(), given),
        "blind": curve(Predicting(QueryBlind()), given),
    }
    for other in curves.values():
        for setting in range(len(GRID)):
            assert regret(other, curves["oracle"], given, setting)[-1] >= -1e-9
    hull = Frontier.of(curves["oracle"].points)
    for other in curves.values():
        for cost, quality in other.points:
            assert quality <= np.nan_to_num(hull.quality_at(np.array([cost])), nan=hull.quality[0])[0] + 1e-9
    # and learning helps
    assert curves["fit"].points[-1, 1] > curves["blind"].points[-1, 1] - 1e-9
    told = measures(curves, given)
    assert told["oracle", "area"] >= told["fit", "area"] > told["blind", "area"]
    assert told["oracle", "cost@97.25"] <= told["fit", "cost@97.25"] < told["blind", "cost@97.25"]
    assert ("fit", "late") not in told


def test_who_is_given_the_true_outcomes_reaches_the_oracle() -> None:
    given = task()
    assert curve(Knows(), given).points == pytest.approx(curve(Oracle(), given).points)


def test_regret_of_the_oracle_is_zero_and_others_add_up() -> None:
    given = task()
    oracle, blind = curve(Oracle(), given), curve(Predicting(QueryBlind()), given)
    assert not regret(oracle, oracle, given, 2).any()
    place = 2
    share = GRID[place] / (GRID[place] + 1.0)
    by_hand = (
        share * (oracle.quality[place] - blind.quality[place])
        - (1 - share) * (oracle.cost_usd[place] - blind.cost_usd[place]) / given.reference_cost_usd
    )
    assert regret(blind, oracle, given, place)[-1] == pytest.approx(by_hand.sum())


def test_under_load_mixllm_spreads_its_calls() -> None:
    names = len(synthetic.NAMES)
    traffic = Traffic(startup_s=np.full(names, 0.5), tokens_per_s=np.full(names, 12.0), max_wait_s=20.0)
    given = task(traffic=traffic, queries=800)
    aware, unaware = curve(MixLLM(), given), curve(MixLLMFit(), given)
    told = measures({"aware": aware, "unaware": unaware}, given)
    assert told["aware", "quality"] > told["unaware", "quality"] - 1e-9
    assert aware.late[-1].mean() < unaware.late[-1].mean() / 2
    assert aware.quality[-1].mean() > unaware.quality[-1].mean() + 0.1
    assert told["unaware", "p95_s"] > 0.0


def test_under_load_nobody_gets_the_cheapest_as_if_there_were_none() -> None:
    given = task(traffic=slow(slots=4))  # one call ends in a second, ten come
    told = measures({"best": curve(Predicting(QueryBlind()), given)}, given)
    assert told["best", "area"] < given.stream.quality[:, given.stream.cheapest].mean() / 2


def test_aiq_by_hand() -> None:
    # the range is 1 to 4; before 2 the second curve is mixed with nothing at all, behind 3 the first goes on flat
    found = aiq({"long": np.array([[1.0, 0.2], [3.0, 0.6]]), "short": np.array([[2.0, 0.4], [4.0, 0.4]])})
    assert found["long"] == pytest.approx((0.4 * 2 + 0.6) / 3)
    assert found["short"] == pytest.approx((0.3 + 0.4 * 2) / 3)
    assert aiq({"one": np.array([[1.0, 0.5]])}) == {"one": 0.5}


def outcomes(of: Task, done: Curve) -> Outcomes:
    return Outcomes(
        quality=done.quality,
        cost_usd=done.cost_usd,
        single_quality=of.stream.quality,
        single_cost_usd=of.stream.cost_usd,
        cheapest_quality=of.stream.quality[:, of.stream.cheapest],
    )


def test_draws_pair_the_queries() -> None:
    given = task()
    fit, blind = curve(MixLLMFit(), given), curve(Predicting(QueryBlind()), given)
    ours = resampled([outcomes(given, fit)], seed=0, resamples=200)["area"]
    theirs = resampled([outcomes(given, blind)], seed=0, resamples=200)["area"]
    measured = measures({"fit": fit, "blind": blind}, given)
    gap = interval(measured["fit", "area"] - measured["blind", "area"], ours - theirs)
    assert 0.0 < gap.low < gap.value < gap.high
    assert gap.standard_error < np.hypot(ours.std(), theirs.std())  # what both share is luck that cancels
    again = resampled([outcomes(given, fit)], seed=0, resamples=200)["area"]
    assert again.tolist() == ours.tolist()
    alone = interval(measured["fit", "area"], ours)
    assert alone.low < alone.value < alone.high


def test_splits_are_averaged() -> None:
    given = task()
    one = outcomes(given, curve(Oracle(), given))
    single, double = (resampled([one] * count, seed=0, resamples=100)["area"] for count in (1, 8))
    assert double.std() < 0.6 * single.std()
    assert double.mean() == pytest.approx(single.mean(), abs=0.02)


def test_intervals_cover_a_known_mean() -> None:
    rng, hits = np.random.default_rng(0), 0
    for draw in range(200):
        quality = (rng.random((1, 200)) < 0.5).astype(float)
        one = Outcomes(
            quality=quality,
            cost_usd=np.ones((1, 200)),
            single_quality=np.stack([np.zeros(200), quality[0]], axis=1),
            single_cost_usd=np.stack([np.zeros(200), np.ones(200)], axis=1),
            cheapest_quality=np.zeros(200),
        )
        found = interval(0.0, resampled([one], seed=draw, resamples=100)["area"])
        hits += found.low <= 0.25 <= found.high  # a line from nothing to one half
    assert 180 <= hits <= 198  # 190 are expected, with a standard deviation of 3; few draws make it a little less
