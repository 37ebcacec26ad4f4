"""Feedback reaches the decision that an answer came from, and changes what is chosen next."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, messages_from_dict, messages_to_dict

from langchain_mixllm import ChatMixLLM
from mixllm_engine import FeedbackError, Router, UnknownDecisionError
from mixllm_engine.testing import ScriptedServer, tiny_router
from tests.langchain.conftest import Ask


def chosen(message: AIMessage) -> str:
    return str(message.response_metadata["mixllm"]["candidate"])


async def test_a_message_its_id_its_copy_and_its_decision_id_are_the_same(ask: Ask, llm: ChatMixLLM) -> None:
    message = await ask(llm, "Hello?")
    (copy,) = messages_from_dict(messages_to_dict([message]))
    decision_id = message.response_metadata["mixllm"]["decision_id"]
    assert message.id is not None

    assert llm.feedback(message, 1.0).status == "applied"
    for same in (message, message.id, copy, decision_id, AIMessage("", id=message.id)):
        assert llm.feedback(same, 1.0).status == "duplicate"
    assert llm.feedback(decision_id, 0.5).status == "replaced"
    assert (await llm.afeedback(message, 1.0, key="judge")).status == "applied"
    stats = llm.router.stats()
    assert (stats["feedback_applied"], stats["feedback_duplicate"]) == (2, 5)


def test_a_tracked_decision_is_a_reference(llm: ChatMixLLM, router: Router) -> None:
    decision = router.decide("Hello?")

    receipt = llm.feedback(decision, 0.25, key="test")
    assert (receipt.decision_id, receipt.reward, receipt.key) == (decision.decision_id, 0.25, "test")


def test_references_that_lead_nowhere_are_refused(llm: ChatMixLLM) -> None:
    with pytest.raises(UnknownDecisionError, match="did not come from ChatMixLLM"):
        llm.feedback(AIMessage("from elsewhere"), 1.0)
    with pytest.raises(UnknownDecisionError, match="id of a LangChain run"):
        llm.feedback("lc_run--019a-0", 1.0)
    with pytest.raises(UnknownDecisionError, match="id of a LangChain run"):
        llm.feedback(AIMessage("", id="lc_run--019a"), 1.0)
    with pytest.raises(UnknownDecisionError, match="0123"):
        llm.feedback("mixllm-0123", 1.0)
    with pytest.raises(TypeError, match="not for NoneType"):
        llm.feedback(None, 1.0)  # type: ignore[arg-type]
    with pytest.raises(FeedbackError, match="2"):
        llm.feedback(llm.invoke("Hello?"), 2.0)


@pytest.mark.parametrize("good", ["cheap", "dear"])
def test_feedback_moves_the_choices(server: ScriptedServer, good: str) -> None:
    with tiny_router(api_base=server.base_url) as router:
        llm = ChatMixLLM(router=router)
        for number in range(60):
            message = llm.invoke(f"Question {number} of the first part")
            llm.feedback(message, 1.0 if chosen(message) == good else 0.0)
        later = [chosen(llm.invoke(f"Question {number} of the second part")) for number in range(20)]
        stats = router.stats()

    assert stats["feedback_applied"] == 60
    assert {name: of["mean_reward"] for name, of in stats["candidates"].items()} == {
        "cheap": float(good == "cheap"),
        "dear": float(good == "dear"),
    }
    assert later.count(good) / len(later) > 0.7


def test_feedback_survives_in_the_store(server: ScriptedServer, tmp_path: Path) -> None:
    candidates = tiny_router(api_base=server.base_url).candidates
    store = tmp_path / "mixllm.db"
    first = ChatMixLLM(candidates=candidates, store=store)
    message = first.invoke("Hello?")
    first.router.close()

    later = ChatMixLLM(candidates=candidates, store=store)
    assert later.feedback(str(message.id), 1.0).status == "applied"
    later.router.close()
