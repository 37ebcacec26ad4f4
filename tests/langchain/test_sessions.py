"""Which conversation a call belongs to: it is told, it is LangGraph's thread, or the history knows."""

from __future__ import annotations

import warnings
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Query, Router
from mixllm_engine.testing import Failure, FakeClock, Reply, ScriptedServer, ToolCall, tiny_router
from tests.langchain.conftest import Ask


def thread(name: str) -> RunnableConfig:
    return {"configurable": {"thread_id": name}}


THREAD = thread("t1")


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


def with_whom(router: Router, session: str) -> tuple[str, str]:
    """Return who answers in a session's tool loop, and why."""
    decision = router.decide(Query(text="Go on", in_tool_loop=True), session=session, willingness_to_pay=0.0)
    return decision.candidate, decision.reason


class TestThreads:
    async def test_a_thread_that_is_given_to_the_model(self, ask: Ask, llm: ChatMixLLM, router: Router) -> None:
        await ask(llm, "Hello?", config=THREAD, force="dear")
        assert with_whom(router, "t1") == ("dear", "tool loop")
        assert with_whom(router, "t2") == ("cheap", "score")

    async def test_a_thread_around_the_model(self, ask: Ask, llm: ChatMixLLM, router: Router) -> None:
        prompt = ChatPromptTemplate.from_messages([("human", "{question}")])
        await ask(prompt | llm.bind(force="dear"), {"question": "Hello?"}, config=THREAD)
        assert with_whom(router, "t1") == ("dear", "tool loop")

    async def test_a_thread_that_is_bound(self, ask: Ask, llm: ChatMixLLM, router: Router) -> None:
        await ask(llm.with_config(configurable={"thread_id": "t1"}), "Hello?", force="dear")
        assert with_whom(router, "t1") == ("dear", "tool loop")

    async def test_what_is_said_wins_over_the_thread(self, ask: Ask, llm: ChatMixLLM, router: Router) -> None:
        await ask(llm, "Hello?", config=THREAD, force="dear", session="said")
        await ask(llm.model_copy(update={"session": "standing"}), "Hello?", config=THREAD, force="dear")
        assert with_whom(router, "said") == with_whom(router, "standing") == ("dear", "tool loop")
        assert with_whom(router, "t1") == ("cheap", "score")

    async def test_batches_and_events(self, llm: ChatMixLLM, router: Router) -> None:
        llm.batch(["Hello?"] * 3, [thread(f"b{number}") for number in range(3)], force="dear")
        await llm.abatch(["Hello?"], thread("b3"), force="dear")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # v3 is beta
            list(llm.stream_events("Hello?", {"configurable": {"thread_id": "b4"}}, version="v3", force="dear"))
            events: Any = llm.astream_events(
                "Hello?", {"configurable": {"thread_id": "b5"}}, version="v3", force="dear"
            )
            await (await events)
        async for _ in llm.astream_events("Hello?", {"configurable": {"thread_id": "b6"}}, version="v2", force="dear"):
            pass
        assert {with_whom(router, f"b{number}") for number in range(7)} == {("dear", "tool loop")}

    @pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
    async def test_the_thread_of_a_graph(self, llm: ChatMixLLM, router: Router, way: str) -> None:
        class State(TypedDict):
            text: str

        async def node(state: State) -> State:
            if way == "ainvoke":
                return {"text": (await llm.ainvoke(state["text"], force="dear")).text}
            return {"text": "".join([chunk.text async for chunk in llm.astream(state["text"], force="dear")])}

        def blocking_node(state: State) -> State:
            if way == "invoke":
                return {"text": llm.invoke(state["text"], force="dear").text}
            return {"text": "".join(chunk.text for chunk in llm.stream(state["text"], force="dear"))}

        builder = StateGraph(State)
        builder.add_node("model", node if way.startswith("a") else blocking_node)
        builder.add_edge(START, "model")
        builder.add_edge("model", END)
        graph = builder.compile(checkpointer=InMemorySaver())
        result = await graph.ainvoke({"text": "Hello?"}, THREAD)

        assert result["text"] == "Hello from dear to you"
        assert with_whom(router, "t1") == ("dear", "tool loop")

    def test_the_cache_does_not_ask_for_the_thread(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        cached = llm.model_copy(update={"cache": InMemoryCache()})
        first = cached.invoke("Hello?", THREAD)
        assert cached.invoke("Hello?", thread("t2")).id == first.id
        assert server.count("cheap") == 1


class TestHistories:
    """Without any thread, a call with tools names its conversation, and the history brings the name back."""

    async def test_a_tool_loop_stays_with_its_candidate(
        self, ask: Ask, llm: ChatMixLLM, server: ScriptedServer
    ) -> None:
        server.script("dear", [Reply(tool_calls=[ToolCall(name="add", arguments={"a": 1}, id="t1")]), Reply(text="3")])
        with_tools = llm.bind_tools([add])
        asked = await ask(with_tools, "1 + 2?", force="dear")
        session = asked.response_metadata["mixllm"]["session"]
        history = [HumanMessage("1 + 2?"), asked, ToolMessage("3", tool_call_id="t1")]
        answer = await ask(with_tools, history)

        assert answer.text == "3"
        noted = answer.response_metadata["mixllm"]
        assert noted["candidate"] == "dear"  # not `cheap`, which these terms prefer
        assert "session" not in noted  # it stands in the history already
        assert with_whom(llm.router, session) == ("dear", "tool loop")

    async def test_calls_without_tools_name_nothing(self, ask: Ask, llm: ChatMixLLM) -> None:
        assert "session" not in (await ask(llm, "Hello?")).response_metadata["mixllm"]

    async def test_in_a_thread_nothing_is_named(self, ask: Ask, llm: ChatMixLLM) -> None:
        message = await ask(llm.bind_tools([add]), "Hello?", config=THREAD)
        assert "session" not in message.response_metadata["mixllm"]

    def test_two_conversations_have_two_names(self, llm: ChatMixLLM) -> None:
        one, other = (llm.bind_tools([add]).invoke("Hello?") for _ in range(2))
        assert one.response_metadata["mixllm"]["session"] != other.response_metadata["mixllm"]["session"]


class TestLoops:
    """The messages say who began a tool loop."""

    HISTORY = (HumanMessage("1 + 2?"), ToolMessage("3", tool_call_id="t1"))

    def history(self, candidate: str) -> list[BaseMessage]:
        noted = {"mixllm": {"decision_id": "0", "candidate": candidate}}
        calls: Any = [{"name": "add", "args": {"a": 1}, "id": "t1"}]
        return [self.HISTORY[0], AIMessage("", tool_calls=calls, response_metadata=noted), self.HISTORY[1]]

    async def test_another_process_goes_on_with_it(self, ask: Ask, llm: ChatMixLLM) -> None:
        assert (await ask(llm.bind_tools([add]), self.history("dear"))).text == "Hello from dear to you"

    async def test_others_answer_if_it_fails(self, ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
        server.script("dear", Failure(status=500))
        assert (await ask(llm.bind_tools([add]), self.history("dear"))).text == "Hello from cheap to you"
        assert server.count("dear") == 1

    @pytest.mark.parametrize("terms", [{"deny": ["dear"]}, {"allow": ["cheap"]}, {"force": "cheap"}])
    def test_what_is_said_wins(self, llm: ChatMixLLM, terms: Any) -> None:
        assert llm.bind_tools([add]).invoke(self.history("dear"), **terms).text == "Hello from cheap to you"

    def test_one_that_is_gone_is_not_missed(self, llm: ChatMixLLM) -> None:
        assert llm.bind_tools([add]).invoke(self.history("gone")).text == "Hello from cheap to you"

    def test_the_next_question_is_free(self, llm: ChatMixLLM) -> None:
        history = [*self.history("dear"), AIMessage("3"), HumanMessage("And now?")]
        assert llm.bind_tools([add]).invoke(history).text == "Hello from cheap to you"

    async def test_who_stepped_in_stays(self, ask: Ask, server: ScriptedServer) -> None:
        clock = FakeClock()
        server.script("cheap", [Failure(status=429), Reply(text="Hello from cheap to you")])
        server.script("dear", Reply(tool_calls=[ToolCall(name="add", arguments={"a": 1}, id="t1")]))
        with tiny_router(api_base=server.base_url, clock=clock) as router:
            llm = ChatMixLLM(router=router, willingness_to_pay=0.0, session="s").bind_tools([add])
            asked = await ask(llm, "1 + 2?")
            clock.advance(3600.0)  # the pause of `cheap` is over
            answer = await ask(llm, [self.HISTORY[0], asked, self.HISTORY[1]])
        noted = [message.response_metadata["mixllm"]["candidate"] for message in (asked, answer)]
        assert noted == ["dear", "dear"]


async def test_an_agent_inside_a_tool_has_a_conversation_of_its_own(llm: ChatMixLLM, server: ScriptedServer) -> None:
    inner = create_agent(ChatMixLLM(router=llm.router, force="dear"), [add])

    async def ask_expert(question: str) -> str:
        """Ask the expert."""
        result = await inner.ainvoke({"messages": [HumanMessage(question)]})
        return str(result["messages"][-1].text)

    call = ToolCall(name="ask_expert", arguments={"question": "?"}, id="t1")
    server.script("cheap", [Reply(tool_calls=[call]), Reply(text="Done")])
    agent = create_agent(llm, [ask_expert], checkpointer=InMemorySaver())
    result = await agent.ainvoke({"messages": [HumanMessage("Hello?")]}, THREAD)

    last: AIMessage = result["messages"][-1]
    assert last.text == "Done"  # the loop outside is still with `cheap`, though `dear` answered in between
    assert with_whom(llm.router, "t1") == ("cheap", "tool loop")
