"""Budgets: words, calibration, dollars kept on average."""

from __future__ import annotations

import numpy as np
import pytest

from mixllm_engine import ConfigError
from mixllm_engine.config import BUDGET_WORDS
from mixllm_engine.decision.budget import (
    SPEND_SHARE,
    UNCALIBRATED,
    Budgets,
    SpendCurve,
    check_budget,
    check_willingness,
)
from mixllm_engine.decision.score import trade_weights


def pool(rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    quality = np.clip(rng.normal([0.5, 0.7, 0.8], 0.15, (rows, 3)), 0, 1)
    cost = np.array([0.0002, 0.002, 0.01]) * rng.lognormal(0, 0.3, (rows, 3))
    return quality, cost


def test_words_rise_and_unknown_ones_are_refused() -> None:
    assert list(UNCALIBRATED) == list(SPEND_SHARE) == list(BUDGET_WORDS)
    assert list(UNCALIBRATED.values()) == sorted(UNCALIBRATED.values())
    with pytest.raises(ConfigError, match="unknown budget 'cheap'; allowed: 'very_low'.*or dollars per query"):
        check_budget("cheap")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), True, None])
def test_dollars_must_be_a_sensible_number(bad: float) -> None:
    with pytest.raises(ConfigError, match="budget="):
        check_budget(bad)


def test_nothing_is_bought_for_nothing() -> None:
    with pytest.raises(ConfigError, match="budget=0 buys nothing"):
        check_budget(0.0)
    with pytest.raises(ConfigError, match="willingness_to_pay=-0.1"):
        check_willingness(-0.1)
    assert check_willingness(float("inf")) == float("inf")


def test_calibrated_words_spend_about_their_share_of_the_dearest() -> None:
    quality, cost = pool()
    budgets = Budgets()
    budgets.curve = SpendCurve.measure(quality, cost, reference_cost_usd=0.01)
    rows = np.arange(len(quality))
    for word, share in SPEND_SHARE.items():
        on_quality, on_cost = trade_weights(budgets.willingness(word))
        chosen = np.argmax(on_quality * quality - on_cost * cost / 0.01, axis=1)
        spent = cost[rows, chosen].mean() / cost[:, 2].mean()
        most = (cost[rows, quality.argmax(axis=1)].mean()) / cost[:, 2].mean()  # what quality alone would spend
        assert spent <= share + 0.02
        assert spent >= min(share, most) - 0.12


def test_the_whole_of_the_dearest_may_be_spent_however_its_mean_is_rounded() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        cost = rng.lognormal([-9.0, -5.0], 0.5, (2000, 2))
        quality = rng.uniform([0.2, 0.85], [0.3, 0.95], (2000, 2))
        curve = SpendCurve.measure(quality, cost, reference_cost_usd=float(cost[:, 1].mean()))
        assert curve.by_word["very_high"] == curve.willingness_to_pay[-1]


def test_a_dollar_budget_is_kept_on_average_over_an_open_stream() -> None:
    quality, cost = pool(6000)
    budgets, target = Budgets(), 0.003  # no calibration at all
    paid = []
    for p, c in zip(quality, cost, strict=True):
        on_quality, on_cost = trade_weights(budgets.willingness(target))
        chosen = int(np.argmax(on_quality * p - on_cost * c / 0.01))
        paid.append(c[chosen])
        budgets.spent(target, c[chosen])
    assert np.mean(paid[500:]) == pytest.approx(target, rel=0.05)


def test_the_pacer_reacts_when_prices_rise() -> None:
    quality, cost = pool(6000)
    budgets, target = Budgets(), 0.003
    paid = []
    for step, (p, c) in enumerate(zip(quality, cost, strict=True)):
        now = c * (4.0 if step >= 3000 else 1.0)
        on_quality, on_cost = trade_weights(budgets.willingness(target))
        chosen = int(np.argmax(on_quality * p - on_cost * now / 0.01))
        paid.append(now[chosen])
        budgets.spent(target, now[chosen])
    assert np.mean(paid[3500:]) == pytest.approx(target, rel=0.08)
