"""From what a person holds to a label, and from labels to later choices."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine import FeedbackError, Router, UnknownDecisionError
from mixllm_engine.testing import ScriptedServer, tiny_router

HELLO = [ChatMessage(content="Hello?")]


def test_every_reference_leads_to_the_decision(llm: MixLLM) -> None:
    with track_decisions() as tracked:
        said, completed = llm.chat(HELLO), llm.complete("Hello?")
        chunk = list(llm.stream_chat(HELLO))[0]
    refs: list[Any] = [said, completed, chunk]
    assert [llm.feedback(ref, 1.0).decision_id for ref in refs] == tracked.decision_ids
    first = tracked.decisions[0]
    assert llm.feedback(first, 1.0).status == llm.feedback(first.decision_id, 1.0).status == "duplicate"


def test_feedback_is_idempotent_and_can_be_replaced(llm: MixLLM) -> None:
    said = llm.chat(HELLO)
    assert [llm.feedback(said, score).status for score in (1.0, 1.0, 0.5)] == ["applied", "duplicate", "replaced"]
    assert llm.feedback(said, 0.0, key="judge").status == "applied"
    stats = llm.router.stats()
    assert (stats["feedback_applied"], stats["feedback_duplicate"]) == (2, 1)
    assert stats["candidates"]["cheap"]["labels"] == 1


@pytest.mark.parametrize("ref", [None, 7, object(), SimpleNamespace(raw={"id": "x"}), SimpleNamespace(metadata={})])
def test_what_tells_of_no_decision_is_an_error_that_says_what_to_give(llm: MixLLM, ref: Any) -> None:
    with pytest.raises(FeedbackError, match="track_decisions"):
        llm.feedback(ref, 1.0)


def test_unknown_decisions_and_wrong_scores_are_errors(llm: MixLLM) -> None:
    with pytest.raises(UnknownDecisionError, match="no decision 'nothing'"):
        llm.feedback("nothing", 1.0)
    with pytest.raises(FeedbackError, match="4.5"):
        llm.feedback(llm.chat(HELLO), 4.5)


def test_feedback_may_come_late_and_from_elsewhere(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "mixllm.db"
    with tiny_router(api_base=server.base_url, store=path) as first:
        said = MixLLM(router=first).chat(HELLO)
    decision_id = said.raw["mixllm"]["decision_id"]
    with tiny_router(api_base=server.base_url, store=path) as second:
        receipt = MixLLM(router=second).feedback(decision_id, 1.0)
        assert (receipt.status, receipt.candidate) == ("applied", said.raw["mixllm"]["candidate"])
        assert second.stats()["candidates"][receipt.candidate]["labels"] == 1


@pytest.mark.parametrize("better", ["cheap", "dear"])
def test_feedback_changes_later_choices(server: ScriptedServer, better: str) -> None:
    with tiny_router(api_base=server.base_url) as router:
        llm = MixLLM(router=router)
        chosen = []
        for turn in range(50):
            said = llm.chat([ChatMessage(content=f"Summarise report number {turn} for the board.")])
            chosen.append(said.raw["mixllm"]["candidate"])
            llm.feedback(said, 1.0 if chosen[-1] == better else 0.1)
    assert chosen[-15:].count(better) >= 13


def test_feedback_needs_no_network(server: ScriptedServer, router: Router) -> None:
    llm = MixLLM(router=router)
    said = llm.chat(HELLO)
    server.clear()
    llm.feedback(said, 1.0)
    assert server.requests == ()
