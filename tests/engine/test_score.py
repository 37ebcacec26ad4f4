"""The meta decision maker: the paper's numbers worked out by hand, and what must hold for any numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine import RouterConfig
from mixllm_engine.config import DecisionConfig, ExplorationConfig
from mixllm_engine.decision.advance import KNOWN, to_newcomers
from mixllm_engine.decision.score import Scores, lateness, normal_distribution, score
from mixllm_engine.prediction.predictor import Prediction
from mixllm_engine.waiting.timing import Timing

PAPER, DEFAULT = RouterConfig.paper().decision, RouterConfig.default().decision
EXPLORATION = ExplorationConfig()


def prediction(quality: Any, cost: Any, leverage: Any = 0.0, tokens: float = 200.0) -> Prediction:
    quality = np.atleast_1d(np.asarray(quality, dtype=float))
    fill = np.ones_like(quality)
    return Prediction(
        quality=quality,
        log_length=math.log(tokens) * fill,
        length_deviation=0.5 * fill,
        response_tokens=tokens * fill,
        cost_usd=np.asarray(cost, dtype=float) * fill,
        leverage=np.asarray(leverage, dtype=float) * fill,
    )


def timing(size: int, waiting: Any = 0.0) -> Timing:
    fill = np.ones(size)
    return Timing(waiting_s=np.asarray(waiting, dtype=float) * fill, startup_s=0.5 * fill, tokens_per_s=50.0 * fill)


def scored(config: DecisionConfig, made: Prediction, times: Timing | None = None, **terms: Any) -> Scores:
    settings = {"willingness_to_pay": 2.0, "reference_cost_usd": 0.01, "max_wait_s": 10.0, **terms}
    return score(made, times or timing(len(made.quality)), config, **settings)


def test_the_paper_preset_equals_numbers_worked_out_by_hand() -> None:
    # Equations 7 to 11 with lambda = 2, alpha = 0.01, beta = 0.1, gamma = 1, xi = 0.8, tau = 10 s:
    # candidate 1: p = 0.8, c = 0.002 $, e'A^-1 e = 0.5, w = 7 s    candidate 2: p = 0.6, c = 0.0001 $, 0.25, w = 9 s
    parts = scored(PAPER, prediction([0.8, 0.6], [0.002, 0.0001], [0.5, 0.25]), timing(2, [7.0, 9.0]))
    assert parts.trade == pytest.approx([2 / 3 * 0.8 - 1 / 3 * 0.002, 2 / 3 * 0.6 - 1 / 3 * 0.0001])
    assert parts.uncertainty == pytest.approx([0.5, 0.25])  # no square root
    assert parts.penalty == pytest.approx([0.36787944, 2.71828183])  # e^-1 and e^1
    assert parts.total == pytest.approx([0.50087872, 0.13063848])


def test_the_default_takes_the_root_and_the_expected_loss_by_lateness() -> None:
    made, times = prediction([0.8], [0.002], [0.25]), timing(1, 3.0)
    parts = scored(DEFAULT, made, times)
    assert parts.trade == pytest.approx([2 / 3 * 0.8 - 1 / 3 * 0.002 / 0.01])
    assert parts.uncertainty == pytest.approx([0.5])
    # T = 3 + 0.5 + length / 50 <= 10 s means length <= 325; ln length is normal around ln 200 with deviation 0.5
    on_time = 0.5 * math.erfc(-(math.log(325 / 200) / 0.5) / math.sqrt(2))
    assert parts.penalty == pytest.approx([2 / 3 * 0.8 * (1 - on_time)], abs=2e-4)
    total = parts.trade + DEFAULT.uncertainty_weight * parts.uncertainty - DEFAULT.penalty_weight * parts.penalty
    assert parts.total == pytest.approx(total)


def test_the_exponential_does_not_overflow() -> None:
    with np.errstate(over="raise"):
        parts = scored(PAPER, prediction([0.8], [0.001]), timing(1, 1e6))
    assert np.isfinite(parts.total).all()


def test_the_normal_distribution_is_close_enough() -> None:
    z = np.linspace(-6, 6, 1001)
    exact = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
    assert np.abs(normal_distribution(z) - exact).max() < 2e-4
    assert normal_distribution(np.array([-1e9, 1e9])) == pytest.approx([0.0, 1.0], abs=1e-9)


CONFIGS = st.sampled_from([PAPER, DEFAULT])
QUALITY, COST = st.floats(0, 1), st.floats(1e-7, 1.0)


@given(CONFIGS, QUALITY, COST, COST, st.floats(0, 1e6))
def test_dearer_is_never_better(config: DecisionConfig, p: float, cheap: float, dear: float, lam: float) -> None:
    cheap, dear = sorted((cheap, dear))
    parts = scored(config, prediction([p, p], [cheap, dear]), willingness_to_pay=lam)
    assert parts.total[0] >= parts.total[1] - 1e-12


@given(CONFIGS, QUALITY, QUALITY, COST, COST, st.floats(1e-3, 1e3), st.floats(1, 1e3))
def test_more_willingness_never_turns_to_the_worse(
    config: DecisionConfig, p: float, q: float, c: float, d: float, lam: float, more: float
) -> None:
    p, q = sorted((p, q))
    c, d = sorted((c, d))  # the second is better and dearer
    low = scored(config, prediction([p, q], [c, d]), willingness_to_pay=lam).total
    high = scored(config, prediction([p, q], [c, d]), willingness_to_pay=lam * more).total
    if low[1] > low[0] + 1e-9:
        assert high[1] >= high[0] - 1e-9


@given(CONFIGS, QUALITY, COST, st.floats(0, 60), st.floats(0, 60))
def test_a_longer_wait_is_never_better(config: DecisionConfig, p: float, c: float, short: float, long: float) -> None:
    short, long = sorted((short, long))
    parts = scored(config, prediction([p, p], [c, c]), timing(2, [short, long]))
    assert parts.total[0] >= parts.total[1] - 1e-12


def test_no_limit_means_no_penalty() -> None:
    parts = scored(DEFAULT, prediction([0.5], [0.001]), timing(1, 1e5), max_wait_s=None)
    assert parts.penalty.tolist() == [0.0]
    assert lateness(prediction([0.5], [0.001]), timing(1, 1e5), 10.0)[0] > 1 - 1e-6


def test_an_infinite_willingness_looks_at_quality_alone() -> None:
    parts = scored(DEFAULT, prediction([0.5, 0.6], [0.0, 1e3]), willingness_to_pay=math.inf)
    assert parts.trade.tolist() == [0.5, 0.6]


@given(CONFIGS, QUALITY, COST, st.floats(0, 1e6), st.lists(st.floats(0, 300), min_size=1, max_size=5))
def test_the_parts_add_up(config: DecisionConfig, p: float, c: float, lam: float, labels: list[float]) -> None:
    fill = np.ones(len(labels))
    terms: dict[str, Any] = {
        "feedback": 0.3 * fill,
        "advance": to_newcomers(np.array([0.0, *labels[1:]]), EXPLORATION),
        "willingness_to_pay": lam,
    }
    parts = scored(config, prediction(p * fill, c, 0.5), **terms)
    assert parts.optimism is not None
    assert parts.feedback is not None
    known = parts.trade + config.uncertainty_weight * parts.uncertainty - config.penalty_weight * parts.penalty
    assert parts.without_optimism == pytest.approx(known + parts.feedback)
    assert parts.total == pytest.approx(known + parts.feedback + parts.optimism)


@given(st.integers(EXPLORATION.pulls, 400), st.integers(1, 400))
def test_optimism_shrinks_with_every_label_and_ends(labels: int, more: int) -> None:
    found = to_newcomers(np.array([labels, labels + more, 0.0, EXPLORATION.pulls - 1.0, KNOWN]), EXPLORATION)
    assert found is not None
    assert found[0] > found[1] >= 0.0 or found[0] == found[1] == 0.0
    assert (found[0] > 0.0) == (labels < KNOWN)
    assert found[2:].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("changes", [{"mode": "none"}, {"mode": "thompson"}, {"optimism": 0.0}])
def test_only_ucb_gives_anything_in_advance(changes: dict[str, Any]) -> None:
    assert to_newcomers(np.array([30.0]), EXPLORATION.model_copy(update=changes)) is None
    assert scored(DEFAULT, prediction([0.5], [0.001])).optimism is None
