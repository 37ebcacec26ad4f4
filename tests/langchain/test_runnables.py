"""`MixLLMRunnable`: decisions for chains and graphs that call their LLMs themselves."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langgraph.graph import END, START, StateGraph

from langchain_mixllm.runnables import CandidateName, MixLLMRunnable
from mixllm_engine import (
    ConfigError,
    Decision,
    NoEligibleCandidateError,
    Query,
    QueryError,
    Router,
    RouterConfig,
    UnknownDecisionError,
    track_decisions,
)
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router

Route = Callable[..., Awaitable[Any]]
CALM = RouterConfig(exploration=ExplorationConfig(rate=0.0, pulls=0))


@pytest.fixture
def router() -> Router:
    """Prefers ``cheap`` where quality counts for little."""
    return tiny_router(config=CALM)


@pytest.fixture
def names(router: Router) -> MixLLMRunnable:
    return MixLLMRunnable(router=router, output="name", budget="very_low")


def routed_texts(router: Router, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Return a list that grows with the texts that are routed."""
    texts: list[str | None] = []
    decide = router.decide

    def noting(query: Query, **terms: Any) -> Decision:
        texts.append(query.text)
        return decide(query, **terms)

    monkeypatch.setattr(router, "decide", noting)
    return texts


async def _invoke(runnable: Any, given: Any, config: Any = None, **kwargs: Any) -> Any:
    return runnable.invoke(given, config, **kwargs)


async def _ainvoke(runnable: Any, given: Any, config: Any = None, **kwargs: Any) -> Any:
    return await runnable.ainvoke(given, config, **kwargs)


async def _batch(runnable: Any, given: Any, config: Any = None, **kwargs: Any) -> Any:
    return runnable.batch([given], config, **kwargs)[0]


async def _abatch(runnable: Any, given: Any, config: Any = None, **kwargs: Any) -> Any:
    return (await runnable.abatch([given], config, **kwargs))[0]


@pytest.fixture(params=[_invoke, _ainvoke, _batch, _abatch], ids=["invoke", "ainvoke", "batch", "abatch"])
def route(request: pytest.FixtureRequest) -> Route:
    """One of the four ways to ask for a decision."""
    way: Route = request.param
    return way


async def test_the_decision_comes_out(route: Route, router: Router) -> None:
    with track_decisions() as tracked:
        decision = await route(MixLLMRunnable(router=router, budget="very_low"), "Hello?")

    assert isinstance(decision, Decision)
    assert tracked.decision_ids == [decision.decision_id]
    assert (decision.candidate, decision.ranking) == ("cheap", ("cheap", "dear"))
    assert router.stats()["outcomes"] == 0  # nobody was called


@pytest.mark.parametrize(
    "given",
    [
        "Hello?",
        HumanMessage("Hello?"),
        [("system", "Be brief."), ("user", "Hello?")],
        [HumanMessage("Hello?")],
        ChatPromptTemplate.from_messages([("user", "{q}")]).invoke({"q": "Hello?"}),
        {"messages": [HumanMessage("Hello?"), AIMessage("Yes?"), HumanMessage("Hello?")], "step": 1},
        {"input": "Hello?"},
    ],
    ids=["text", "message", "pairs", "messages", "prompt", "state", "input"],
)
async def test_what_can_be_routed(
    route: Route, names: MixLLMRunnable, router: Router, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = routed_texts(router, monkeypatch)

    assert await route(names, given) == "cheap"
    assert texts == ["Hello?"]


@pytest.mark.parametrize("given", [7, None, [], {"question": "Hello?"}, {"messages": []}])
def test_what_cannot_be_routed(names: MixLLMRunnable, given: Any) -> None:
    with pytest.raises(QueryError, match="can't be routed as it is"):
        names.invoke(given)


class TestTerms:
    async def test_by_keyword_by_bind_and_by_config(self, route: Route, names: MixLLMRunnable) -> None:
        assert await route(names, "Hello?", force="dear") == "dear"
        assert await route(names, "Hello?", model="dear") == "dear"
        assert await route(names.bind(deny=["cheap"]), "Hello?") == "dear"
        assert await route(names, "Hello?", {"configurable": {"allow": ["d*"]}}) == "dear"
        assert await route(names, "Hello?", {"configurable": {"force": "dear"}}, force="cheap") == "cheap"
        assert await route(names, "Hello?") == "cheap"

    def test_a_budget_gives_way_to_a_willingness(self, router: Router) -> None:
        decision = MixLLMRunnable(router=router, budget="very_low").invoke("Hello?", willingness_to_pay=7.0)

        assert isinstance(decision, Decision)
        assert decision.willingness_to_pay == 7.0

    def test_configurable_fields(self, names: MixLLMRunnable) -> None:
        configurable = names.configurable_fields(deny=ConfigurableField(id="without"))

        assert configurable.invoke("Hello?", config={"configurable": {"without": ["cheap"]}}) == "dear"
        assert configurable.invoke("Hello?") == "cheap"

    def test_what_the_answer_needs_counts(self) -> None:
        cheap, dear = tiny_pool()
        unequal = [replace(cheap, supports_tools=False, supports_json_schema=False), dear]
        route = MixLLMRunnable(
            router=Router(unequal, config=CALM, encoder=HashingEncoder()), output="name", willingness_to_pay=0.0
        )

        assert route.invoke("Hello?") == "cheap"
        assert route.bind(tools=[{"type": "function", "function": {"name": "add"}}]).invoke("Hello?") == "dear"
        assert route.invoke("Hello?", response_format={"type": "json_object"}) == "dear"
        assert route.invoke("Hello?", max_tokens=10_000) == "dear"
        with pytest.raises(NoEligibleCandidateError, match="not among those allowed"):
            route.invoke("Hello?", tools=[{}], allow=["cheap"])

    def test_what_no_decision_depends_on_is_refused(self, names: MixLLMRunnable) -> None:
        with pytest.raises(ConfigError, match="no decision depends on bugdet, temperature; allowed are budget"):
            names.invoke("Hello?", bugdet="low", temperature=0.5)
        with pytest.raises(ConfigError, match="two candidates"):
            names.invoke("Hello?", model="cheap", force="dear")

    async def test_the_thread_is_the_session(self, route: Route, router: Router) -> None:
        tool = [HumanMessage("Hello?"), AIMessage("", tool_calls=[_call()]), ToolMessage("3", tool_call_id="call_1")]
        config = {"configurable": {"thread_id": "t"}}
        runnable = MixLLMRunnable(router=router)
        await route(runnable, "Hello?", config, force="dear")

        assert (await route(runnable, tool, config)).reason == "tool loop"
        assert (await route(runnable, tool, {"configurable": {"thread_id": "u"}})).reason == "score"

    async def test_a_tool_loop_keeps_who_began_it(self, route: Route, router: Router) -> None:
        begun = AIMessage("", tool_calls=[_call()], response_metadata={"mixllm": {"candidate": "dear"}})
        loop = [HumanMessage("Hello?"), begun, ToolMessage("3", tool_call_id="call_1")]
        runnable = MixLLMRunnable(router=router, willingness_to_pay=0.0)
        decision = await route(runnable, loop)

        assert (decision.candidate, decision.ranking) == ("dear", ("dear", "cheap"))
        assert (await route(runnable, [*loop, AIMessage("Done"), HumanMessage("And?")])).candidate == "cheap"
        router.remove_candidate("dear")
        assert (await route(runnable, loop)).candidate == "cheap"

    def test_an_extractor_says_what_is_asked(self, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = routed_texts(router, monkeypatch)
        MixLLMRunnable(router=router, query_extractor=lambda messages: messages[0].text).invoke(
            [HumanMessage("First"), HumanMessage("Last")]
        )

        assert texts == ["First"]


def _call() -> dict[str, Any]:
    return {"name": "add", "args": {}, "id": "call_1"}


class TestFeedback:
    async def test_what_came_out_is_a_reference(self, route: Route, router: Router, names: MixLLMRunnable) -> None:
        decision = await route(MixLLMRunnable(router=router), "Hello?", force="dear")
        name = await route(names, "Hello?")

        assert names.feedback(decision, 1.0).candidate == "dear"
        assert (names.feedback(name, 0.5).candidate, names.feedback(name, 0.5).status) == ("cheap", "duplicate")
        assert (await names.afeedback(name.decision_id, 0.5)).status == "duplicate"
        with pytest.raises(UnknownDecisionError, match="cheap"):
            names.feedback("cheap", 1.0)

    def test_a_name_is_a_text_that_keeps_its_decision(self, names: MixLLMRunnable) -> None:
        name = names.invoke("Hello?")

        assert isinstance(name, CandidateName)
        for same in (copy.deepcopy(name), pickle.loads(pickle.dumps(name))):
            assert (same, same.decision_id) == ("cheap", name.decision_id)
        assert json.dumps({name: name}) == '{"cheap": "cheap"}'

    @pytest.mark.parametrize("good", ["cheap", "dear"])
    def test_feedback_moves_the_choices(self, good: str) -> None:
        router = tiny_router()
        names = MixLLMRunnable(router=router, output="name")
        for number in range(60):
            name = names.invoke(f"Question {number} of the first part")
            assert isinstance(name, CandidateName)
            names.feedback(name, float(name == good))
        later = names.batch([f"Question {number} of the second part" for number in range(20)])

        assert router.stats()["feedback_applied"] == 60
        assert later.count(good) / len(later) > 0.7  # type: ignore[arg-type]


class State(TypedDict):
    messages: list[Any]


class TestGraphs:
    @pytest.mark.parametrize("chosen", ["cheap", "dear"])
    async def test_a_conditional_edge(self, names: MixLLMRunnable, chosen: str) -> None:
        builder = StateGraph(State)
        for name in ("cheap", "dear"):
            builder.add_node(name, lambda state, name=name: {"messages": [*state["messages"], AIMessage(name)]})
            builder.add_edge(name, END)
        builder.add_conditional_edges(START, names, ["cheap", "dear"])
        graph: Any = builder.compile()
        config = {"configurable": {"force": chosen}}

        assert graph.invoke({"messages": [HumanMessage("Hello?")]}, config)["messages"][-1].text == chosen
        after = await graph.ainvoke({"messages": [HumanMessage("Hello?")]}, config)
        assert after["messages"][-1].text == chosen

    def test_a_chain(self, names: MixLLMRunnable) -> None:
        upper: RunnableLambda[Any, str] = RunnableLambda(lambda name: name.upper())
        chain = ChatPromptTemplate.from_messages([("user", "{question}")]) | names | upper

        assert chain.invoke({"question": "Hello?"}) == "CHEAP"

    def test_its_settings_hold_no_state(self, names: MixLLMRunnable) -> None:
        assert "router" not in names.model_dump()
        assert "Router" not in repr(names)
        with pytest.raises(ValueError, match="bugdet"):
            MixLLMRunnable(router=names.router, bugdet="low")  # type: ignore[call-arg]
