from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine.evaluation.frontier import (
    NOT_REACHED_PERCENT,
    Frontier,
    against_singles,
    gain_at_equal_cost,
    summary,
)
from mixllm_engine.types import Matrix
from tests.evaluation import synthetic

NUMBER = st.floats(0.01, 1.0, allow_nan=False).map(lambda value: round(value, 6))
CURVES = st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=12).map(np.array)


@given(CURVES)
def test_a_hull_is_above_its_points_and_bends_down(points: Matrix) -> None:
    hull = Frontier.of(points)
    assert (np.diff(hull.cost) > 0).all()
    assert (np.diff(hull.quality) > 0).all()
    slopes = np.diff(hull.quality) / np.diff(hull.cost)
    assert (np.diff(slopes) <= 1e-9 * np.abs(slopes[1:])).all()
    assert (hull.quality_at(points[:, 0]) >= points[:, 1] - 1e-12).all()
    assert {tuple(corner) for corner in zip(hull.cost, hull.quality, strict=True)} <= set(map(tuple, points))


@given(CURVES, st.randoms())
def test_a_hull_does_not_depend_on_order_or_repetition(points: Matrix, chance: object) -> None:
    hull, again = Frontier.of(points), Frontier.of(np.concatenate([points[::-1], points]))
    assert hull.cost.tolist() == again.cost.tolist()
    assert hull.quality.tolist() == again.quality.tolist()


@given(CURVES, CURVES)
def test_more_points_never_make_a_curve_worse(points: Matrix, more: Matrix) -> None:
    hull, larger = Frontier.of(points), Frontier.of(np.concatenate([points, more]))
    assert larger.area(0.0, 1.0) >= hull.area(0.0, 1.0) - 1e-12
    cost, cheaper = hull.cost_of(float(hull.quality[-1])), larger.cost_of(float(hull.quality[-1]))
    assert cost is not None
    assert cheaper is not None
    assert cheaper <= cost + 1e-9


@given(CURVES, st.floats(0.0, 1.0))
def test_cost_and_quality_are_each_others_inverse(points: Matrix, part: float) -> None:
    hull = Frontier.of(points)
    quality = float(hull.quality[0] + part * (hull.quality[-1] - hull.quality[0]))
    cost = hull.cost_of(min(quality, float(hull.quality[-1])))
    assert cost is not None
    assert hull.quality_at(np.array([cost]))[0] == pytest.approx(quality)


@given(CURVES)
def test_an_area_is_a_mean_quality(points: Matrix) -> None:
    hull = Frontier.of(points)
    first, last = float(hull.cost[0]), float(hull.cost[-1]) + 1.0
    assert hull.quality[0] - 1e-9 <= hull.area(first, last) <= hull.quality[-1] + 1e-9
    grid = np.linspace(0.0, 2.0, 20_001)
    assert hull.area(0.0, 2.0) == pytest.approx(np.nan_to_num(hull.quality_at(grid)).mean(), abs=2e-3)


@given(CURVES, st.floats(0.5, 2.0))
def test_gains_are_relative_to_the_base(points: Matrix, factor: float) -> None:
    assert gain_at_equal_cost(points, points) == pytest.approx(0.0, abs=1e-9)
    better = points * [1.0, factor]
    assert gain_at_equal_cost(better, points) == pytest.approx(100.0 * (factor - 1.0), abs=1e-6)


def test_by_hand() -> None:
    hull = Frontier.of(np.array([[1.0, 0.5], [3.0, 0.9], [2.0, 0.6]]))
    assert hull.quality_at(np.array([0.5, 2.0, 9.0])).tolist() == [pytest.approx(np.nan, nan_ok=True), 0.7, 0.9]
    assert hull.cost_of(0.7) == pytest.approx(2.0)
    assert hull.cost_of(0.2) == 1.0
    assert hull.cost_of(0.91) is None
    # nothing up to 1, a ramp of mean 0.7 over 2, then 0.9 over 1
    assert hull.area(0.0, 4.0) == pytest.approx((0.7 * 2 + 0.9) / 4)
    assert hull.area(0.0, 0.5) == 0.0


def test_a_summary_is_relative_to_the_best_single_llm() -> None:
    data = synthetic.pool(200)
    spend, worth = data.cost_usd.mean(axis=0), data.quality.mean(axis=0)
    singles = summary(np.stack([spend, worth], axis=1), data)
    assert singles["cost@100"] == pytest.approx(100.0)
    assert singles["cost@95"] < singles["cost@97.25"] < singles["cost@99"] < 100.0
    assert singles["missed@100 %"] == 0.0
    cheap = summary(np.array([[spend[0], worth[0]]]), data)
    assert cheap["cost@99"] == NOT_REACHED_PERCENT
    assert cheap["missed@99 %"] == 100.0
    assert cheap["area"] < singles["area"]


def test_where_the_best_single_llm_is_free_costs_are_relative_to_the_dearest() -> None:
    spend, worth = np.array([0.0, 2.0, 4.0]), np.array([0.9, 0.3, 0.5])
    told = against_singles(np.array([[0.0, 0.8], [1.0, 0.9]]), spend, worth, cheapest_worth=0.9)
    assert told["cost@95"] == pytest.approx(100.0 * 0.55 / 4.0)
    assert told["cost@100"] == pytest.approx(25.0)
    assert against_singles(np.array([[0.0, 0.9]]), np.zeros(3), worth, cheapest_worth=0.9)["cost@100"] == 0.0
