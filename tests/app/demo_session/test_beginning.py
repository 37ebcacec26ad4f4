"""What a visit begins with: the curve, the unit of cost, the encoded rows and the recorded LLMs."""

from __future__ import annotations

import pytest

from mixllm_engine.app.demo.curve import cost_unit_usd, measure
from mixllm_engine.app.demo.pool import RECORDED, offered, recorded_candidates
from mixllm_engine.app.demo.session import Visit
from mixllm_engine.app.demo.stage import RowsEncoder, Stage
from mixllm_engine.app.demo.visits import Visits
from mixllm_engine.config import BUDGET_WORDS
from mixllm_engine.testing import HashingEncoder
from tests.app.demo_stage import DEAR, OWN


def test_the_curve_reaches_from_the_cheapest_to_the_best(visit: Visit) -> None:
    curve = visit.curve()
    assert curve is not None and curve.present is None and curve.rows == len(visit.stage.held_out)
    singles = dict(curve.singles)
    held_out = visit.stage.held_out
    assert singles[DEAR].cost_usd == pytest.approx(held_out.cost_usd[:, held_out.column(DEAR)].mean())
    assert curve.routed[0].cost_usd == pytest.approx(min(point.cost_usd for point in singles.values()))
    assert max(point.quality for point in curve.routed) > singles["cheap"].quality
    visit.ask(OWN, "Very Low")
    low = visit.curve()
    visit.rebudget("Very High")
    high = visit.curve()
    assert low is not None and high is not None and low.present is not None and high.present is not None
    assert low.present.cost_usd <= high.present.cost_usd and low.present.quality < high.present.quality


def test_the_unit_of_cost_is_that_of_the_scores(visit: Visit) -> None:
    for budget in BUDGET_WORDS:
        decision = visit.router.decide(OWN, budget=budget)
        unit = cost_unit_usd(decision)
        assert unit is not None
        for score in decision.scores.values():
            willing = decision.willingness_to_pay
            assert score.trade == pytest.approx((willing * score.quality - score.cost_usd / unit) / (willing + 1.0))


def test_a_curve_needs_two_llms_with_outcomes(visit: Visit) -> None:
    for name in visit.names[1:]:
        visit.remove(name)
    assert measure(visit.router, visit.stage.held_out, None) is None


def test_the_rows_are_encoded_once_and_as_they_would_be_anew() -> None:
    calls: list[int] = []

    class Counting(HashingEncoder):
        def encode(self, texts):  # type: ignore[no-untyped-def]
            calls.append(len(texts))
            return super().encode(texts)

    encoder = RowsEncoder(Counting(32), ["a b", "c"])
    assert (encoder.encode(["new", "c", "a b"]) == HashingEncoder(32).encode(["new", "c", "a b"])).all()
    assert (encoder.encode(["new"]) == HashingEncoder(32).encode(["new"])).all()
    assert calls == [2, 1] and encoder.count_tokens("a b") == encoder.count_tokens("d e") == 2
    encoder.encode([f"text {number}" for number in range(100)])
    encoder.encode(["new"])
    assert len(calls) == 2 + 100 + 1  # only the latest are remembered
    assert encoder.encode([]).shape == (0, 32) and encoder.fingerprint == "hashing-32"


def test_the_recorded_llms_have_prices_and_the_offered_ones_too() -> None:
    assert [one.name for one in recorded_candidates()] == [name for name, *_ in RECORDED]
    assert "openai/gpt-4o-mini" in offered()


def test_the_dearest_is_who_is_expected_to_cost_most(visit: Visit) -> None:
    before = visit.screen().dearest
    costs = visit.router.predict(visit.stage.held_out.texts)
    assert costs.cost_usd.mean(axis=0).max() == costs.cost_usd.mean(axis=0)[costs.candidates.index(before)]
    visit.remove(before)
    assert visit.screen().dearest not in (before, "")


def test_whoever_has_no_key_yet_is_alone(stage: Stage) -> None:
    visits = Visits(stage)
    try:
        assert visits.of("") is not visits.of("")
    finally:
        visits.close()
