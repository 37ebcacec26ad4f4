"""Off-policy estimates: by hand, for coverage on simulated logs, and what is told where a log supports too little."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mixllm_engine import ConfigError
from mixllm_engine.config import PredictionConfig
from mixllm_engine.evaluation.estimators import cross_fitted, doubly_robust, ips, snips
from mixllm_engine.evaluation.judged import JudgedLog
from mixllm_engine.evaluation.off_policy import estimate
from mixllm_engine.evaluation.policies import always, cost_unit_usd, rescored
from tests.engine.simulated_logs import KINDS, PRICES, TASTE, Array, queries, simulated, softmax, target_policy

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


def test_a_log_without_costs_in_its_scores_has_a_unit_all_the_same() -> None:
    log = simulated(0, 50, cost_unit_usd=np.full(50, np.nan))
    assert cost_unit_usd(log) == pytest.approx(PRICES.max())
    assert set(rescored(0.0)(log)) == {"a"}
