"""What a call is routed by: the question and not the prompt around it, and the run that it belongs to."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock
from llama_index.core.chat_engine.types import ChatMode
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import TextNode
from llama_index_instrumentation.dispatcher import instrument_tags

from llamaindex_mixllm import MixLLM, track_decisions
from llamaindex_mixllm._questions import SESSION_TAG, Conversation
from mixllm_engine import Query, Router, RouterConfig
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import Failure, FakeClock, RecordedRequest, Reply, ScriptedServer, ToolCall, tiny_router

from .contract import ADD_CALL, CITY_PROMPT, PARIS_CALL, QUESTION, REACT_ANSWER, THOUGHT, City, collected, tools

CLAUSE = "What does clause four say about repairs?"


class Seen:
    """What a router was asked."""

    def __init__(self, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queries: list[Query] = []
        self.sessions: list[str | None] = []
        decide = router.decide

        def noting(query: Any, **terms: Any) -> Any:
            self.queries.append(query)
            self.sessions.append(terms.get("session"))
            return decide(query, **terms)

        monkeypatch.setattr(router, "decide", noting)

    @property
    def texts(self) -> list[str | None]:
        return [query.text for query in self.queries]


@pytest.fixture
def seen(router: Router, monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(router, monkeypatch)


@pytest.fixture
def index() -> VectorStoreIndex:
    nodes = [TextNode(text=f"Clause {name}: the landlord repairs the roof.") for name in ("three", "four")]
    return VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=8))


# -- questions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate"])
async def test_query_engines_route_on_the_question(
    index: VectorStoreIndex, llm: MixLLM, seen: Seen, mode: ResponseMode
) -> None:
    engine = index.as_query_engine(llm=llm, response_mode=mode)
    engine.query(CLAUSE)
    await engine.aquery(CLAUSE)
    assert set(seen.texts) == {CLAUSE}
    tokens = seen.queries[0].prompt_tokens
    assert tokens is not None and tokens > 40  # the whole prompt counts for costs and windows


async def test_streams_route_on_the_question(index: VectorStoreIndex, llm: MixLLM, seen: Seen) -> None:
    engine = index.as_query_engine(llm=llm, streaming=True)
    blocking: Any = engine.query(CLAUSE)
    assert "".join(blocking.response_gen) == "Good day to you"
    response: Any = await engine.aquery(CLAUSE)
    assert "".join(await collected(response.response_gen)) == "Good day to you"
    assert seen.texts == [CLAUSE, CLAUSE]


def test_templates_of_ones_own_are_understood(index: VectorStoreIndex, llm: MixLLM, seen: Seen) -> None:
    engine = index.as_query_engine(llm=llm, text_qa_template=PromptTemplate("{query_str}?! Voici: {context_str}"))
    engine.query(CLAUSE)
    assert seen.texts == [CLAUSE]


@pytest.mark.parametrize("mode", [ChatMode.CONTEXT, ChatMode.CONDENSE_PLUS_CONTEXT, ChatMode.SIMPLE])
def test_chat_engines_route_on_the_message(index: VectorStoreIndex, llm: MixLLM, seen: Seen, mode: ChatMode) -> None:
    engine = index.as_chat_engine(chat_mode=mode, llm=llm, memory=ChatMemoryBuffer.from_defaults(llm=llm))
    engine.chat(CLAUSE)
    assert seen.texts == [CLAUSE]


async def test_structured_output_routes_on_the_question(server: ScriptedServer, llm: MixLLM, seen: Seen) -> None:
    server.script("cheap", Reply(tool_calls=[PARIS_CALL]))
    prompt = PromptTemplate("Here is a lot to read.\n{query_str}\nAnswer now.")
    llm.structured_predict(City, prompt, query_str=CLAUSE)
    await llm.astructured_predict(City, prompt, query_str=CLAUSE)
    list(llm.stream_structured_predict(City, prompt, query_str=CLAUSE))
    await collected(await llm.astream_structured_predict(City, prompt, query_str=CLAUSE))
    assert seen.texts == [CLAUSE] * 4
    llm.structured_predict(City, CITY_PROMPT, country="France")
    assert seen.texts[-1] == "Which city is the capital of France?"
    assert all("question" not in request.body for request in server.requests)


def test_a_call_and_an_extractor_say_it_first(router: Router, seen: Seen, index: VectorStoreIndex) -> None:
    def after_colon(messages: Sequence[ChatMessage]) -> str | None:
        return (messages[-1].content or "").partition("Task:")[2].strip() or None

    llm = MixLLM(router=router, query_extractor=after_colon)
    llm.complete("Be nice. Task: add 1 and 2")
    llm.complete("Hello?")
    llm.complete("Task: x", question="What is x?")
    index.as_query_engine(llm=llm).query(CLAUSE)
    assert seen.texts == ["add 1 and 2", "Hello?", "What is x?", CLAUSE]


def test_the_last_request_counts_and_not_what_tools_say(llm: MixLLM, seen: Seen) -> None:
    called = ChatMessage(
        role="assistant", additional_kwargs={"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
    )
    output = ChatMessage(role="tool", content="done " * 50, additional_kwargs={"tool_call_id": "1"})
    llm.chat([ChatMessage(content="Hello?"), ChatMessage(role="assistant", content="Hi."), ChatMessage(content=CLAUSE)])
    llm.chat([ChatMessage(content=CLAUSE), called, output])
    llm.chat([ChatMessage(content=CLAUSE), called, output, ChatMessage(role="system", content="Stop here.")])
    llm.chat([ChatMessage(content="x"), called, output, ChatMessage(content=CLAUSE)])
    assert seen.texts == [CLAUSE] * 4
    assert [query.in_tool_loop for query in seen.queries] == [False, True, True, False]


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # LlamaIndex's own
async def test_what_react_says_in_the_persons_name_is_no_request(
    server: ScriptedServer, llm: MixLLM, seen: Seen
) -> None:
    server.script("cheap", [Reply(text=THOUGHT), Reply(text="Thought: hm\nAction: add\n"), Reply(text=REACT_ANSWER)])
    assert str(await ReActAgent(tools=tools(), llm=llm).run(QUESTION)) == "It is 3."
    assert seen.texts == [QUESTION] * 3
    assert [query.in_tool_loop for query in seen.queries] == [False, True, True]
    assert len(set(seen.sessions)) == 1


requests = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4)
answers = st.lists(st.sampled_from(["assistant", "tool", "system"]), max_size=6)


@given(said=requests, later=answers)
def test_a_conversation_keeps_its_question_and_session_until_the_person_speaks(
    said: list[str], later: list[str]
) -> None:
    asked = [ChatMessage(content=text) for text in said]
    longer = [*asked, *(ChatMessage(role=role, content="...") for role in later)]
    before, after = Conversation.of(asked), Conversation.of(longer)
    assert after.question == before.question == said[-1]
    assert after.session(with_tools=True) == before.session(with_tools=True)
    assert (before.in_tool_loop, after.in_tool_loop) == (False, "tool" in later)
    again = Conversation.of([*longer, ChatMessage(content="And now?")])
    assert again.session(with_tools=True) != before.session(with_tools=True)
    assert not again.in_tool_loop


def test_a_person_may_begin_with_the_word_observation() -> None:
    said = Conversation.of([ChatMessage(content="Observation: it rains.")])
    assert (said.question, said.in_tool_loop) == ("Observation: it rains.", False)


def test_an_attachment_without_a_word_is_no_question() -> None:
    said = Conversation.of([ChatMessage(blocks=[ImageBlock(url="https://example.org/a.png")])])
    assert said.question is None


# -- sessions --------------------------------------------------------------------------------------------------------


def test_plain_calls_have_no_session(llm: MixLLM, seen: Seen) -> None:
    llm.complete("Hello?")
    llm.chat([ChatMessage(content="Hello?")])
    assert seen.sessions == [None, None]


def test_a_tag_names_the_session_and_the_call_may_name_another(router: Router, seen: Seen) -> None:
    llm = MixLLM(router=router)
    with instrument_tags({SESSION_TAG: "chat-7"}):
        llm.complete("Hello?")
        llm.complete("Hello?", session="chat-8")
        MixLLM(router=router, session="chat-9").complete("Hello?")
    assert seen.sessions == ["chat-7", "chat-8", "chat-9"]


async def test_each_run_is_a_session_of_its_own(server: ScriptedServer, llm: MixLLM, seen: Seen) -> None:
    server.script("cheap", [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")] * 2)
    agent = FunctionAgent(tools=tools(), llm=llm)
    await agent.run(QUESTION)
    await agent.run(QUESTION)
    first, second = seen.sessions[:2], seen.sessions[2:]
    assert len(set(first)) == len(set(second)) == 1
    assert None not in first
    assert first != second


async def test_a_loop_in_plain_code_stays_with_who_began(server: ScriptedServer) -> None:
    """No agent, no session: the conversation itself says to which loop a call belongs."""
    for name in ("cheap", "dear"):
        server.script(name, Reply(tool_calls=[ADD_CALL]))
    output = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1"})
    with tiny_router(api_base=server.base_url) as router:
        llm = MixLLM(router=router)

        async def loop(question: str) -> set[str]:
            history = [ChatMessage(content=question)]
            answered = set()
            for _ in range(3):
                said: Any = await llm.achat_with_tools(tools(), chat_history=history)
                history += [said.message, output]
                answered.add(said.raw["mixllm"]["candidate"])
            return answered

        loops = await asyncio.gather(*(loop(f"What is {n} + 2?") for n in range(20)))
    assert {len(answered) for answered in loops} == {1}
    assert set().union(*loops) == {"cheap", "dear"}  # exploration goes on between the loops


async def test_a_handoff_stays_with_who_began(server: ScriptedServer) -> None:
    """Two agents with an LLM each, over one router: the loop goes on, with the first one's calls in its history."""
    over = ToolCall(name="handoff", arguments={"to_agent": "adder", "reason": "It adds."}, id="call_0")

    def step(request: RecordedRequest) -> Reply:
        messages: Any = request.body["messages"]
        results = [message for message in messages if message["role"] == "tool"]
        return [Reply(tool_calls=[over]), Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")][len(results)]

    for name in ("cheap", "dear"):
        server.script(name, step)
    began, curious = set(), RouterConfig(exploration=ExplorationConfig(rate=0.5, pulls=1000))
    with tiny_router(api_base=server.base_url, config=curious) as router:
        for _ in range(12):
            front = FunctionAgent(
                name="front", description="Asks others.", llm=MixLLM(router=router), can_handoff_to=["adder"]
            )
            adder = FunctionAgent(name="adder", description="Adds.", llm=MixLLM(router=router), tools=tools())
            with track_decisions() as tracked:
                assert str(await AgentWorkflow(agents=[front, adder], root_agent="front").run(QUESTION)) == "It is 3."
            (candidate,) = {decision.candidate for decision in tracked.decisions}
            assert len(tracked.decisions) == 3
            began.add(candidate)
    assert began == {"cheap", "dear"}


def test_who_answered_in_place_of_another_goes_on(server: ScriptedServer) -> None:
    """After a fallback the loop's calls are those of who answered, although another was chosen."""
    server.script("cheap", [Failure(status=400), Reply(tool_calls=[ADD_CALL])])
    server.script("dear", Reply(tool_calls=[ADD_CALL]))
    clock, steady = FakeClock(), RouterConfig(exploration=ExplorationConfig(rate=0.0))
    with tiny_router(api_base=server.base_url, config=steady, clock=clock) as router:
        llm, history, answered = MixLLM(router=router), [ChatMessage(content=QUESTION)], []
        for _ in range(3):
            said: Any = llm.chat_with_tools(tools(), chat_history=history)
            history += [
                said.message,
                ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1"}),
            ]
            answered.append(said.raw["mixllm"]["candidate"])
            clock.advance(3600.0)  # no pause keeps the other one away
    assert answered == ["dear"] * 3


def test_a_failure_inside_a_loop_still_goes_on_elsewhere(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", [Reply(tool_calls=[ADD_CALL]), Failure(status=500)])
    history = [ChatMessage(content=QUESTION)]
    history.append(llm.chat_with_tools(tools(), chat_history=history).message)
    history.append(ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1"}))
    said: Any = llm.chat_with_tools(tools(), chat_history=history)
    assert said.raw["mixllm"]["candidate"] == "dear"
