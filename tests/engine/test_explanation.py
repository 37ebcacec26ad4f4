"""An explanation adds up, and what it says would change the choice does change it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine import Router
from mixllm_engine.config import DecisionConfig, ExplorationConfig, FeatureConfig, RouterConfig
from mixllm_engine.counterfactual import Counterfactual
from mixllm_engine.testing import tiny_router
from mixllm_engine.types import Decision, Score

PLAIN = FeatureConfig(domains="none")
DEFAULT = RouterConfig(features=PLAIN)
PAPER = RouterConfig.paper().model_copy(update={"features": PLAIN})
# Neither chance nor what depends on quality or on lambda besides the trade.
BARE = RouterConfig(
    features=PLAIN, decision=DecisionConfig(penalty="none"), exploration=ExplorationConfig(rate=0.0, optimism=0.0)
)


def taught(config: RouterConfig, store: Path | None = None, rows: int = 40) -> Router:
    router = tiny_router(names=("cheap", "middle", "dear"), config=config, store=store)
    levels = {"cheap": 0.45, "middle": 0.6, "dear": 0.8}
    columns: dict[str, Any] = {f"{name}|quality": [level, level - 0.2] * (rows // 2) for name, level in levels.items()}
    columns["middle|quality"] = [1.0 if n % 7 == 3 else level for n, level in enumerate(columns["middle|quality"])]
    router.fit({"prompt": [f"question {n % 7}" for n in range(rows)], **columns}, progress=False)
    return router


@pytest.mark.parametrize("config", [DEFAULT, PAPER, BARE], ids=["default", "paper", "bare"])
def test_the_parts_add_up_to_the_score_that_is_shown(config: RouterConfig, tmp_path: Path) -> None:
    with taught(config, tmp_path / "log.db") as router:
        for _ in range(20):
            router.dispatched(router.decide("question 3").decision_id, "cheap")
        decision = router.decide("question 3", willingness_to_pay=2.0, max_wait_s=9.0)
        explanation = router.explain(decision.decision_id)  # read back from the database
    data = explanation.as_dict()
    for name, score in decision.scores.items():
        assert sum(explanation.parts(name).values()) == pytest.approx(score.total, abs=1e-12)
        assert sum(data["parts"][name].values()) == pytest.approx(data["scores"][name]["total"], abs=1e-12)
    heading, *rows = str(explanation).splitlines()[2:6]
    assert heading.split("trade")[1].split()[-1] == "score"
    for row in rows:
        cells = [float(cell) for cell in row.replace("<- chosen", "").split()[1:]]
        assert sum(cells[4:-1]) == pytest.approx(cells[-1], abs=3e-4)  # as a reader adds them


def test_a_decision_of_an_older_store_says_what_it_knows() -> None:
    router = taught(DEFAULT)
    explanation = router.explain(router.decide("question 3").decision_id)
    older = dataclasses.replace(explanation.decision, uncertainty_weight=None, penalty_weight=None)
    shown = dataclasses.replace(explanation, record=dataclasses.replace(explanation.record, decision=older))
    assert shown.parts("dear")["unsure"] == older.scores["dear"].uncertainty
    assert "dear" in str(shown)


@given(willingness=st.floats(0.05, 50.0), question=st.integers(0, 6), leads=st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_willingness_to_pay_that_is_named_is_where_the_choice_changes(
    willingness: float, question: int, leads: bool
) -> None:
    router = taught(BARE, rows=600 if leads else 40)  # who leads is known after 200 labels
    decision = router.decide(f"question {question}", willingness_to_pay=willingness)
    if question == 3:
        assert (decision.scores["dear"].optimism > 0.0) == leads
    change = Counterfactual.of(decision)
    assert change
    if change.willingness_to_pay is None:
        return
    up = change.willingness_to_pay > willingness
    for side in (0.999, 1.001):
        scores = router.decide(
            f"question {question}", willingness_to_pay=change.willingness_to_pay * side, force=decision.candidate
        ).scores
        ahead = scores[change.runner_up].total > scores[decision.candidate].total
        assert ahead == ((side > 1.0) == up)


QUALITY, COST = st.floats(0.01, 1.0), st.floats(0.001, 5.0)


@given(willingness=st.floats(0.05, 50.0), one=st.tuples(QUALITY, COST), two=st.tuples(QUALITY, COST))
def test_each_change_that_is_named_draws_level(
    willingness: float, one: tuple[float, float], two: tuple[float, float]
) -> None:
    decision = made(willingness, one=one, two=two)
    change = Counterfactual.of(decision)
    assert change is not None
    assert change.gap >= 0.0
    loser, winner = decision.scores[change.runner_up], decision.scores[decision.candidate]
    changed = [
        (willingness, change.quality, loser.cost_usd),
        (willingness, loser.quality, change.cost_usd),
        (change.willingness_to_pay, loser.quality, loser.cost_usd),
    ]
    for lambda_, quality, cost_usd in changed:
        if lambda_ is not None and quality is not None and cost_usd is not None:
            level = made(lambda_, winner=(winner.quality, winner.cost_usd), loser=(quality, cost_usd)).scores
            assert level["winner"].total == pytest.approx(level["loser"].total, abs=1e-9)


def made(willingness: float, **scores: tuple[float, float]) -> Decision:
    """Return a decision by hand: quality and cost in the pool's unit, which is a dollar."""
    on_quality, on_cost = willingness / (willingness + 1.0), 1.0 / (willingness + 1.0)
    table = {
        name: Score(
            quality=quality, response_tokens=1.0, cost_usd=cost, uncertainty=0.0, waiting_s=0.0, penalty=0.0,
            trade=on_quality * quality - on_cost * cost, total=on_quality * quality - on_cost * cost,
        )
        for name, (quality, cost) in scores.items()
    }  # fmt: skip
    best = max(table, key=lambda name: table[name].total)
    return Decision(
        decision_id="d", candidate=best, ranking=tuple(table), propensity=1.0, explored=False, scores=table,
        willingness_to_pay=willingness, time_s=0.0,
    )  # fmt: skip


def test_a_case_by_hand() -> None:
    change = Counterfactual.of(made(1.0, cheap=(0.5, 0.1), dear=(0.9, 1.0)))  # 0.2 against -0.05
    assert change is not None
    assert change.runner_up == "dear"
    assert change.gap == pytest.approx(0.25)
    assert change.quality is None  # 0.9 + 0.5 is more than 1
    assert change.cost_usd == pytest.approx(0.5)
    assert change.willingness_to_pay == pytest.approx(2.25)  # 2.25 * 0.4 = 0.9
    assert str(change) == (
        "dear is behind by 0.2500; it would draw level with a cost of 0.500000 $ or a willingness to pay of 2.25"
    )


def test_what_no_change_makes_good_is_said() -> None:
    change = Counterfactual.of(made(1.0, good=(1.0, 0.0), bad=(0.9, 0.0)))
    assert change is not None
    assert change.quality == pytest.approx(1.0)
    worse = Counterfactual.of(made(1.0, good=(1.0, 0.1), bad=(0.2, 0.2)))
    assert worse is not None and worse.cost_usd is None and worse.willingness_to_pay is None
    free = Counterfactual.of(made(0.0, good=(1.0, 0.1), bad=(0.2, 0.2)))
    assert free is not None and free.quality is None and free.cost_usd == pytest.approx(0.1)


def test_alone_there_is_no_runner_up() -> None:
    router = tiny_router()
    assert router.explain(router.decide("question", deny=["dear"]).decision_id).counterfactual is None
    forced = router.explain(router.decide("question", force="dear", willingness_to_pay=0.01).decision_id)
    assert forced.counterfactual is not None and forced.counterfactual.gap < 0
    assert "cheap has a better score" in str(forced)
