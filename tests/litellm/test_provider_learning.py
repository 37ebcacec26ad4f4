"""What the provider's router learns, and which references lead to a decision."""

from __future__ import annotations

import pytest

import litellm_mixllm
from litellm_mixllm import Registered, decision_id_of, routed_to
from mixllm_engine import FeedbackError, Router
from mixllm_engine.calling.litellm_client import load_litellm
from tests.litellm.conftest import HELLO
from tests.litellm.ways import Way


async def test_feedback_changes_later_choices_and_the_numbers(ask: Way, registered: Registered, router: Router) -> None:
    before = router.predict(["Hello?"])
    for _ in range(12):
        for name, reward in (("cheap", 0.0), ("dear", 1.0)):
            answer = await ask(model=registered.model, messages=HELLO, force=name)
            assert router.feedback(decision_id_of(answer), reward).status == "applied"
    after = router.predict(["Hello?"])
    assert after.quality[0, 0] < before.quality[0, 0]
    assert after.quality[0, 1] > before.quality[0, 1]
    assert router.stats()["candidates"]["dear"]["labels"] == 12
    assert (await ask(model=registered.model, messages=HELLO)).model == "openai/dear"


async def test_a_block_collects_the_decisions_of_all_ways(ask: Way, registered: Registered) -> None:
    with litellm_mixllm.track_decisions() as tracked:
        answers = [await ask(model=registered.model, messages=HELLO) for _ in range(2)]
    assert tracked.decision_ids == [decision_id_of(answer) for answer in answers]
    assert [receipt.status for receipt in tracked.feedback(1.0, credit="all")] == ["applied", "applied"]


def test_the_id_of_an_answer_is_a_reference_as_it_is(registered: Registered, router: Router) -> None:
    answer = load_litellm().completion(model=registered.model, messages=HELLO)
    assert router.feedback(answer.id, 1.0).decision_id == decision_id_of(answer) == decision_id_of(answer.model_dump())
    assert routed_to(answer) == "cheap"


@pytest.mark.parametrize("nothing", ["chatcmpl-7", {"id": 7}, None, 3.0])
def test_what_tells_of_no_decision_is_refused(nothing: object) -> None:
    with pytest.raises(FeedbackError, match="tells of no decision"):
        decision_id_of(nothing)
