"""Off-policy estimates: by hand, for coverage on simulated logs, and through the router against known outcomes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mixllm_engine import ConfigError, Outcome, Query, Router, RouterConfig, StateError, TableError
from mixllm_engine.config import PredictionConfig
from mixllm_engine.encoding.surface import surface
from mixllm_engine.evaluation.estimators import cross_fitted, doubly_robust, ips, snips
from mixllm_engine.evaluation.judged import JudgedLog, LeftOut, read_judged
from mixllm_engine.evaluation.off_policy import OffPolicyEstimate, estimate
from mixllm_engine.evaluation.policies import always, cost_unit_usd, frozen, probabilities, rescored
from mixllm_engine.store import open_store
from mixllm_engine.store.base import Store
from mixllm_engine.store.memory import MemoryStore
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router

NAMES = ("a", "b", "c")
DIMENSION = 6
KINDS = ("ips", "snips", "dr")
PRICES = np.array([0.001, 0.002, 0.02])
TASTE = np.random.default_rng(99).normal(size=(DIMENSION, len(NAMES)))
EXPLORING = RouterConfig.model_validate(
    {"exploration": {"mode": "thompson", "thompson_scale": 1.0, "rate": 0.5, "pulls": 10**6}}
)
TOPICS = {"poem": "write a poem about the sea and the wind", "sum": "add these numbers and give the total"}
# true chance of a good answer, and its cost
GOOD = {("poem", "cheap"): 0.3, ("poem", "dear"): 0.9, ("sum", "cheap"): 0.8, ("sum", "dear"): 0.4}
COST = {"cheap": 0.001, "dear": 0.02}

Array = npt.NDArray[np.float64]


# -- the estimators --------------------------------------------------------------------------------------------------


def test_estimates_by_hand() -> None:
    weight, reward = np.array([2.0, 0.0, 4.0, 1.0]), np.array([1.0, 1.0, 0.5, 0.0])
    found = ips(weight, reward, 0.95)
    assert found.value == 1.0  # (2 + 0 + 2 + 0) / 4
    assert found.standard_error == pytest.approx(np.sqrt(4 / 3) / 2)
    assert (found.low, found.high) == pytest.approx((1 - 1.959964 * 0.5773503, 1 + 1.959964 * 0.5773503), rel=1e-5)
    normalised = snips(weight, reward, 0.95)
    assert normalised.value == pytest.approx(4 / 7)
    residual = weight * (reward - 4 / 7) / (7 / 4)
    assert normalised.standard_error == pytest.approx(residual.std(ddof=1) / 2)
    target = np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.2, 0.8]])
    model, chosen = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5]]), np.array([0, 1, 0, 1])
    robust = doubly_robust(weight, reward, target, model, chosen, 0.95)
    rows = [0.9 + 2 * 0.1, 0.8, 0.5 + 4 * 0.1, 0.5 - 0.5]
    assert robust.value == pytest.approx(np.mean(rows))
    assert robust.standard_error == pytest.approx(np.std(rows, ddof=1) / 2)


def test_a_model_that_knows_all_leaves_no_doubt_and_one_that_knows_nothing_is_ips() -> None:
    rng = np.random.default_rng(0)
    weight, chosen = rng.uniform(0, 5, 50), rng.integers(0, 2, 50)
    target = np.tile([0.3, 0.7], (50, 1))
    known = doubly_robust(weight, chosen.astype(float), target, np.tile([0.0, 1.0], (50, 1)), chosen, 0.9)
    assert (known.value, known.standard_error) == pytest.approx((0.7, 0.0))
    reward = rng.random(50)
    assert doubly_robust(weight, reward, target, np.zeros((50, 2)), chosen, 0.9) == ips(weight, reward, 0.9)


def test_no_prediction_has_seen_its_own_label() -> None:
    rng = np.random.default_rng(1)
    contexts = np.c_[np.ones(40), rng.normal(size=(40, 3))]
    chosen, reward = rng.integers(0, 2, 40), np.r_[0.0, 0.0, 1.0, 1.0, rng.random(36)]

    def model(outcome: Array) -> Array:
        return cross_fitted(contexts, chosen, outcome, 3, config=PredictionConfig(), folds=4, seed=2)

    before = model(reward)
    for row in range(10, 40):
        changed = reward.copy()
        changed[row] = 1.0 - changed[row]
        after = model(changed)
        assert np.array_equal(after[row], before[row])
        assert not np.array_equal(after, before)
    assert before.min() >= 0.0
    assert before.max() <= 1.0


# -- simulated logs --------------------------------------------------------------------------------------------------


def softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    made: Array = weights / weights.sum(axis=1, keepdims=True)
    return made


def queries(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Return unit embeddings and every candidate's true quality."""
    embeddings = rng.normal(size=(count, DIMENSION))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings, 1.0 / (1.0 + np.exp(-2.0 * embeddings @ TASTE))


def target_policy(log: JudgedLog) -> Array:
    return softmax(4.0 * log.embeddings.astype(np.float64) @ TASTE)


def simulated(seed: int, count: int, **changes: Any) -> JudgedLog:
    """Return a log by a policy with rather poor taste."""
    rng = np.random.default_rng(seed)
    embeddings, quality = queries(rng, count)
    chances = softmax(2.0 * embeddings @ TASTE[:, ::-1])
    chosen = (rng.random(count)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    rows = np.arange(count)
    log = JudgedLog(
        identity="simulated",
        encoder="none",
        candidates=NAMES,
        embeddings=embeddings.astype(np.float16),
        prompt_tokens=np.ones(count),
        willingness_to_pay=np.ones(count),
        eligible=np.ones((count, len(NAMES)), dtype=bool),
        expected_quality=quality,
        expected_cost_usd=np.tile(PRICES, (count, 1)),
        cost_unit_usd=np.full(count, PRICES.max()),
        chosen=chosen,
        propensity=chances[rows, chosen],
        reward=(rng.random(count) < quality[rows, chosen]).astype(float),
        cost_usd=np.full(count, np.nan),
        left_out=LeftOut(),
    )
    return dataclasses.replace(log, **changes)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    embeddings, quality = queries(np.random.default_rng(10_000), 200_000)
    truth = float((softmax(4.0 * embeddings @ TASTE) * quality).sum(axis=1).mean())
    logs = [estimate(simulated(seed, 600), target_policy, level=0.9) for seed in range(200)]
    assert np.mean([log.reward.logged.value for log in logs]) < truth - 0.1  # the logging policy is far worse
    errors = {}
    for kind in KINDS:
        found = [getattr(log.reward, kind) for log in logs]
        values = np.array([one.value for one in found])
        covered = np.mean([one.low <= truth <= one.high for one in found])
        # three standard errors of a share of 0.9 over 200 logs are 0.064
        assert 0.9 - 0.064 <= covered <= 0.9 + 0.064, kind
        assert values.mean() == pytest.approx(truth, abs=3.5 * values.std() / np.sqrt(200)), kind
        assert np.mean([one.standard_error for one in found]) == pytest.approx(values.std(), rel=0.25), kind
        errors[kind] = values.std()
    assert max(errors["dr"], errors["snips"]) < 0.7 * errors["ips"]
    assert sum(bool(log.warnings) for log in logs) < 20


def test_the_same_policy_gets_the_mean_of_its_own_log() -> None:
    log = simulated(3, 400)

    def itself(log: JudgedLog) -> Array:
        return softmax(2.0 * log.embeddings.astype(np.float64) @ TASTE[:, ::-1])

    found = estimate(log, itself)
    assert found.reward.ips.value == pytest.approx(log.reward.mean(), abs=1e-3)  # embeddings are rounded to float16
    assert found.effective_rows == pytest.approx(400, abs=0.1)
    assert found.warnings == ()
    assert found.cost_usd is None


def test_choices_that_had_no_chance_are_counted_and_told() -> None:
    log = simulated(4, 400)
    eligible = np.ones((400, 3), dtype=bool)
    eligible[:100, 2] = False
    chosen = np.where(log.chosen == 2, 0, log.chosen)  # a policy that knows two candidates only
    log = dataclasses.replace(log, eligible=eligible, chosen=chosen, propensity=np.full(400, 0.5))
    found = estimate(log, always("c"))
    assert found.unsupported == 0.25
    assert found.effective_rows == found.largest_weight == found.mean_weight.value == found.reward.ips.value == 0.0
    assert np.isnan(found.reward.snips.value)
    assert found.reward.dr.value == pytest.approx(found.reward.logged.value, abs=0.02)  # the model's mean, no more
    assert [warning.split(":")[0] for warning in found.warnings] == [
        "25.0% of the policy's choices had no chance in this log",
        "the weights average 0, 0.75 is expected",
        "the estimates rest on the equivalent of 0 rows; their intervals may be too narrow",
    ]
    assert all(f"warning: {warning}" in str(found) for warning in found.warnings)
    assert estimate(log, always("nobody knows")).unsupported == 1.0
    certain = dataclasses.replace(log, propensity=np.ones(400))
    assert estimate(certain, always("a")).unsupported == pytest.approx((chosen != 0).mean())


def test_wrong_propensities_and_heavy_rows_are_told() -> None:
    log = simulated(5, 400)
    halved = estimate(dataclasses.replace(log, propensity=log.propensity / 2), target_policy)
    assert [warning for warning in halved.warnings if "propensities are too small" in warning]
    propensity = log.propensity.copy()
    row = int(np.argmax(target_policy(log)[np.arange(400), log.chosen]))
    propensity[row] = 1e-4
    heavy = estimate(dataclasses.replace(log, propensity=propensity), target_policy)
    assert heavy.largest_weight > 5000  # nothing is clipped
    assert any("of the total weight" in warning for warning in heavy.warnings)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (lambda log: ["a"], r"returns 50 names, or probabilities of shape \(50, 3\); got an array of shape \(1,\)"),
        (lambda log: np.ones((50, 2)), r"of shape \(50, 2\)"),
        (lambda log: np.ones((50, 3)), "sum to 1 in every row"),
        (lambda log: np.tile([2.0, -1.0, 0.0], (50, 1)), "at least 0"),
        (lambda log: np.full((50, 3), np.nan), "sum to 1"),
    ],
)
def test_a_policy_that_returns_something_else_is_refused(policy: Callable[[JudgedLog], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimate(simulated(0, 50), policy)


def test_levels_and_folds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"level=95.* between 0 and 1"):
        estimate(simulated(0, 50), always("a"), level=95)
    with pytest.raises(ConfigError, match="folds=1 must be at least 2"):
        estimate(simulated(0, 50), always("a"), folds=1)


# -- logs of a router ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(None if request.param == "memory" else tmp_path / "log.db")
    yield opened
    opened.close()


def served(seed: int, rounds: int) -> Router:
    """Return a router that has served queries of two topics and was told how good the answers were."""
    router = tiny_router(config=EXPLORING, seed=seed)
    rng = np.random.default_rng(seed)
    for step in range(rounds):
        topic = str(rng.choice(list(TOPICS)))
        decision = router.decide(f"{TOPICS[topic]} {step % 7}", willingness_to_pay=10.0)
        cost = COST[decision.candidate]
        router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=50, cost_usd=cost))
        router.feedback(decision, float(rng.random() < GOOD[topic, decision.candidate]))
    return router


def taught() -> Router:
    """Return a router that learned from a table which of the two answers what."""
    table: dict[str, list[Any]] = {"prompt": [f"{text} {n}" for text in TOPICS.values() for n in range(60)]}
    for name in COST:
        table[f"{name}|quality"] = [GOOD[topic, name] for topic in TOPICS for _ in range(60)]
        table[f"{name}|cost_usd"] = [COST[name]] * 120
        table[f"{name}|response_tokens"] = [50] * 120
    router = tiny_router()
    router.fit(table, progress=False)
    return router


def test_a_router_is_judged_from_the_log_of_another() -> None:
    policy = frozen(taught(), willingness_to_pay=10.0)  # a poem to the dear one, a sum to the cheap one
    truths = {"reward": (0.9 + 0.8) / 2, "cost_usd": (0.001 + 0.02) / 2}
    covered = {(name, kind): 0 for name in truths for kind in KINDS}
    for seed in range(12):
        found = estimate(served(seed, 300), policy)
        assert found.unsupported == 0.0
        assert found.left_out == LeftOut()
        for name, kind in covered:
            one = getattr(getattr(found, name), kind)
            covered[name, kind] += one.low <= truths[name] <= one.high
    assert min(covered.values()) >= 9, covered  # 9 or more of 12 at 95 %: all but once in 500


def test_both_stores_tell_the_same(store: Store) -> None:
    with Router(tiny_pool(), store=store, encoder=HashingEncoder(), seed=0, config=EXPLORING) as router:
        for step in range(20):
            decision = router.decide(f"question {step}", deny=["dear"] if step == 3 else ())
            router.feedback(decision, 0.0, key="user")
            router.feedback(decision, 1.0, key="judge")
            router.observe(decision.decision_id, Outcome(candidate=decision.candidate, cost_usd=0.5 + step))
        log = read_judged(store)
        assert log.candidates == ("cheap", "dear")
        assert log.reward.tolist() == [0.5] * 20
        assert log.cost_usd.tolist() == [0.5 + step for step in range(20)]
        assert log.eligible.all(axis=1).sum() == 19
        expected = np.append(HashingEncoder().encode(["question 4"])[0], surface("question 4"))
        assert np.array_equal(log.embeddings[4], expected.astype(np.float16))
        estimates = [estimate(source, always("dear")) for source in (log, store, router)]
        assert {type(one) for one in estimates} == {OffPolicyEstimate}
        assert estimates[0] == estimates[1] == estimates[2]


def test_only_free_choices_that_were_judged_count(store: Store) -> None:
    with Router(tiny_pool(), store=store, encoder=HashingEncoder(), seed=0, config=EXPLORING) as router:
        plain = [router.decide(f"question {step}", session="s") for step in range(6)]
        for decision in plain[:4]:
            router.feedback(decision, 1.0)
        router.feedback(router.decide("this one", force="dear"), 1.0)
        router.feedback(router.decide(Query(text="go on", in_tool_loop=True), session="s"), 0.0)
        failed = plain[4]
        router.observe(failed.decision_id, Outcome(candidate=failed.ranking[0], error="timeout"))
        router.observe(failed.decision_id, Outcome(candidate=failed.ranking[1]))
        router.feedback(failed, 0.0)
        log = read_judged(store)
    assert len(log) == 4
    assert log.left_out == LeftOut(without_feedback=1, not_chosen=2, fell_back=1)
    with Router(tiny_pool(), store=store, encoder=HashingEncoder(32), config=EXPLORING) as other:
        other.feedback(other.decide("another space"), 1.0)
        assert read_judged(store).left_out.other_encoder == 1
        with pytest.raises(
            StateError, match=r"by 'hashing-64\+surface', this router's encoder is 'hashing-32\+surface'"
        ):
            estimate(other, frozen(other))


def test_an_empty_log_says_what_it_holds(store: Store) -> None:
    with Router(tiny_pool(), store=store, encoder=HashingEncoder()) as router:
        router.decide("nobody judges this")
        router.feedback(router.decide("forced", force="dear"), 1.0)
        with pytest.raises(
            TableError, match="0 decisions to estimate from, at least 2 .* 1 without feedback, 1 not ch"
        ):
            estimate(store, always("dear"))


def test_decisions_that_memory_has_let_go_of_are_counted() -> None:
    router = tiny_router(store=MemoryStore(capacity=5))
    for step in range(8):
        decision = router.decide(f"question {step}")
        for key in ("user", "judge")[: 1 + (step > 6)]:
            router.feedback(decision, 1.0, key=key)
    log = read_judged(router._store)
    assert (len(log), log.left_out) == (4, LeftOut(without_feedback=4))


def test_a_policy_that_learned_from_the_log_is_told_so() -> None:
    router = served(0, 40)
    (warning,) = [text for text in estimate(router, frozen(router)).warnings if "own exercises" in text]
    assert "flatter" in warning
    assert not [text for text in estimate(router, frozen(taught())).warnings if "own exercises" in text]


def test_a_frozen_policy_stays_as_it_was_and_takes_other_settings() -> None:
    log, router = read_judged(served(1, 60)._store), taught()
    policy = frozen(router, willingness_to_pay=10.0)
    before = policy(log)
    assert set(before) == {"cheap", "dear"}
    for step in range(60):
        router.feedback(router.decide(f"{TOPICS['poem']} {step}", force="dear"), 0.0)
    assert policy(log) == before
    assert frozen(router, willingness_to_pay=10.0)(log) != before
    assert set(frozen(router, budget="very_low")(log)) == {"cheap"}
    assert set(frozen(taught(), willingness_to_pay=0.0)(log)) == {"cheap"}
    assert frozen(taught())(log) == before  # each row keeps its own lambda, and that was 10
    paper = RouterConfig.paper()
    assert set(frozen(taught(), config=paper, willingness_to_pay=0.0)(log)) == {"cheap"}
    assert set(frozen(taught(), config=EXPLORING, willingness_to_pay=10.0)(log)) == {"cheap", "dear"}
    with pytest.raises(ConfigError, match="not both"):
        frozen(router, budget="low", willingness_to_pay=1.0)
    with pytest.raises(ConfigError, match="the router's features"):
        frozen(router, config=RouterConfig.model_validate({"features": {"components": 3}}))


def test_a_frozen_policy_leaves_out_who_was_left_out() -> None:
    router = tiny_router(config=EXPLORING)
    for step in range(10):
        deny = ["dear"] if step < 5 else ()
        router.feedback(router.decide(f"{TOPICS['poem']} {step}", deny=deny), 1.0)
    log = read_judged(router._store)
    assert frozen(taught(), willingness_to_pay=np.inf)(log) == ["cheap"] * 5 + ["dear"] * 5
    alone = tiny_router(names=("dear",))
    assert frozen(alone)(log) == ["dear"] * 10  # nobody else is there
    assert estimate(log, frozen(alone)).unsupported == 0.5
    known = probabilities(always("cheap"), log)
    assert known.tolist() == [[1.0, 0.0]] * 10


def test_a_log_can_be_scored_anew_at_another_lambda(store: Store) -> None:
    config = RouterConfig.model_validate({"exploration": {"mode": "none", "rate": 0.0}})
    with Router(tiny_pool(), store=store, encoder=HashingEncoder(), seed=0, config=config) as router:
        for step in range(12):
            deny = ["dear"] if step == 3 else ()
            decision = router.decide(f"question {step}", deny=deny, willingness_to_pay=0.01 * 4**step)
            router.feedback(decision, 0.0 if decision.candidate == "cheap" else 1.0)
        unit = router._learner.reference_cost_usd
        log = read_judged(store)
        others = {step: rescored(0.01 * 4**step)(log) for step in range(12)}
        alone = router.decide("question 0", deny=["dear"], willingness_to_pay=1e6)
    assert log.cost_unit_usd == pytest.approx(unit, rel=1e-6)
    assert cost_unit_usd(log) == pytest.approx(unit, rel=1e-6)
    made = [log.candidates[column] for column in log.chosen]
    assert [others[step][step] for step in range(12)] == made
    assert set(made) == {"cheap", "dear"}
    assert rescored(0.0)(log) == ["cheap"] * 12
    assert rescored(math.inf)(log)[3] == alone.candidate == "cheap"  # the other one was left out
    with pytest.raises(ConfigError, match="must be finite and at least 0"):
        rescored(-1.0)


def test_a_log_without_costs_in_its_scores_has_a_unit_all_the_same() -> None:
    log = simulated(0, 50, cost_unit_usd=np.full(50, np.nan))
    assert cost_unit_usd(log) == pytest.approx(PRICES.max())
    assert set(rescored(0.0)(log)) == {"a"}
