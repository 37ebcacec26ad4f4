"""What feedback is for: references of every kind, several decisions of one run, weights, and tracked blocks."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from uuid import uuid4

import numpy as np
import pytest

from mixllm_engine import FeedbackError, Router, UnknownDecisionError, track_decisions
from mixllm_engine.crediting import Credit, Reference
from mixllm_engine.testing import tiny_router


def labels(router: Router) -> dict[str, float]:
    return {name: numbers["labels"] for name, numbers in router.stats()["candidates"].items()}


def learned(router: Router) -> list[float]:
    """Return what the labels of each candidate weigh."""
    router.sync()
    quality = router._learner.predictor.quality
    return [quality.weight(position) for position in range(len(router.candidates))]


@pytest.fixture(params=["memory", "sqlite"])
def router(request: pytest.FixtureRequest, tmp_path: Path) -> Router:
    return tiny_router(store=None if request.param == "memory" else tmp_path / "log.db")


def test_a_linked_name_leads_to_the_last_decision_of_its_run(router: Router) -> None:
    run, made = uuid4(), [router.decide(text, force="cheap") for text in ("one", "two", "three")]
    for decision in made:
        router.link(decision.decision_id, str(run))
    assert router.feedback(run, 1.0).decision_id == made[-1].decision_id
    assert router.feedback(str(run), 1.0).status == "duplicate"
    assert labels(router) == {"cheap": 1.0, "dear": 0.0}


@pytest.mark.parametrize(("credit", "weight"), [("last", 0.5), ("all", 1.5), ("discounted", 0.875)])
def test_a_reward_is_shared_by_the_decisions_of_a_run(router: Router, credit: Credit, weight: float) -> None:
    made = [router.decide(text, force="dear") for text in ("one", "two", "three")]
    for decision in made:
        router.link(decision.decision_id, "run")
    receipt = router.feedback("run", 0.0, weight=0.5, credit=credit)
    assert receipt.decision_id == made[-1].decision_id
    assert learned(router) == pytest.approx([0.0, weight])
    again = router.feedback(made, 0.0, weight=0.5, credit=credit)
    assert again.status == "duplicate"
    assert learned(router) == pytest.approx([0.0, weight])


def test_a_light_label_moves_less_than_one_that_is_certain() -> None:
    moved = []
    for weight in (cast(float, np.float32(0.1)), 1.0):
        router = tiny_router()
        decision = router.decide("a question", force="cheap")
        before = router.predict(["a question"]).quality[0, 0]
        router.feedback(decision, 0.0, weight=weight)
        moved.append(before - router.predict(["a question"]).quality[0, 0])
    assert 0.0 < moved[0] < 0.5 * moved[1]


def test_feedback_on_a_block_reaches_its_decisions(router: Router) -> None:
    with track_decisions() as tracked:
        made = [router.decide(text, force="cheap") for text in ("one", "two")]
    assert [receipt.decision_id for receipt in tracked.feedback(1.0, credit="all")] == [d.decision_id for d in made]
    assert labels(router) == {"cheap": 2.0, "dear": 0.0}
    assert [receipt.status for receipt in tracked.feedback(0.0)] == ["replaced"]


def test_bad_references_weights_and_shares_are_clear_errors(router: Router) -> None:
    decision = router.decide("hello")
    with track_decisions() as tracked:
        pass
    with pytest.raises(FeedbackError, match="nothing was decided in this block"):
        tracked.feedback(1.0)
    with pytest.raises(FeedbackError, match="no decision was given"):
        router.feedback([], 1.0)
    for ref in (None, 1.0, [None], np.array(1.0)):  # the last one says that it can be iterated over
        with pytest.raises(FeedbackError, match="is no decision, id, name or list of these"):
            router.feedback(cast(Reference, ref), 1.0)
    for weight in (0.0, -1, 1.5, float("nan"), True, "much"):
        with pytest.raises(FeedbackError, match=r"weight=.* must be a number in \(0, 1\]"):
            router.feedback(decision, 1.0, weight=cast(float, weight))
    with pytest.raises(FeedbackError, match="credit='first' is none of 'last', 'all', 'discounted'"):
        router.feedback(decision, 1.0, credit=cast(Credit, "first"))
    for key in ("", "k" * 129, "a\0b", cast(str, None)):
        with pytest.raises(FeedbackError, match="must be a text of 1 to 128 characters"):
            router.feedback(decision, 1.0, key=key)
    with pytest.raises(FeedbackError, match="must be a text of 1 to 256 characters"):
        router.link(decision.decision_id, "n" * 257)
    with pytest.raises(UnknownDecisionError, match="no decision 'run-of-nobody'"):
        router.feedback("run-of-nobody", 1.0)
    with pytest.raises(UnknownDecisionError, match="no decision"):
        router.link("0" * 32, "name")
    assert router.stats()["feedback_unmatched"] == 1
    assert labels(router) == {"cheap": 0.0, "dear": 0.0}


def test_weights_and_links_come_back_with_the_store(tmp_path: Path) -> None:
    router = tiny_router(store=tmp_path / "log.db")
    for text in ("one", "two"):
        router.link(router.decide(text, force="dear").decision_id, "run")
    router.feedback("run", 1.0, weight=0.25, credit="all")
    router.feedback("run", 0.0, key="parser", weight=0.5)
    weights = learned(router)
    router.close()
    again = tiny_router(store=tmp_path / "log.db")
    assert learned(again) == pytest.approx(weights)
    assert weights == pytest.approx([0.0, 1.0])
    assert again.feedback("run", 1.0, weight=0.25, credit="all").status == "duplicate"
    assert again.predict(["one"]).quality == pytest.approx(router.predict(["one"]).quality)
