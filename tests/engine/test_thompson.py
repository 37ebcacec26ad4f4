"""Thompson sampling: probabilities against closed forms and draws, and what the router makes of them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mixllm_engine import Query, RouterConfig
from mixllm_engine.config import DecisionConfig
from mixllm_engine.decision.choice import choose
from mixllm_engine.decision.score import score
from mixllm_engine.decision.thompson import Totals, spread
from mixllm_engine.prediction.predictor import Prediction
from mixllm_engine.testing import tiny_router
from mixllm_engine.waiting.timing import Timing

NAMES = ("a", "b", "c", "d")
TOTAL = st.tuples(st.floats(-2.0, 2.0), st.floats(-4.0, 0.5).map(lambda power: 10.0**power))
SEVERAL = st.lists(TOTAL, min_size=2, max_size=12)


def totals(*pairs: tuple[float, float]) -> Totals:
    return Totals(mean=np.array([mean for mean, _ in pairs]), deviation=np.array([width for _, width in pairs]))


def exploring(**settings: Any) -> RouterConfig:
    return RouterConfig.model_validate({"exploration": {"mode": "thompson", "rate": 0.0, **settings}})


@pytest.mark.parametrize("other", [1.0, 0.1, 1e-3, 1e-6, 0.0])
@pytest.mark.parametrize("gap", [0.0, 0.3, -1.0, 4.0])
def test_two_totals_have_a_closed_form(gap: float, other: float) -> None:
    expected = 0.5 * (1.0 + math.erf(gap / math.hypot(1.0, other) / math.sqrt(2.0)))
    found = totals((gap, 1.0), (0.0, other)).probabilities()
    assert found == pytest.approx([expected, 1.0 - expected], abs=1e-6)


def test_certain_totals_are_compared_as_numbers_and_the_first_of_equals_wins() -> None:
    rng = np.random.default_rng(0)
    for means, winner in (((0.1, 0.3, 0.3), 1), ((0.5, 0.5, 0.5), 0)):
        certain = totals(*((mean, 0.0) for mean in means))
        assert certain.probabilities().tolist() == [float(place == winner) for place in range(3)]
        assert certain.draw(rng) == winner
    # a width that is lost in the rounding of the mean counts as none, for draws and probabilities alike
    lost = totals((1e6, 1e-6), (1e6, 1e-6))
    assert lost.probabilities().tolist() == [1.0, 0.0]
    assert {lost.draw(rng) for _ in range(50)} == {0}


@pytest.mark.parametrize("count", [3, 10, 100])
def test_equals_share_evenly_and_many_are_no_matter(count: int) -> None:
    assert totals(*[(0.2, 0.05)] * count).probabilities() == pytest.approx(np.full(count, 1.0 / count), rel=2e-4)


def test_probabilities_are_the_frequencies_of_draws() -> None:
    rng = np.random.default_rng(3)
    for case in (
        totals((0.0, 1.0), (0.5, 0.2), (0.6, 0.0), (0.2, 3.0), (0.59, 1e-4)),
        totals((0.8, 0.02), (0.81, 0.03), (0.7, 0.05), (0.75, 0.05), (0.2, 0.05)),
    ):
        counts = Counter(case.draw(rng) for _ in range(40_000))
        # six standard errors of a share near a half over 40,000 draws are 0.015
        assert [counts[place] / 40_000 for place in range(5)] == pytest.approx(case.probabilities().tolist(), abs=0.015)


def test_fifty_candidates_agree_with_a_fine_sum() -> None:
    rng = np.random.default_rng(5)
    mean, width = rng.normal(size=50) * 0.3, 10.0 ** rng.uniform(-3, 0, size=50)
    draws = np.argmax(mean + width * rng.standard_normal((200_000, 50)), axis=1)
    shares = np.bincount(draws, minlength=50) / 200_000
    assert Totals(mean=mean, deviation=width).probabilities() == pytest.approx(shares, abs=0.007)


@given(SEVERAL)
def test_probabilities_sum_to_one(pairs: list[tuple[float, float]]) -> None:
    found = totals(*pairs).probabilities()
    assert found.sum() == pytest.approx(1.0, abs=1e-4)
    assert (found >= 0).all()


@given(SEVERAL, st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter(pairs: list[tuple[float, float]], random: Any) -> None:
    order = random.sample(range(len(pairs)), len(pairs))
    moved = totals(*(pairs[place] for place in order)).probabilities()
    assert moved == pytest.approx(totals(*pairs).probabilities()[order], abs=1e-9)


@given(SEVERAL, st.floats(0.0, 1.0))
def test_a_better_mean_is_no_less_probable(pairs: list[tuple[float, float]], more: float) -> None:
    mean, width = pairs[0]
    better = totals((mean + more, width), *pairs[1:]).probabilities()
    before = totals(*pairs).probabilities()
    assert better[0] >= before[0] - 1e-4
    assert (better[1:] <= before[1:] + 1e-4).all()


def test_a_choice_mixes_draws_of_newcomers_with_the_posterior() -> None:
    case = totals((0.5, 0.1), (0.45, 0.2), (0.0, 0.01))
    ranking, rng = [2, 0, 1], np.random.default_rng(0)
    choices = [choose(list(ranking), [1], 0.3, rng, case) for _ in range(30_000)]
    seen = {choice.ranking[0]: choice.propensity for choice in choices}
    likely = dict(zip(ranking, case.probabilities().tolist(), strict=True))
    assert seen == pytest.approx({2: 0.7 * likely[2], 0: 0.7 * likely[0], 1: 0.3 + 0.7 * likely[1]})
    counts = Counter(choice.ranking[0] for choice in choices)
    assert {place: counts[place] / 30_000 for place in seen} == pytest.approx(seen, abs=0.018)  # six standard errors
    assert all(choice.explored == (choice.ranking[0] != 2) for choice in choices if choice.ranking[0] != 1)


def test_the_spread_is_how_the_total_moves_with_quality() -> None:
    config = DecisionConfig(penalty_weight=0.7)
    quality = np.array([0.4, 0.6, 0.5])
    prediction = Prediction(
        quality=quality,
        log_length=np.log([100.0, 400.0, 2000.0]),
        length_deviation=np.array([0.5, 0.5, 0.5]),
        response_tokens=np.array([100.0, 400.0, 2000.0]),
        cost_usd=np.array([0.1, 0.2, 0.3]),
        leverage=np.array([0.04, 0.01, 0.09]),
    )
    timing = Timing(waiting_s=np.zeros(3), startup_s=np.full(3, 0.5), tokens_per_s=np.full(3, 50.0))

    def total(made: Prediction) -> np.ndarray[Any, Any]:
        terms: dict[str, Any] = {"willingness_to_pay": 3.0, "reference_cost_usd": 1.0, "max_wait_s": 10.0}
        return score(made, timing, config, **terms).total

    moved = total(prediction._replace(quality=quality + 0.1)) - total(prediction)
    found = spread(prediction, timing, config, 0.5, 0.75, 10.0)
    assert found == pytest.approx(0.5 * np.array([0.2, 0.1, 0.3]) * moved / 0.1)
    assert found[2] < 0.4 * 0.5 * 0.3 * 0.75  # hardly ever in time
    assert spread(prediction, timing, config, 0.5, 0.75, None) == pytest.approx(0.375 * np.array([0.2, 0.1, 0.3]))


def test_logged_propensities_are_the_frequencies_of_the_whole_policy() -> None:
    config = exploring(rate=0.2, pulls=10**6, thompson_scale=0.3)
    router = tiny_router(names=NAMES, config=config)
    for step in range(8):
        router.feedback(router.decide("hello there", force="abc"[step % 3]), float(step % 2))
    decisions = [router.decide("hello there", willingness_to_pay=20.0) for _ in range(4000)]
    logged = {decision.candidate: decision.propensity for decision in decisions}
    assert sum(logged.values()) == pytest.approx(1.0, abs=1e-4)
    counts = Counter(decision.candidate for decision in decisions)
    assert {name: counts[name] / 4000 for name in NAMES} == pytest.approx(logged, abs=0.047)  # six standard errors
    assert len(logged) == 4


def test_what_is_explored_is_not_the_best_and_the_rest_stays_in_order() -> None:
    router = tiny_router(names=NAMES, config=exploring(thompson_scale=0.5))
    decisions = [router.decide(f"question {step}", willingness_to_pay=20.0) for step in range(200)]
    for decision in decisions:
        best = max(NAMES, key=lambda name: decision.scores[name].total)
        assert decision.explored == (decision.candidate != best)
        assert decision.reason == ("exploration" if decision.explored else "score")
        others = [decision.scores[name].total for name in decision.ranking[1:]]
        assert others == sorted(others, reverse=True)
    assert 20 < sum(decision.explored for decision in decisions) < 180


def test_nothing_is_explored_in_a_tool_loop_or_when_forced() -> None:
    router = tiny_router(names=NAMES, config=exploring(thompson_scale=100.0, rate=0.5))
    looping = Query(text="go on", in_tool_loop=True)
    started = router.decide("begin", session="s")
    for _ in range(30):
        inside = router.decide(looping, session="s")
        assert (inside.candidate, inside.propensity, inside.explored) == (started.candidate, 1.0, False)
        without_session = router.decide(looping)
        assert (without_session.propensity, without_session.explored) == (1.0, False)
        forced = router.decide("x", force="b")
        assert (forced.candidate, forced.propensity, forced.explored) == ("b", 1.0, False)


def test_excluded_candidates_are_never_drawn() -> None:
    router = tiny_router(names=NAMES, config=exploring(thompson_scale=100.0))
    decisions = [router.decide("x", deny=["a", "c"]) for _ in range(60)]
    assert {decision.candidate for decision in decisions} == {"b", "d"}
    assert router.decide("x", allow=["c"]).propensity == 1.0


def test_only_ucb_has_a_bonus() -> None:
    made = {}
    for mode in ("none", "ucb", "thompson"):
        config = RouterConfig.model_validate(
            {"decision": {"uncertainty_weight": 0.5}, "exploration": {"mode": mode, "rate": 0.0}}
        )
        made[mode] = tiny_router(config=config).decide("hello").scores["dear"]
    plain = made["none"].trade - made["none"].penalty
    assert made["none"].total == made["thompson"].total == pytest.approx(plain)
    assert made["ucb"].total == pytest.approx(plain + 0.5 * made["ucb"].uncertainty)
    assert RouterConfig.default().exploration.mode == RouterConfig.paper().exploration.mode == "ucb"


def test_without_scale_nothing_is_left_to_chance() -> None:
    router = tiny_router(names=NAMES, config=exploring(thompson_scale=0.0))
    decisions = [router.decide(f"question {step}") for step in range(30)]
    assert {(decision.propensity, decision.explored) for decision in decisions} == {(1.0, False)}


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValidationError, match="'none', 'ucb' or 'thompson'"):
        exploring(mode="greedy")
