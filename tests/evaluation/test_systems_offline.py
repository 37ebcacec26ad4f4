from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine.errors import ConfigError
from mixllm_engine.evaluation.contest.policy import Planned, System
from mixllm_engine.evaluation.contest.run import curve, run
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.contest.traffic import Traffic
from mixllm_engine.evaluation.frontier import summary
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.rivals import Neighbours, QueryBlind, Ridge
from mixllm_engine.evaluation.rivals.base import Domains, Rows
from mixllm_engine.evaluation.systems.automix import AutoMix, cascade, solved, votes
from mixllm_engine.evaluation.systems.carrot import Carrot
from mixllm_engine.evaluation.systems.clusters import Clusters
from mixllm_engine.evaluation.systems.forc import Forc, assign, budgets, meta_model
from mixllm_engine.evaluation.systems.optllm import OptLLM, Search, bootstrapped
from mixllm_engine.evaluation.systems.oracle import Oracle
from mixllm_engine.evaluation.systems.predicting import Predicting
from mixllm_engine.evaluation.systems.routellm import SimilarityWeighted, duels, strengths, weak_beside
from mixllm_engine.evaluation.systems.routellm_factors import Factors, MatrixFactorisation
from mixllm_engine.evaluation.systems.zooter import Zooter
from mixllm_engine.types import Matrix
from tests.evaluation import synthetic

SYSTEMS: dict[str, Callable[[], System]] = {
    "AutoMix": AutoMix,
    "RouteLLM, similarity": SimilarityWeighted,
    "RouteLLM, similarity, two": lambda: SimilarityWeighted(two=True),
    "RouteLLM, factors": MatrixFactorisation,
    "RouteLLM, factors, two": lambda: MatrixFactorisation(two=True),
    "Zooter": Zooter,
    "FORC": Forc,
    "OptLLM": OptLLM,
    "CARROT, kNN": lambda: Carrot(Neighbours(20), Neighbours(20)),
    "CARROT, ridge": lambda: Carrot(Ridge(1.0), Ridge(1.0)),
    "Avengers-Pro": Clusters,
}
Calls = list[list[list[int]]]


def task_of(data: FullFeedback, *, share: float = 0.5) -> Task:
    return Task.split(data, synthetic.bench(), share=share, seed=3)


@functools.cache
def task() -> Task:
    return task_of(synthetic.pool(300))


def area(points: Matrix) -> float:
    return summary(points, task().stream)["area"]


def plans(system: System, on: Task) -> Calls:
    made: Calls = []
    for policy in system.policies(on):
        assert isinstance(policy, Planned)
        made.append([[int(column) for column in calls] for calls in policy.calls])
    return made


@functools.cache
def planned(name: str) -> Calls:
    return plans(SYSTEMS[name](), task())


@functools.cache
def points(name: str) -> Matrix:
    runs = [run(Planned(calls), task()) for calls in planned(name)]
    return np.array([[one.cost_usd.mean(), one.quality.mean()] for one in runs])


def outcomes_hidden(on: Task, *, but: list[int]) -> Task:
    """Put NaN in the place of everything that a system may not read."""
    hidden = np.array([column not in but for column in range(len(on.stream.names))])
    stream = dataclasses.replace(
        on.stream,
        quality=np.where(hidden, np.nan, on.stream.quality),
        cost_usd=np.full_like(on.stream.cost_usd, np.nan),
        response_tokens=np.full_like(on.stream.response_tokens, np.nan),
    )
    return dataclasses.replace(on, stream=stream)


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "AutoMix"])  # which needs a better verifier
def test_it_learns_who_is_good_at_what(name: str) -> None:
    stream = task().stream
    mix = curve(Predicting(QueryBlind()), task()).points
    if name.endswith("two"):  # it may mix these only
        pair = [stream.column("cheap"), stream.column("dear")]
        mix = np.stack([stream.cost_usd.mean(axis=0), stream.quality.mean(axis=0)], axis=1)[pair]
    assert area(mix) + 0.01 < area(points(name)) < area(curve(Oracle(), task()).points)


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_knob_goes_from_cheap_to_dear(name: str) -> None:
    cost = points(name)[:, 0]
    assert len(cost) > 5
    assert cost[0] < 0.5 * cost[-1]
    assert np.corrcoef(np.arange(len(cost)), cost)[0, 1] > 0.6


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_repeats_itself_and_sees_no_outcome_of_the_stream(name: str) -> None:
    verified = cascade(task().train) if name == "AutoMix" else []
    assert plans(SYSTEMS[name](), outcomes_hidden(task(), but=verified)) == planned(name)


@pytest.mark.parametrize("name", ["AutoMix", "RouteLLM, factors", "OptLLM", "Avengers-Pro"])
def test_its_chance_follows_from_the_seed(name: str) -> None:
    assert plans(SYSTEMS[name](), dataclasses.replace(task(), seed=4)) != planned(name)


@functools.cache
def odd_task(kind: str) -> Task:
    data = synthetic.pool(100)
    if kind == "two candidates":
        return task_of(data.restrict(["cheap", "dear"]))
    if kind == "all equal":
        return task_of(dataclasses.replace(data, quality=np.full_like(data.quality, 0.5)))
    return task_of(dataclasses.replace(data, domains=None), share=0.12)


@pytest.mark.parametrize("kind", ["two candidates", "all equal", "twelve without domains"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_it_gets_along_with_odd_tables(name: str, kind: str) -> None:
    on = odd_task(kind)
    done = curve(SYSTEMS[name](), on)
    assert np.isfinite(done.points).all()
    assert (done.column >= 0).all()
    if kind == "all equal":  # then nothing is worth paying for
        assert done.points[0, 0] <= 1.05 * on.stream.cost_usd.mean(axis=0).min()


class Told:
    """Predicts what it was told."""

    def __init__(self, truth: Matrix) -> None:
        self._truth = truth

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Learn nothing."""

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        return self._truth


def test_carrot_with_perfect_predictions_is_the_oracle() -> None:
    stream = task().stream
    perfect = Carrot(Told(stream.quality), Told(stream.cost_usd / task().reference_cost_usd))
    bound = area(curve(Oracle(), task()).points)
    assert area(curve(perfect, task()).points) == pytest.approx(bound, abs=1e-3)


def test_clusters_go_from_the_cheapest_to_the_best() -> None:
    made = planned("Avengers-Pro")
    names = task().stream.names
    assert {column for (column,) in made[0]} == {names.index("poor")}
    domains = np.array(task().stream.domains)
    dear = np.array(made[-1])[:, 0] == names.index("dear")
    assert dear[domains == "math"].mean() > 0.95


def test_zooter_without_lambda_takes_the_most_probable() -> None:
    *_, published = planned("Zooter")
    quality = task().stream.quality[np.arange(len(published)), np.array(published)[:, 0]].mean()
    assert quality > task().stream.quality.mean(axis=0).max() - 0.02


# -- FORC --------------------------------------------------------------------------------------------------------------


def test_forc_keeps_its_budgets() -> None:
    quality = meta_model(task().known, task().train.quality, task().asked, seed=0)
    every, spent = np.arange(len(quality)), []
    for budget_usd in budgets(quality, task().cost_usd):
        spent.append(task().cost_usd[every, assign(quality, task().cost_usd, float(budget_usd))].sum())
        assert spent[-1] <= budget_usd
    assert spent[0] == pytest.approx(task().cost_usd.min(axis=1).sum())
    with pytest.raises(ConfigError, match="too small: the cheapest answers to these 150 queries"):
        assign(quality, task().cost_usd, 0.9 * spent[0])


@given(st.integers(0, 1000), st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_forc_comes_as_near_to_the_integer_optimum_as_one_query(seed: int, share: float) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    quality, cost = rng.random((12, 4)), rng.random((12, 4))
    every = np.arange(12)
    budget = cost.min(axis=1).sum() + share * (cost.max(axis=1) - cost.min(axis=1)).sum()
    chosen = assign(quality, cost, float(budget))
    exact = optimize.milp(
        -quality.ravel(),
        integrality=np.ones(quality.size),
        bounds=optimize.Bounds(0, 1),
        constraints=[
            optimize.LinearConstraint(np.kron(np.eye(12), np.ones((1, 4))), 1, 1),
            optimize.LinearConstraint(cost.reshape(1, -1), -np.inf, budget),
        ],
    )
    assert cost[every, chosen].sum() <= budget
    assert quality[every, chosen].sum() > -exact.fun - 1.0


# -- OptLLM ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_optllm_finds_assignments_that_are_best_at_some_price(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quality, cost = rng.random((15, 4)).round(2), rng.random((15, 4)).round(2)
    search, every = Search(quality, cost), np.arange(15)
    front = search.front()
    spent = [cost[every, plan].sum() for plan in front]
    worth = [quality[every, plan].sum() for plan in front]
    assert spent == sorted(spent)
    assert worth == sorted(set(worth))
    assert spent[0] == pytest.approx(cost.min(axis=1).sum())
    assert worth[-1] == pytest.approx(quality.max(axis=1).sum())
    plan = search.reconstructed(rng.integers(4, size=15))
    prices = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 1000)])
    attained = quality[every, plan].sum() - prices * cost[every, plan].sum()
    best = (quality - prices[:, None, None] * cost).max(axis=2).sum(axis=1)
    assert (best - attained).min() < 0.02


def test_optllm_is_less_sure_where_outcomes_differ() -> None:
    rng = np.random.default_rng(0)
    known = np.repeat(np.eye(2), 80, axis=0) + 0.05 * rng.normal(size=(160, 2))
    quality = np.concatenate([np.tile([1.0, 0.0], (80, 1)), (rng.random((80, 2)) < 0.5).astype(np.float64)])
    mean, deviation = bootstrapped(known, quality, np.eye(2), seed=0)
    assert mean[0] == pytest.approx([1.0, 0.0], abs=0.1)
    assert (deviation[1] > 3 * deviation[0]).all()


# -- RouteLLM ----------------------------------------------------------------------------------------------------------


def test_strengths_agree_with_logistic_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    wins = np.random.default_rng(0).uniform(0.5, 5.0, size=(4, 4)) * (1.0 - np.eye(4))
    one, other = np.nonzero(wins)
    rows = np.eye(4)[one] - np.eye(4)[other]
    rows, label = np.concatenate([rows, -rows]), np.repeat([1, 0], len(rows))
    model = linear_model.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    model.fit(rows, label, sample_weight=np.tile(wins[one, other], 2))
    logs = np.log(strengths(wins[None])[0])
    assert np.allclose(logs, model.coef_[0] - model.coef_[0].mean(), atol=1e-4)


def test_the_weak_llm_is_the_best_of_the_much_cheaper_ones() -> None:
    data = synthetic.pool(100)
    assert data.names[weak_beside(data, data.column("dear"))] == "cheap"
    near = data.restrict(["code", "dear"])
    assert near.names[weak_beside(near, near.column("dear"))] == "code"
    assert near.names[weak_beside(near, near.column("code"))] == "dear"


@pytest.mark.parametrize("name", ["RouteLLM, similarity, two", "RouteLLM, factors, two"])
def test_as_published_two_llms_share_the_stream(name: str) -> None:
    names = np.array(task().stream.names)
    made = np.array(planned(name))[:, :, 0]
    assert set(names[made].ravel()) == {"cheap", "dear"}
    share = (names[made] == "dear").mean(axis=1)
    assert share[0] == 0.0
    assert share[-1] == 1.0
    assert (np.diff(share) >= 0).all()


def test_factors_follow_the_gradient_of_their_loss() -> None:
    rng = np.random.default_rng(1)
    rows, table = rng.normal(size=(6, 5)), duels(rng.integers(3, size=(6, 3)) / 2.0)
    factors = Factors(4, 3, seed=0)
    parameters = (factors._llms, factors._queries, factors._weights)
    for parameter, gradient in zip(parameters, factors.gradients(rows, table), strict=True):
        for place in [(0,) * parameter.ndim, (-1,) * parameter.ndim]:
            there, losses = parameter[place], []
            for step in (1e-5, -1e-5):
                parameter[place] = there + step
                losses.append(factors.loss(rows, table))
            parameter[place] = there
            assert gradient[place] == pytest.approx((losses[0] - losses[1]) / 2e-5, abs=1e-7)


# -- AutoMix -----------------------------------------------------------------------------------------------------------


def test_automix_calls_from_cheap_to_dear_and_pays_for_verifying() -> None:
    chain = cascade(task().train)
    cost = task().train.cost_usd.mean(axis=0)
    assert len(chain) == 3
    assert (np.diff(cost[chain]) > 0).all()
    lengths = set()
    for plan in planned("AutoMix"):
        for calls in plan:
            places = [chain.index(column) for column in calls]
            assert places == sorted(places)
            assert places[0] == 0
            assert set(places) == set(range(places[-1] + 1))  # nobody is left out on the way
            assert places.count(2) <= 1  # the last answer is not verified
            lengths.add(len(calls))
    assert {1, 2, 3} <= lengths


def test_automix_waits_for_all_its_calls() -> None:
    slow = dataclasses.replace(task(), traffic=dataclasses.replace(Traffic.of(task().stream), queries_per_s=0.01))
    done = curve(AutoMix(), slow)
    assert (done.latency_s[done.calls > 1].min() > Traffic.of(task().stream).startup_s.min() * 2).all()
    assert done.latency_s[done.calls >= 3].mean() > done.latency_s[done.calls == 1].mean() + 0.3


def test_automix_needs_a_good_verifier() -> None:
    useless, usual, good = (area(curve(AutoMix(accuracy), task()).points) for accuracy in (0.5, 0.75, 0.95))
    assert useless < usual < good
    assert good > area(curve(Predicting(QueryBlind()), task()).points)
    for wrong in (0.4, 1.0):
        with pytest.raises(ConfigError, match=r"must lie in \[0.5, 1\)"):
            AutoMix(wrong)


def test_votes_are_right_as_often_as_stated() -> None:
    quality = np.repeat([0.0, 1.0], 20000)
    drawn = votes(quality, 0.75, np.random.default_rng(0)) / 8
    assert drawn[quality == 1].mean() == pytest.approx(0.75, abs=0.01)
    assert drawn[quality == 0].mean() == pytest.approx(0.25, abs=0.01)
    # variance of a share of 8 votes that are correlated by 1/2
    assert drawn[quality == 1].var() == pytest.approx(0.75 * 0.25 * (1 + 7 * 0.5) / 8, rel=0.05)


def test_automix_goes_on_where_votes_are_few() -> None:
    counts: npt.NDArray[np.intp] = np.repeat([1, 7], 50)
    worth = np.stack([np.repeat([0.0, 1.0], 50), np.ones(100)], axis=1)
    told = np.stack([counts, counts], axis=1)
    (rule,) = solved(worth, np.tile([0.01, 0.2], (100, 1)), told)
    assert rule[:3].all()
    assert not rule[6:].any()
    (rule,) = solved(worth, np.tile([0.9, 2.0], (100, 1)), told)  # too dear
    assert not rule.any()
    (rule,) = solved(worth, np.tile([0.15, 0.2], (100, 1)), told)  # verifying costs more than it saves
    assert rule.all()
