"""What the leader, the LLM that is the best on average, is given in advance where others seem to be a little better."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine import Query, Router, RouterConfig
from mixllm_engine.decision.leader import LEAST, Leader, known_from
from mixllm_engine.testing import tiny_router
from mixllm_engine.types import Vector
from tests.engine import plain

SHARES = st.floats(0, 1)
# level, quality, variance, labels and leverage of each candidate
ARMS = st.lists(
    st.tuples(SHARES, SHARES, st.floats(0.01, 0.3), st.one_of(st.just(0.0), st.floats(20, 10_000)), SHARES),
    min_size=1, max_size=8,
)  # fmt: skip


def leader_of(arms: list[tuple[float, ...]], standard_errors: float = 1.5) -> tuple[Leader, Vector, Vector] | None:
    """Return the leader of such candidates, with their qualities and leverages."""
    level, quality, variance, labels, leverage = (np.array(column) for column in zip(*arms, strict=True))
    enough = known_from(labels)
    if not (labels > enough).any():
        return None
    level = np.where(labels > enough, level, -np.inf)
    leader = Leader(standard_errors=standard_errors, level=level, variance=variance, labels=labels, enough=enough)
    return leader, quality, leverage


def fitted(levels: dict[str, tuple[int, float]], **decision: Any) -> Router:
    """Return a router whose candidates have so many labels of 0 and 1 with such means, whatever the query."""
    settings = {"decision": decision, "features": plain.FEATURES, "prediction": {"quality_shrinkage": 1.0}}
    router = tiny_router(names=tuple(levels), config=RouterConfig.model_validate(settings))
    most, rng = max(count for count, _ in levels.values()), np.random.default_rng(0)
    table: dict[str, Any] = {"prompt": [f"question {row}" for row in range(most)]}
    for name, (count, level) in levels.items():
        table[f"{name}|quality"] = np.where(np.arange(most) < count, rng.permutation(most) < level * most, np.nan)
    router.fit(table, progress=False)
    return router


@given(ARMS)
def test_the_leader_alone_is_given_what_others_claim_beyond_it_up_to_a_margin(arms: list[Any]) -> None:
    if (made := leader_of(arms)) is None:
        return
    leader, quality, leverage = made
    given, place = leader.advance(quality, leverage), leader.position
    assert (np.delete(given, place) == 0.0).all()
    spread = leader.variance * leverage
    fewer = np.clip(leader.labels, leader.enough, leader.labels[place])
    margin = 1.5 * np.sqrt(spread + spread[place]) * (1.0 - leader.enough / fewer)
    others = np.delete(margin, place)
    assert 0.0 <= given[place] <= max(others, default=0.0) + 1e-12
    claims = quality - quality[place]
    for claim, most in zip(np.delete(claims, place), others, strict=True):
        if -0.04 * most <= claim <= 0.95 * most and most > 1e-9:
            assert claim < given[place]  # who claims no more comes behind it
    if (claims <= -0.05 * margin).all():
        assert given[place] < 1e-12


@given(ARMS, st.integers(0, 7), SHARES)
def test_the_more_another_claims_the_more_it_must_exceed(arms: list[Any], place: int, more: float) -> None:
    if (made := leader_of(arms)) is None or (place := place % len(arms)) == made[0].position:
        return
    leader, quality, leverage = made
    raised = quality.copy()
    raised[place] = max(raised[place], more)
    before, after = (leader.advance(claimed, leverage)[leader.position] for claimed in (quality, raised))
    assert 0.0 <= after - before <= raised[place] - quality[place] + 1e-12  # and it never loses by claiming more


@given(ARMS, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(arms: list[Any], random: Any) -> None:
    shuffled = random.sample(range(len(arms)), len(arms))
    one, two = leader_of(arms), leader_of([arms[place] for place in shuffled])
    if one is None or two is None or len({arm[0] for arm in arms}) < len(arms):  # who leads is a matter of names
        return
    assert two[0].advance(*two[1:]) == pytest.approx(one[0].advance(*one[1:])[shuffled])


@given(ARMS, st.floats(0, 3), st.floats(0, 3))
def test_a_wider_margin_gives_more(arms: list[Any], margin: float, wider: float) -> None:
    narrow, wide = (leader_of(arms, each) for each in sorted((margin, wider)))
    if narrow is not None and wide is not None:
        assert (wide[0].advance(*wide[1:]) >= narrow[0].advance(*narrow[1:]) - 1e-12).all()


def test_many_queries_are_judged_as_each_alone() -> None:
    router = fitted({"a": (400, 0.7), "b": (300, 0.68), "c": (400, 0.2)})
    predictor = router._learner.predictor
    leader = Leader.of(predictor, 1.5)
    assert leader is not None
    contexts = np.stack([router._contexts.make(Query(text=f"question {row}")).features for row in range(9)])
    quality, leverage = predictor.predict_many(contexts, np.ones(9))[0], predictor.leverage_many(contexts)
    alone = np.array([leader.advance(*each) for each in zip(quality, leverage, strict=True)])
    assert leader.advance(quality, leverage) == pytest.approx(alone)
    assert (alone[:, leader.position] > 0.0).any()


@pytest.mark.parametrize("labels", [300, 100])
def test_where_queries_say_little_the_best_on_average_is_asked(labels: int) -> None:
    def share(**decision: Any) -> float:
        router = fitted({"leader": (labels, 0.72), "other": (labels, 0.64)}, **decision)
        asked = [router.decide(f"question {row}", willingness_to_pay=math.inf).candidate for row in range(300, 500)]
        return asked.count("leader") / len(asked)

    assert share(leader_margin=0) < 0.95  # who looks better by chance takes the rest
    assert share() > share(leader_margin=0) + 0.03


def test_a_cheaper_one_that_seems_as_good_is_asked_as_before() -> None:
    levels = {"leader": (300, 0.72), "cheap": (300, 0.68)}
    shares = []
    for margin in (0.0, 1.0):
        router = fitted(levels, leader_margin=margin)
        prices = {name: scores.cost_usd for name, scores in router.decide("question").scores.items()}
        cheaper = min(prices, key=prices.__getitem__)
        asked = [router.decide(f"question {row}", willingness_to_pay=1.0).candidate for row in range(300, 400)]
        shares.append(asked.count(cheaper))
    assert shares[0] == shares[1] == 100


def test_it_begins_where_somebody_is_known_and_newcomers_change_nothing() -> None:
    few, known = (fitted({"a": (count, 0.8), "b": (count, 0.3)}) for count in (int(LEAST), int(LEAST) + 1))
    assert Leader.of(few._learner.predictor, 1.5) is None
    assert Leader.of(known._learner.predictor, 1.5) is not None
    assert Leader.of(tiny_router()._learner.predictor, 1.5) is None
    levels = {"a": (400, 0.6), "b": (400, 0.6)}
    alone, joined = fitted(levels), fitted({**levels, "new": (150, 1.0)})
    for row in range(20):
        before = alone.decide(f"question {row}", willingness_to_pay=3.0).scores
        after = joined.decide(f"question {row}", willingness_to_pay=3.0).scores
        assert [before[name].optimism for name in levels] == [after[name].optimism for name in levels]  # bit by bit
        assert after["new"].optimism > 0.0


def test_the_best_of_those_who_may_answer_leads() -> None:
    router = fitted({"a": (400, 0.7), "b": (400, 0.68), "c": (400, 0.66)})
    given = []
    for row in range(20):
        scores = router.decide(f"question {row}", deny=["a"], willingness_to_pay=3.0).scores
        assert scores["a"].optimism == scores["c"].optimism == 0.0
        assert scores["b"].optimism <= 0.75 * max(scores["c"].quality - scores["b"].quality + 0.05, 0.0)  # not of a
        given.append(scores["b"].optimism)
    assert max(given) > 0.0
    unknown = fitted({"a": (400, 0.7), "b": (150, 0.69)}).decide("question", deny=["a"])
    assert unknown.scores["b"].optimism == pytest.approx(0.5 / 152**0.5 - 0.5 / 202**0.5, rel=0.5)  # a newcomer's


def test_it_is_a_part_of_the_score_outside_tool_loops_and_can_be_off() -> None:
    levels = {"a": (400, 0.6), "b": (400, 0.55)}
    router, plainly = fitted(levels), fitted(levels, leader_margin=0)
    given = 0
    for row in range(50):
        decision = router.decide(f"question {row}", willingness_to_pay=3.0)
        made = router.explain(decision.decision_id)
        for name, score in decision.scores.items():
            assert sum(made.parts(name).values()) == pytest.approx(score.total)
        given += decision.scores["a"].optimism > 0.0
        looping = router.decide(Query(text=f"question {row}", in_tool_loop=True))
        for other in (looping, plainly.decide(f"question {row}")):
            assert {score.optimism for score in other.scores.values()} == {0.0}
    assert 0 < given < 50
    assert RouterConfig.paper().decision.leader_margin == 0.0


def test_it_is_worked_out_anew_after_every_label_and_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    router, asked, usual = fitted({"a": (400, 0.6), "b": (400, 0.59)}), [], Leader.of

    def counted(*arguments: Any) -> Leader | None:
        asked.append(1)
        return usual(*arguments)

    monkeypatch.setattr("mixllm_engine.decision.maker.Leader.of", counted)
    before = [router.decide("question") for _ in range(3)]
    assert len(asked) == 1
    router.feedback(before[0], 1.0)
    router.feedback(before[0], 0.0)  # a changed label is news, too
    router.decide("question")
    assert len(asked) == 2


def test_feedback_that_keeps_praising_another_wins() -> None:
    router = fitted({"leader": (300, 0.70), "other": (300, 0.66)})
    asked = "a kind of question that was never asked"
    assert router.decide(asked, willingness_to_pay=math.inf).candidate == "leader"
    for _ in range(60):
        router.feedback(router.decide(asked, force="other"), 1.0)
        router.feedback(router.decide(asked, force="leader"), 0.0)
    assert router.decide(asked, willingness_to_pay=math.inf).candidate == "other"


def test_budgets_know_what_the_leader_is_given() -> None:
    rng = np.random.default_rng(0)
    texts = [f"question {row}" for row in range(600)]
    table: dict[str, Any] = {"prompt": texts}
    for name, level in {"cheap": 0.60, "dear": 0.70}.items():
        table[f"{name}|quality"] = (rng.random(600) < level).astype(float)
    settings = {
        "prediction": {"quality_shrinkage": 1.0},
        "exploration": {"mode": "none"},
        "decision": {"max_wait_s": None},
    }
    router = tiny_router(config=RouterConfig.model_validate(settings))
    router.fit(table, progress=False)
    curve = router._learner.curve
    assert curve is not None
    between = (curve.cost_usd > curve.cost_usd[0]) & (curve.cost_usd < curve.cost_usd[-1])
    lam, promised = (values[between][between.sum() // 2] for values in (curve.willingness_to_pay, curve.cost_usd))
    made = [router.decide(text, willingness_to_pay=float(lam)) for text in texts]
    assert np.mean([each.scores[each.candidate].cost_usd for each in made]) == pytest.approx(promised, rel=1e-6)
