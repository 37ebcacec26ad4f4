from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.events import Arrival, Decay, PriceChange, decayed, with_price
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.prices import candidates
from mixllm_engine.evaluation.replay import PLAIN_THUMBS, Feedback, Replay, Thumbs, in_units_of, replay
from mixllm_engine.evaluation.workbench import Fitted, expected, sweep
from tests.evaluation import synthetic

DEFAULT = RouterConfig.default()


@pytest.fixture(scope="module")
def parts() -> tuple[FullFeedback, FullFeedback]:
    return synthetic.pool(300).split(0.4, 0)


def fitted(train: FullFeedback, without: tuple[str, ...] = ()) -> Fitted:
    return synthetic.bench().fitted(train, DEFAULT, seed=1, without=without)


@pytest.mark.parametrize("feedback", ["none", "refined", "binary", "all"])
def test_the_same_seed_gives_the_same_stream(parts: tuple[FullFeedback, FullFeedback], feedback: Feedback) -> None:
    train, stream = parts

    def run() -> Replay:
        return replay(fitted(train, ("poor",)), stream, willingness_to_pay=5.0, feedback=feedback)

    one, other = run(), run()
    assert (one.chosen == other.chosen).all()
    assert (one.explored == other.explored).all()
    rows = np.arange(len(stream))
    assert (one.quality == stream.quality[rows, one.chosen]).all()
    assert (one.cost_usd == stream.cost_usd[rows, one.chosen]).all()


def test_feedback_reaches_the_router_as_it_should(parts: tuple[FullFeedback, FullFeedback]) -> None:
    train, stream = parts
    stats = {}
    for feedback in ("none", "refined", "binary"):
        router = fitted(train)
        replay(router, stream, willingness_to_pay=5.0, feedback=feedback)
        stats[feedback] = router.router.stats()
    assert stats["none"]["decisions"] == len(stream)
    assert stats["none"]["outcomes"] == stats["none"]["feedback_applied"] == 0
    assert stats["refined"]["outcomes"] == stats["binary"]["feedback_applied"] == len(stream)


def test_thumbs_are_worth_the_grades_on_their_side(
    parts: tuple[FullFeedback, FullFeedback], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, stream = parts
    graded = replace(stream, quality=0.2 + 0.7 * stream.quality)
    thumbs = Thumbs.worth(graded.quality)
    assert thumbs == pytest.approx((0.2, 0.9))  # the pool's own grades are 0 and 1
    assert Thumbs.worth(stream.quality) == Thumbs.worth(np.ones((2, 2))) == PLAIN_THUMBS == (0.0, 1.0)
    for worth in (thumbs, PLAIN_THUMBS):
        made = fitted(train)
        given: list[float] = []

        def noted(decision: Any, reward: float, made: Fitted = made, given: list[float] = given) -> Any:
            given.append(reward)
            return type(made.router).feedback(made.router, decision, reward)

        monkeypatch.setattr(made.router, "feedback", noted)
        run = replay(made, graded, willingness_to_pay=5.0, feedback="binary", thumbs=worth)
        assert given == [worth[int(good)] for good in run.quality >= 0.5]
        assert set(given) == set(worth)


def test_all_labels_teach_about_candidates_that_are_never_chosen(parts: tuple[FullFeedback, FullFeedback]) -> None:
    train, stream = parts
    spoiled = Decay(at=0, candidate="dear", keeps=0.0)
    column, quality, stats = stream.column("dear"), {}, {}
    for feedback in ("refined", "all"):
        made = fitted(train)
        run = replay(made, stream, willingness_to_pay=0.0, feedback=feedback, events=[spoiled])
        assert len(run.chosen) == len(stream)
        assert not run.takes("dear").any()
        quality[feedback] = made.router.predict(stream.texts).quality[:, column].mean()
        stats[feedback] = made.router.stats()
    before = fitted(train).router.predict(stream.texts).quality[:, column].mean()
    assert quality["refined"] == pytest.approx(before)
    assert quality["all"] < before - 0.2
    counted = stats["all"]["candidates"]
    assert {name: counted[name]["labels"] for name in stream.names} == dict.fromkeys(stream.names, float(300))
    assert stats["all"]["outcomes"] == stats["all"]["feedback_applied"] == len(stream) * len(stream.names)


def test_only_candidates_that_are_there_are_made_to_answer(parts: tuple[FullFeedback, FullFeedback]) -> None:
    train, stream = parts
    made = fitted(train, ("dear",))
    replay(made, stream, willingness_to_pay=0.0, feedback="all", events=[Arrival(at=100, candidate="dear")])
    assert made.router.stats()["candidates"]["dear"]["labels"] == len(stream) - 100


def test_money_buys_quality_and_the_clock_runs(parts: tuple[FullFeedback, FullFeedback]) -> None:
    train, stream = parts
    poor = replay(fitted(train), stream, willingness_to_pay=0.0)
    rich_router = fitted(train)
    start = rich_router.clock()
    rich = replay(rich_router, stream, willingness_to_pay=np.inf)
    assert poor.point < rich.point
    assert poor.takes("poor").mean() > 0.9
    assert rich.utility(1.0, 1.0) == pytest.approx((rich.point[1] - rich.point[0]) / 2)
    assert rich_router.clock() - start == pytest.approx(0.1 * len(stream))


def test_decay_spoils_answers_from_its_row_on(parts: tuple[FullFeedback, FullFeedback]) -> None:
    train, stream = parts
    always = replay(
        fitted(train, ("cheap", "code", "poor")),
        stream,
        willingness_to_pay=5.0,
        events=[Decay(at=90, candidate="dear", keeps=0.5)],
    )
    column = stream.column("dear")
    assert (always.quality[:90] == stream.quality[:90, column]).all()
    assert always.quality[90:].mean() == pytest.approx(0.5 * stream.quality[90:, column].mean(), abs=0.12)
    assert decayed(stream, "dear", 0.0, 0).quality[:, column].max() == 0.0


def test_a_price_change_reaches_bill_and_router_and_keeps_what_was_learned(
    parts: tuple[FullFeedback, FullFeedback],
) -> None:
    train, stream = parts
    router = fitted(train)
    before = router.router.predict(stream.texts[:5]).quality
    events = [PriceChange(at=0, candidate="dear", factor=0.001)]
    changed = replay(router, stream, willingness_to_pay=5.0, events=events)
    after = router.router.predict(stream.texts[:5]).quality
    assert np.allclose(before, after, atol=0.02)  # only the prior belief follows the price
    assert changed.takes("dear").mean() > 0.9
    column = stream.column("dear")
    assert changed.cost_usd[changed.takes("dear")].max() <= 0.001 * stream.cost_usd[:, column].max()
    cheaper = with_price(stream, "dear", 0.001)
    assert (cheaper.cost_usd[:, column] == stream.cost_usd[:, column] * 0.001).all()


def test_a_newcomer_is_chosen_only_after_it_arrived(parts: tuple[FullFeedback, FullFeedback]) -> None:
    train, stream = parts
    run = replay(
        fitted(train, ("dear",)),
        stream,
        willingness_to_pay=50.0,
        feedback="refined",
        events=[Arrival(at=60, candidate="dear")],
    )
    assert not run.takes("dear")[:60].any()
    assert run.takes("dear")[60:].mean() > 0.3


def test_lambda_is_in_dollars_for_the_paper() -> None:
    assert in_units_of(DEFAULT, 3.0, 0.01) == 3.0
    assert in_units_of(RouterConfig.paper(), 3.0, 0.01) == pytest.approx(0.03)


def test_a_sweep_decides_as_the_router_does(parts: tuple[FullFeedback, FullFeedback]) -> None:
    train, stream = parts
    plain = DEFAULT.model_copy(
        update={"exploration": DEFAULT.exploration.model_copy(update={"mode": "none", "pulls": 0})}
    )
    made = synthetic.bench().fitted(train, plain, seed=0, sold_as=candidates(train))
    quality, cost = expected(made.router, stream)
    run = replay(made, stream, willingness_to_pay=5.0)
    reference = train.reference_cost_usd
    swept = sweep(quality, cost, stream, reference, np.array([5.0, np.inf]))
    assert swept[0] == pytest.approx(run.point, rel=0.02)
    assert swept[1, 1] >= swept[0, 1] - 0.05


def test_a_sweep_that_knows_all_is_the_oracle(parts: tuple[FullFeedback, FullFeedback]) -> None:
    _, stream = parts
    points = sweep(stream.quality, stream.cost_usd, stream, 1e-12, np.array([0.0, np.inf]))
    assert points[0, 0] == pytest.approx(stream.cost_usd.min(axis=1).mean())
    assert points[1, 1] == stream.quality.max(axis=1).mean()
