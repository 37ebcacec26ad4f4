"""Feedback reaches the decision that an answer came from, and changes what is chosen next."""

from __future__ import annotations

import asyncio
import copy
import pickle
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, messages_from_dict, messages_to_dict
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_mixllm import ChatMixLLM
from mixllm_engine import FeedbackError, Router, UnknownDecisionError
from mixllm_engine.testing import ScriptedServer, tiny_router
from tests.langchain.conftest import Ask

RUN = "0198c5b2-4b4f-7000-8000-0123456789ab"


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
    with pytest.raises(UnknownDecisionError, match=RUN):
        llm.feedback(f"lc_run--{RUN}-0", 1.0)
    with pytest.raises(UnknownDecisionError, match=RUN):
        llm.feedback(AIMessage("", id=f"lc_run--{RUN}"), 1.0)
    with pytest.raises(UnknownDecisionError, match=RUN):
        llm.feedback(UUID(RUN), 1.0)
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


# -- runs ------------------------------------------------------------------------------------------------------------


def inner_run(collector: RunCollectorCallbackHandler) -> tuple[UUID, UUID]:
    """Return the ids of the chat model's run and of its root, as a tracer saw them."""
    (root,) = collector.traced_runs
    runs = [root]
    for run in runs:
        runs += run.child_runs
    (model,) = [run for run in runs if run.run_type in ("llm", "chat_model")]
    return model.id, root.id


async def test_every_run_around_an_answer_leads_to_its_decision(ask: Ask, llm: ChatMixLLM) -> None:
    collector = RunCollectorCallbackHandler()
    parser: Runnable[AIMessage, AIMessage] = RunnableLambda(lambda message: message)
    middle = (llm | parser).with_config(run_name="middle")
    chain = ChatPromptTemplate.from_messages([("human", "{question}")]) | middle
    root = uuid4()
    await ask(chain, {"question": "Hello?"}, config={"run_id": root, "callbacks": [collector]})
    await asyncio.sleep(0)

    model, seen = inner_run(collector)
    assert seen == root
    assert llm.feedback(root, 1.0).status == "applied"
    for same in (model, str(root), f"lc_run--{model}", f"lc_run--{model}-0"):
        assert llm.feedback(same, 1.0).status == "duplicate"


def test_a_run_of_several_decisions_shares_its_score(llm: ChatMixLLM) -> None:
    root = uuid4()

    def both(question: str) -> str:
        return llm.invoke(question).text + llm.invoke(f"{question} And then?").text

    RunnableLambda(both).invoke("Hello?", {"run_id": root})
    assert llm.feedback(root, 1.0).status == "applied"
    assert llm.router.stats()["feedback_applied"] == 1
    assert llm.feedback(root, 1.0, credit="all").status == "duplicate"
    assert llm.router.stats()["feedback_applied"] == 2


def test_runs_side_by_side_are_told_apart(llm: ChatMixLLM) -> None:
    chain = llm | StrOutputParser()
    roots = [uuid4() for _ in range(8)]
    chain.batch([f"Question {n}" for n in range(8)], [{"run_id": root} for root in roots])
    decisions = {llm.feedback(root, 1.0).decision_id for root in roots}
    assert len(decisions) == 8


def test_an_answer_from_the_cache_is_linked_and_counted_once(router: Router) -> None:
    llm = ChatMixLLM(router=router, cache=InMemoryCache())
    first, second = uuid4(), uuid4()
    for run in (first, second):
        (llm | StrOutputParser()).invoke("Hello?", {"run_id": run})
    assert router.stats()["decisions"] == router.stats()["outcomes"] == 1
    assert llm.feedback(second, 1.0).status == "applied"
    assert llm.feedback(first, 1.0).status == "duplicate"


def test_feedback_by_run_hours_later_in_another_process(server: ScriptedServer, tmp_path: Path) -> None:
    candidates, root = tiny_router(api_base=server.base_url).candidates, uuid4()
    first = ChatMixLLM(candidates=candidates, store=tmp_path / "mixllm.db")
    (first | StrOutputParser()).invoke("Hello?", {"run_id": root})
    first.router.close()
    with Router(candidates, store=tmp_path / "mixllm.db") as later:
        assert later.feedback(root, 0.0).status == "applied"
        assert later.stats()["feedback_applied"] == 1


def test_copies_and_other_callbacks_keep_the_links(server: ScriptedServer, tmp_path: Path) -> None:
    class Other(BaseCallbackHandler):
        ends = 0

        def on_llm_end(self, *args: object, **kwargs: object) -> None:
            type(self).ends += 1

    candidates = tiny_router(api_base=server.base_url).candidates
    made = ChatMixLLM(candidates=candidates, store=tmp_path / "mixllm.db", callbacks=[Other()])
    manager = CallbackManager([Other()])
    shared = ChatMixLLM(router=made.router, callbacks=manager)
    assert len(manager.handlers) == 1
    models = [made, shared, copy.deepcopy(made), made.model_copy(), shared.model_copy(update={"budget": "low"})]
    for llm in models:
        run = uuid4()
        llm.invoke("Hello?", {"run_id": run})
        assert llm.feedback(run, 1.0).status == "applied"
    assert Other.ends == len(models)
    made.callbacks = None
    remade = pickle.loads(pickle.dumps(made))
    run = uuid4()
    remade.invoke("Hello?", {"run_id": run})
    assert remade.feedback(run, 1.0).status == "applied"
    remade.router.close()
    made.router.close()


def test_runs_without_our_model_leave_nothing_behind(llm: ChatMixLLM) -> None:
    from langchain_mixllm._runs import OPEN_RUNS

    chain = GenericFakeChatModel(messages=iter(["one", "two"])) | StrOutputParser()
    assert chain.invoke("Hello?") == "one"
    with pytest.raises(ValueError, match="boom"):
        (chain | RunnableLambda(_boom)).invoke("Hello?")
    (llm | StrOutputParser()).invoke("Hello?")
    assert OPEN_RUNS._parents == {}


def _boom(text: str) -> str:
    raise ValueError("boom")
