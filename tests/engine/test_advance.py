"""What is given in advance to the leader, and to who may be it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine import Query, Router, RouterConfig
from mixllm_engine.decision.advance import KNOWN, plausible, to_leader
from mixllm_engine.testing import tiny_router
from mixllm_engine.types import Vector
from tests.engine import plain

ARMS = st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 0.4), st.booleans()), min_size=1, max_size=8)


def fitted(levels: dict[str, tuple[int, float]], **decision: Any) -> Router:
    """Return a router whose candidates have so many labels of 0 and 1 with such means."""
    router = tiny_router(names=tuple(levels), config=RouterConfig.model_validate({"decision": decision}))
    most = max(count for count, _ in levels.values())
    columns = {
        f"{name}|quality": [float(row < round(level * count)) if row < count else float("nan") for row in range(most)]
        for name, (count, level) in levels.items()
    }
    router.fit({"prompt": [f"question {row % 50}" for row in range(most)], **columns}, progress=False)
    return router


def given_to(router: Router) -> Vector | None:
    return to_leader(router._learner.predictor, router.config)


@given(ARMS)
def test_it_is_shared_among_the_judged_and_the_leader_is_the_likeliest(arms: list[tuple[float, float, bool]]) -> None:
    level, error, judged = (np.array(column) for column in zip(*arms, strict=True))
    judged[0] = True
    level = np.where(judged, level, -np.inf)
    share = plausible(level, error**2)
    assert share.sum() == pytest.approx(1.0)
    assert (share >= 0.0).all()
    assert (share[~judged] == 0.0).all()
    assert share[level.argmax()] == share.max()


@given(ARMS, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(arms: list[tuple[float, float, bool]], random: Any) -> None:
    order = list(range(len(arms)))
    random.shuffle(order)
    level, error, _ = (np.array(column) for column in zip(*arms, strict=True))
    if len(set(level.tolist())) == len(level):  # else who leads is a matter of names
        assert plausible(level[order], error[order] ** 2) == pytest.approx(plausible(level, error**2)[order])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.4), st.floats(0.01, 0.4))
def test_who_is_worse_gets_less(level: float, other: float, error: float, leaders: float) -> None:
    worse, better = sorted((level, other))
    share = plausible(np.array([1.0, better, worse]), np.array([leaders, error, error]) ** 2)
    assert share[1] >= share[2]


def test_it_falls_with_many_labels_and_who_is_clearly_worse_gets_nothing() -> None:
    found = [given_to(fitted({"a": (count, 0.8), "b": (count, 0.3)})) for count in (600, 1200, 4000)]
    leaders = [float(advance[0]) for advance in found if advance is not None]
    assert len(leaders) == 3
    assert all(more > less > 0.0 for more, less in itertools.pairwise(leaders))
    assert leaders[2] == pytest.approx(2.0 * 0.4 / 4000**0.5 * (1.0 - 200 / 4000), rel=0.02)  # two standard errors
    assert all(advance is not None and advance[1] < 0.01 * advance[0] for advance in found)


def test_it_begins_where_somebody_is_known() -> None:
    few, more = (given_to(fitted({"a": (count, 0.8), "b": (count, 0.3)})) for count in (int(KNOWN), int(KNOWN) + 1))
    assert few is None
    assert more is not None
    assert 0.0 < more[0] < 1e-3


def test_who_still_has_exploring_draws_gets_nothing_and_takes_nothing() -> None:
    alone = given_to(fitted({"a": (400, 0.6), "b": (400, 0.6)}))
    joined = given_to(fitted({"a": (400, 0.6), "b": (400, 0.6), "new": (19, 1.0)}))
    assert alone is not None
    assert joined is not None
    assert joined.tolist() == [*alone.tolist(), 0.0]  # bit by bit


def test_a_newcomer_that_may_be_the_best_shares_in_it() -> None:
    alone = given_to(fitted({"a": (400, 0.6), "b": (400, 0.2)}))
    joined = given_to(fitted({"a": (400, 0.6), "b": (400, 0.2), "new": (40, 0.6)}))
    assert alone is not None
    assert joined is not None
    assert joined[0] < 0.7 * alone[0]
    assert joined[2] > joined[0] > joined[1]


def test_it_is_a_part_of_the_score_outside_tool_loops_and_can_be_off() -> None:
    router, plain = (fitted({"a": (400, 0.6), "b": (400, 0.5)}, **changes) for changes in ({}, {"leader_advantage": 0}))
    given = given_to(router)
    assert given is not None
    assert router.decide("question", willingness_to_pay=3.0).scores["a"].optimism == pytest.approx(0.75 * given[0])
    looping = Query(text="question", in_tool_loop=True)
    assert router.decide(looping).scores["a"].optimism == plain.decide("question").scores["a"].optimism == 0.0
    assert given_to(plain) is given_to(tiny_router()) is None
    assert RouterConfig.paper().decision.leader_advantage == 0.0


def test_where_queries_say_little_the_best_on_average_is_preferred() -> None:
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {"prompt": [f"question {row}" for row in range(300)]}
    for name, good in {"leader": 216, "other": 192}.items():  # whatever the question
        table[f"{name}|quality"] = rng.permutation(300) < good

    def share(standard_errors: float) -> float:
        settings: dict[str, Any] = {
            "decision": {"leader_advantage": standard_errors},
            "prediction": {"quality_shrinkage": 1.0},
        }
        settings["features"] = plain.FEATURES
        router = tiny_router(names=("leader", "other"), config=RouterConfig.model_validate(settings))
        router.fit(table, progress=False)
        asked = [router.decide(f"question {row}", willingness_to_pay=1e9).candidate for row in range(300, 500)]
        return asked.count("leader") / len(asked)

    assert share(0.0) < 0.95  # who looks better by chance takes the rest
    assert share(2.0) > share(0.0) + 0.03


def test_it_is_worked_out_anew_after_every_label_and_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    router, asked = fitted({"a": (400, 0.6), "b": (400, 0.59)}), []

    def counted(*arguments: Any) -> Vector | None:
        asked.append(1)
        return to_leader(*arguments)

    monkeypatch.setattr("mixllm_engine.decision.maker.to_leader", counted)
    before = [router.decide("question") for _ in range(3)]
    assert len(asked) == 1
    router.feedback(before[0], 1.0)
    router.feedback(before[0], 0.0)  # a changed label is news, too
    after = router.decide("question")
    assert len(asked) == 2
    assert after.scores["a"].optimism != before[0].scores["a"].optimism


def test_budgets_know_what_the_leader_is_given() -> None:
    rng = np.random.default_rng(0)
    texts = [f"question {row}" for row in range(600)]
    table: dict[str, Any] = {"prompt": texts}
    for name, level in {"cheap": 0.60, "dear": 0.70}.items():
        table[f"{name}|quality"] = (rng.random(600) < level).astype(float)
    settings = {"prediction": {"quality_shrinkage": 1.0}, "exploration": {"mode": "none"}}
    router = tiny_router(config=RouterConfig.model_validate(settings))
    router.fit(table, progress=False)
    curve = router._learner.curve
    assert curve is not None
    between = (curve.cost_usd > curve.cost_usd[0]) & (curve.cost_usd < curve.cost_usd[-1])
    lam, promised = (values[between][between.sum() // 2] for values in (curve.willingness_to_pay, curve.cost_usd))
    made = [router.decide(text, willingness_to_pay=float(lam)) for text in texts]
    assert np.mean([each.scores[each.candidate].cost_usd for each in made]) == pytest.approx(promised, rel=1e-6)
