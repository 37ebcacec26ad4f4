from __future__ import annotations

import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine.evaluation.contest.policy import Planned, Policy, System
from mixllm_engine.evaluation.contest.run import Run, curve, run
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.contest.traffic import Traffic
from mixllm_engine.evaluation.frontier import Frontier
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.rivals.support_vectors import SupportVectors
from mixllm_engine.evaluation.systems.linear_arms import COMPONENTS, Ground, LinearArms, components, with_constant
from mixllm_engine.evaluation.systems.linucb import LinUCB
from mixllm_engine.evaluation.systems.mab_wiser import MabWiser
from mixllm_engine.evaluation.systems.metallm import MetaLLM
from mixllm_engine.evaluation.systems.pareto_bandit import ParetoBandit
from mixllm_engine.evaluation.systems.predicting import Predicting
from mixllm_engine.evaluation.systems.singles import BestSingle, Cheapest, Random, ZeroMix
from mixllm_engine.evaluation.systems.thompson import Thompson
from mixllm_engine.types import Matrix, Vector
from tests.evaluation import synthetic

YARDSTICKS: dict[str, Callable[[], System]] = {
    "best single": BestSingle,
    "cheapest": Cheapest,
    "random": Random,
    "Zero": ZeroMix,
}
BANDITS: dict[str, Callable[[], System]] = {
    "LinUCB": LinUCB,
    "Thompson": Thompson,
    "MetaLLM": MetaLLM,
    "ParetoBandit": ParetoBandit,
    "MABWiser": MabWiser,
}
# At this lambda, chat is for the cheap LLM, code for the coder, mathematics for the dear one.
BY_DOMAIN = 3.0
DEAR = synthetic.NAMES.index("dear")


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """Skip what needs a package that isn't there."""
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    for wanted, package in (("ParetoBandit", "pareto_bandit"), ("MABWiser", "mabwiser")):
        if wanted == name or wanted in request.node.name:
            pytest.importorskip(package)


def task_of(
    data: FullFeedback, *, share: float = 0.5, seed: int = 3, grid: Sequence[float] = (0.0, 1.0, BY_DOMAIN, np.inf)
) -> Task:
    return Task.split(data, synthetic.bench(), share=share, seed=seed, grid=np.array(grid))


@functools.cache
def task() -> Task:
    return task_of(synthetic.pool(400))


@functools.cache
def telling_nothing() -> Task:
    """A table of 60 queries in which all are equally good, and a stream of 1,140."""
    whole = task_of(synthetic.pool(1200), share=0.05, grid=[0.3, 1.0, BY_DOMAIN, 10.0, np.inf])
    blank = dataclasses.replace(whole.train, quality=np.full_like(whole.train.quality, 0.5))
    return dataclasses.replace(whole, train=blank)


def policies(system: System, on: Task) -> list[Policy]:
    return list(system.policies(on))


# -- yardsticks ----------------------------------------------------------------------------------------------------


def test_single_llms_are_those_that_the_table_calls_best_and_cheapest() -> None:
    quality, cost = task().train.quality.mean(axis=0), task().train.cost_usd.mean(axis=0)
    assert (curve(BestSingle(), task()).column == quality.argmax()).all()
    assert (curve(Cheapest(), task()).column == cost.argmin()).all()


def test_random_takes_all_equally_often_and_otherwise_with_another_seed() -> None:
    large = dataclasses.replace(task(), stream=synthetic.pool(4000, seed=1))
    taken = curve(Random(), large).column[0]
    shares = np.bincount(taken, minlength=len(synthetic.NAMES)) / len(taken)
    assert np.abs(shares - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / len(taken))
    assert (curve(Random(), large).column[0] == taken).all()
    assert (curve(Random(), dataclasses.replace(large, seed=4)).column[0] != taken).any()


def test_zero_is_the_line_between_single_llms() -> None:
    points = curve(ZeroMix(), task()).points
    singles = np.stack([task().stream.cost_usd.mean(axis=0), task().stream.quality.mean(axis=0)], axis=1)
    ends = [int(np.abs(singles - single).sum(axis=1).argmin()) for single in points]
    assert points == pytest.approx(singles[ends], rel=1e-12)
    assert (np.diff(points[:, 0]) > 0).all()
    # whoever draws between neighbours gets, on average, what the hull of the curve says
    hull, rng, stream = Frontier.of(points), np.random.default_rng(0), task().stream
    for cheap, dear in zip(ends, ends[1:], strict=False):
        drawn = [np.where(rng.random(len(stream)) < 0.3, cheap, dear) for _ in range(300)]
        rows = np.arange(len(stream))
        cost = np.mean([stream.cost_usd[rows, taken].mean() for taken in drawn])
        quality = np.mean([stream.quality[rows, taken].mean() for taken in drawn])
        assert quality == pytest.approx(float(hull.quality_at(np.array([cost]))[0]), abs=5e-3)


def test_zero_has_whoever_is_best_on_average_at_some_lambda_and_nobody_else() -> None:
    train = task().train
    quality, cost = train.quality.mean(axis=0), train.cost_usd.mean(axis=0) / train.reference_cost_usd
    wanted = {int((willingness * quality - cost).argmax()) for willingness in np.logspace(-6, 6, 2000)}
    assert set(curve(ZeroMix(), task()).column.ravel().tolist()) == wanted
    assert len(wanted) > 2
    without = train.quality.copy()
    without[:, synthetic.NAMES.index("code")] = 0.0
    worse = dataclasses.replace(task(), train=dataclasses.replace(train, quality=without))
    assert synthetic.NAMES.index("code") not in curve(ZeroMix(), worse).column


def test_under_load_a_mix_of_two_can_do_what_neither_can_alone() -> None:
    data = synthetic.pool(400).restrict({"cheap", "dear"})
    # either serves 8 queries in a second, and 10 come
    traffic = Traffic(startup_s=np.full(2, 2.0), tokens_per_s=np.full(2, 1e12), slots=16, max_wait_s=4.0)
    loaded = dataclasses.replace(task_of(data, share=0.2), traffic=traffic)
    late = curve(ZeroMix(), loaded).late.mean(axis=1)
    assert len(late) > 2
    assert min(late[0], late[-1]) > 0.2
    assert late[1:-1].min() == 0.0


# -- what bandits share ----------------------------------------------------------------------------------------------


def test_two_steps_of_a_ridge_regression_are_those_by_hand() -> None:
    asked = np.array([[1.0, 1.0], [-1.0, 1.0]])
    arms = LinearArms(Ground.of(np.empty((0, 2)), asked, penalty=1.0), np.empty((0, 2)))
    # A = I, b = 0
    assert arms.mean.tolist() == [[0, 0], [0, 0]]
    assert arms.variance == pytest.approx(np.full((2, 2), 2.0))
    arms.learn(0, 0, 1.0)
    # A = [[2, 1], [1, 2]], b = (1, 1), theta = (1/3, 1/3)
    assert arms.mean[:, 0] == pytest.approx([2 / 3, 0.0])
    assert arms.variance[:, 0] == pytest.approx([2 / 3, 2.0])
    arms.learn(1, 0, 0.5)
    # A = 3 I, b = (1/2, 3/2), theta = (1/6, 1/2)
    assert arms.mean[:, 0] == pytest.approx([2 / 3, 1 / 3])
    assert arms.variance[:, 0] == pytest.approx([2 / 3, 2 / 3])
    assert arms.deviation(0) == pytest.approx(np.sqrt([2 / 3, 2.0]))
    assert arms.mean[:, 1].tolist() == [0, 0]


class Explicit:
    """The textbook: A and b of every arm, and theta solved for at each step."""

    def __init__(self, known: Matrix, rewards: Matrix, precision: Vector) -> None:
        self.a = [np.diag(precision) + known.T @ known for _ in rewards.T]
        self.b = [known.T @ column for column in rewards.T]

    def bounds(self, x: Vector, alpha: float) -> Vector:
        return np.array(
            [
                x @ np.linalg.solve(a, b) + alpha * np.sqrt(x @ np.linalg.solve(a, x))
                for a, b in zip(self.a, self.b, strict=True)
            ]
        )

    def learn(self, x: Vector, arm: int, reward: float) -> None:
        self.a[arm] = self.a[arm] + np.outer(x, x)
        self.b[arm] = self.b[arm] + reward * x


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 50.0))
@settings(max_examples=25, deadline=None)
def test_expectations_stay_those_of_the_textbook(seed: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    known, asked = with_constant(rng.normal(size=(9, 4))), with_constant(rng.normal(size=(6, 4)))
    rewards = rng.random((9, 3))
    arms = LinearArms(Ground.of(known, asked, penalty=penalty), rewards)
    explicit = Explicit(known, rewards, np.array([penalty] * 4 + [1.0]))
    for _ in range(15):
        row, arm, reward = int(rng.integers(6)), int(rng.integers(3)), float(rng.random())
        arms.learn(row, arm, reward)
        explicit.learn(asked[row], arm, reward)
    for row, x in enumerate(asked):
        assert arms.mean[row] == pytest.approx(explicit.bounds(x, 0.0), abs=1e-9)
        assert arms.mean[row] + arms.deviation(row) == pytest.approx(explicit.bounds(x, 1.0), abs=1e-9)


def test_components_are_the_directions_of_most_variance() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    known, asked = components(task())
    theirs = decomposition.PCA(COMPONENTS, svd_solver="full").fit(task().known)
    assert np.abs(asked[:, :-1]) == pytest.approx(np.abs(theirs.transform(task().asked)), abs=1e-6)
    assert known.shape == (len(task().train), COMPONENTS + 1)
    assert (asked[:, -1] == 1.0).all()


# -- each bandit -------------------------------------------------------------------------------------------------------


def test_linucb_chooses_as_the_textbook_does() -> None:
    known, asked = components(task())
    cost, precision = task().cost_usd / task().reference_cost_usd, np.array([10.0] * COMPONENTS + [1.0])
    columns = curve(LinUCB(alpha=0.5), task()).column
    for place, willingness in enumerate(task().grid):
        explicit = Explicit(known, task().train.quality, precision)
        for row, x in enumerate(asked):
            bound = explicit.bounds(x, 0.5)
            total = bound if np.isinf(willingness) else willingness * bound - cost[row]
            assert columns[place, row] == total.argmax()
            explicit.learn(x, int(total.argmax()), float(task().stream.quality[row, total.argmax()]))


def test_thompson_draws_as_if_it_drew_theta() -> None:
    known, asked = components(task())
    scale, rng = 2.0, np.random.default_rng(1)
    policy = policies(Thompson(scale), task())[-1]
    explicit = Explicit(known, task().train.quality, np.array([10.0] * COMPONENTS + [1.0]))
    for row in range(3):
        thetas = [
            rng.multivariate_normal(np.linalg.solve(a, b), scale**2 * np.linalg.inv(a), size=3000)
            for a, b in zip(explicit.a, explicit.b, strict=True)
        ]
        theirs = np.bincount(np.argmax([theta @ asked[row] for theta in thetas], axis=0), minlength=4) / 3000
        ours = np.bincount([policy.choose(row, 0.0)[0] for _ in range(3000)], minlength=4) / 3000
        assert np.abs(ours - theirs).max() < 4 * np.sqrt(0.25 / 3000) * np.sqrt(2)
        assert theirs.max() < 0.99  # there is something to compare


def test_metallm_regresses_the_reward_less_the_price() -> None:
    known, asked = with_constant(task().known), with_constant(task().asked)
    price = task().train.cost_usd.mean(axis=0) / task().train.cost_usd.mean(axis=0).max()
    precision = np.array([12.94] * task().known.shape[1] + [1.0])
    columns = curve(MetaLLM(alpha=0.2), task()).column
    for place, willingness in enumerate(task().grid[1:], start=1):
        p = 1.0 / willingness
        explicit = Explicit(known, task().train.quality - p * price, precision)
        for row, x in enumerate(asked[:60]):
            chosen = int(explicit.bounds(x, 0.2).argmax())
            assert columns[place, row] == chosen
            explicit.learn(x, chosen, float(task().stream.quality[row, chosen] - p * price[chosen]))


def test_metallm_takes_the_cheapest_for_all_where_nothing_is_paid_for_quality() -> None:
    # the reward is the negative price then, and the regression knows it but for its shrinkage
    assert (curve(MetaLLM(), task()).column[0] == synthetic.NAMES.index("poor")).all()


def test_MABWiser_has_the_reward_that_it_should_until_the_first_parcel() -> None:
    known, asked = components(task())
    cost = task().train.cost_usd / task().reference_cost_usd
    columns = curve(MabWiser(), task()).column
    assert len(columns) == len(task().grid[1::2])
    for place, willingness in enumerate(task().grid[1::2]):
        worth = 1.0 if np.isinf(willingness) else willingness / (1.0 + willingness)
        explicit = Explicit(known, worth * task().train.quality - (1.0 - worth) * cost, np.ones(COMPONENTS + 1))
        assert columns[place, :50].tolist() == [int(explicit.bounds(x, 1.0).argmax()) for x in asked[:50]]


def test_ParetoBandit_spends_about_its_budget() -> None:
    wide = task_of(synthetic.pool(900), share=0.3, grid=np.arange(10.0).tolist())
    spend = wide.train.cost_usd.mean(axis=0)
    budgets = np.geomspace(spend.min(), spend.max(), 10)
    points = curve(ParetoBandit(), wide).points
    assert points[3:8, 0] == pytest.approx(budgets[3:8], rel=0.15)
    assert points[8, 1] > points[1, 1] + 0.2


def test_ParetoBandit_gets_the_same_components_each_time() -> None:
    # wide embeddings without any structure, where a randomised decomposition never gives the same twice
    rng = np.random.default_rng(0)
    known, asked = rng.normal(size=(len(task().train), 300)), rng.normal(size=(len(task().stream), 300))
    wide = dataclasses.replace(task(), known=known, asked=asked)
    first, second = curve(ParetoBandit(), wide), curve(ParetoBandit(), wide)
    assert (first.column == second.column).all()


def test_ParetoBandit_keeps_what_it_logs_off_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("pareto_bandit.router")
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        ParetoBandit()
        logger.warning("too dear")
    finally:
        root.handlers = handlers
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", BANDITS)
def test_bandits_learn_from_what_comes_back(name: str) -> None:
    on = telling_nothing()
    middle = policies(BANDITS[name](), on)
    result = run(middle[len(middle) // 2], on)
    if name == "ParetoBandit":  # its trade-off is a budget
        worth = result.quality
    else:
        worth = BY_DOMAIN * result.quality - result.cost_usd / on.reference_cost_usd
    third = len(worth) // 3
    assert worth[-third:].mean() > worth[:third].mean() + 0.1


@pytest.mark.parametrize("name", BANDITS)
def test_bandits_see_no_outcomes_but_those_of_their_own_calls(name: str) -> None:
    on, rng = task(), np.random.default_rng(0)
    for place in (1, -1):
        taken = run(policies(BANDITS[name](), on)[place], on).column
        others = np.ones(on.stream.quality.shape, dtype=np.bool_)
        others[np.arange(len(taken)), taken] = False
        stream = on.stream
        changed = dataclasses.replace(
            stream,
            quality=np.where(others, rng.random(others.shape), stream.quality),
            cost_usd=np.where(others, 100.0 * stream.cost_usd, stream.cost_usd),
            response_tokens=np.where(others, 7.0, stream.response_tokens),
        )
        otherwise = dataclasses.replace(on, stream=changed)
        assert (run(policies(BANDITS[name](), otherwise)[place], otherwise).column == taken).all()
        # and its own outcomes do matter
        against = dataclasses.replace(on, stream=dataclasses.replace(stream, quality=1.0 - stream.quality))
        assert (run(policies(BANDITS[name](), against)[place], against).column != taken).any()


@pytest.mark.parametrize("name", BANDITS)
def test_bandits_leave_an_llm_whose_answers_come_too_late(name: str) -> None:
    speed = np.full(len(synthetic.NAMES), 1e12)
    startup_s = np.where(np.arange(len(speed)) == DEAR, 12.0, 0.5)
    on = task_of(synthetic.pool(1200), share=0.1)
    traffic = Traffic(startup_s=startup_s, tokens_per_s=speed, slots=1000)
    dearest = len(policies(BANDITS[name](), on)) - 1

    def share(of: Run) -> float:
        return float((of.column[-300:] == DEAR).mean())

    assert share(run(policies(BANDITS[name](), on)[dearest], on)) > 0.5
    loaded = dataclasses.replace(on, traffic=traffic)
    assert share(run(policies(BANDITS[name](), loaded)[dearest], loaded)) < 0.2


@pytest.mark.parametrize("name", [*YARDSTICKS, *BANDITS])
def test_runs_repeat(name: str) -> None:
    make = (YARDSTICKS | BANDITS)[name]
    small = task_of(synthetic.pool(160))
    for traffic in (None, Traffic.of(small.train)):
        on = dataclasses.replace(small, traffic=traffic)
        first, second = curve(make(), on), curve(make(), on)
        assert (first.column == second.column).all()
        assert (first.quality == second.quality).all()


@pytest.mark.parametrize("name", [*YARDSTICKS, *BANDITS])
@pytest.mark.parametrize("equal", [False, True])
def test_small_tables_two_candidates_and_equal_qualities_will_do(name: str, equal: bool) -> None:
    data = synthetic.pool(88).restrict({"cheap", "dear"})
    if equal:
        data = dataclasses.replace(data, quality=np.full_like(data.quality, 1.0))
    points = curve((YARDSTICKS | BANDITS)[name](), task_of(data)).points
    assert np.isfinite(points).all()
    if equal:
        assert points[:, 1].tolist() == [1.0] * len(points)


@pytest.mark.parametrize("name", ["LinUCB", "Thompson", "MetaLLM"])
def test_from_cheap_to_dear(name: str) -> None:
    cost = curve(BANDITS[name](), task()).points[:, 0]
    assert cost[0] == cost.min()
    assert cost[-1] == cost.max()
    assert cost[-1] > 5 * cost[0]


def test_support_vectors_aim_at_the_mean_of_grades() -> None:
    rival = SupportVectors()
    rival.fit(task().known, task().train.quality, None)
    predicted = rival.predict(task().asked, None)
    truth = synthetic.QUALITY[:, [synthetic.DOMAINS.index(domain) for domain in task().stream.domains or ()]].T
    blind = np.square(truth - task().train.quality.mean(axis=0)).mean()
    assert np.square(truth - predicted).mean() < 0.5 * blind
    again = SupportVectors()
    again.fit(task().known, task().train.quality, None)
    assert (again.predict(task().asked, None) == predicted).all()
    policy = next(iter(Predicting(SupportVectors()).policies(task())))
    assert isinstance(policy, Planned)


@pytest.mark.parametrize(
    ("make", "module"), [(ParetoBandit, "pareto_bandit"), (MabWiser, "mabwiser"), (SupportVectors, "sklearn")]
)
def test_a_missing_package_is_named(make: Callable[[], object], module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"mixllm\[evaluate\]"):
        make()
