"""Behaviours 25 and 26 of a good LlamaIndex citizen: every agent runs, and every decision is collected."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.base.response.schema import StreamingResponse
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.workflow import Context

from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine import Router
from mixllm_engine.testing import Reply, ScriptedServer, ToolCall

from .behaviours import index
from .contract import ADD_CALL, PARIS, PARIS_CALL, QUESTION, REACT_ANSWER, THOUGHT, City, body, tools

TWO_STEPS = [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")]


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # LlamaIndex's own
@pytest.mark.filterwarnings("ignore:Skipping serialization of known unserializable key. memory")  # kept apart, as here
async def test_behaviour_25_every_kind_of_agent_runs(server: ScriptedServer, llm: MixLLM) -> None:
    """FunctionAgent in all its forms, ReActAgent, a workflow with a handoff, and a context that goes round."""
    for streaming in (True, False):
        server.script("cheap", TWO_STEPS)
        handler = FunctionAgent(tools=tools(), llm=llm, streaming=streaming, system_prompt="Calculate.").run(QUESTION)
        deltas = [event.delta async for event in handler.stream_events() if isinstance(event, AgentStream)]
        output: Any = await handler
        assert str(output) == "It is 3."
        assert ("".join(deltas) == "It is 3.") is streaming
        assert [message["role"] for message in body(server)["messages"]] == ["system", "user", "assistant", "tool"]
        assert llm.feedback(output, 1.0).decision_id == output.raw["mixllm"]["decision_id"]
    server.script("cheap", Reply(text="Good day to you"))
    assert str(await FunctionAgent(tools=[], llm=llm).run("Hello?")) == "Good day to you"
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body(server))
    server.script("cheap", TWO_STEPS)
    await FunctionAgent(tools=tools(), llm=llm, initial_tool_choice="add").run(QUESTION)
    assert body(server, -2)["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert "tool_choice" not in body(server, -1)
    server.script("cheap", [*TWO_STEPS, Reply(tool_calls=[PARIS_CALL])])
    output = await FunctionAgent(tools=tools(), llm=llm, output_cls=City).run(QUESTION)
    assert output.get_pydantic_model(City) == PARIS
    server.script("cheap", [Reply(text=THOUGHT), Reply(text=REACT_ANSWER)])
    assert str(await ReActAgent(tools=tools(), llm=llm).run(QUESTION)) == "It is 3."
    over = ToolCall(name="handoff", arguments={"to_agent": "adder", "reason": "It adds."}, id="call_0")
    server.script("cheap", [Reply(tool_calls=[over]), *TWO_STEPS])
    front = FunctionAgent(name="front", description="Asks others.", llm=llm, can_handoff_to=["adder"])
    adder = FunctionAgent(name="adder", description="Adds.", llm=llm, tools=tools())
    output = await AgentWorkflow(agents=[front, adder], root_agent="front").run(QUESTION)
    assert (str(output), output.current_agent_name) == ("It is 3.", "adder")
    server.script("cheap", [*TWO_STEPS, Reply(text="Still 3.")])
    agent = FunctionAgent(tools=tools(), llm=llm)
    context, memory = Context(agent), ChatMemoryBuffer.from_defaults(llm=llm)
    await agent.run(QUESTION, ctx=context, memory=memory)
    data = json.loads(json.dumps(context.to_dict()))
    kept = [ChatMessage.model_validate_json(message.model_dump_json()) for message in memory.get_all()]
    remembered = ChatMemoryBuffer.from_defaults(kept, llm=llm)
    assert str(await agent.run("And now?", ctx=Context.from_dict(agent, data), memory=remembered)) == "Still 3."
    roles = [message["role"] for message in body(server)["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


async def test_behaviour_26_the_collector_gathers_every_decision(server: ScriptedServer, router: Router) -> None:
    """Queries, streams read inside and outside the block, tasks; runs side by side are kept apart."""
    library, llm = index("The library opens at nine."), MixLLM(router=router)
    engine = library.as_query_engine(llm=llm)
    with track_decisions() as tracked:
        engine.query("When?")
        await engine.aquery("When?")
        await asyncio.to_thread(llm.complete, "When?")
        with ThreadPoolExecutor(1) as threads:  # has no context of its own: a known limit
            threads.submit(llm.complete, "When?").result()
    assert (len(tracked.decisions), len(server.requests)) == (3, 4)
    streaming = library.as_query_engine(llm=llm, streaming=True)
    with track_decisions() as inside:
        response, later = streaming.query("When?"), llm.stream_complete("When?")
        assert isinstance(response, StreamingResponse)
        assert "".join(response.response_gen) == "Good day to you"
    assert list(later)[-1].text == "Good day to you"  # read outside, decided inside
    assert len(inside.decisions) == 2
    narrow = MixLLM(router=router, context_window=300, max_tokens=100)  # so narrow that one node fills a prompt
    many = index(*(f"{name} opens at nine. " * 20 for name in ("The library", "The museum", "The pool")))
    tree = many.as_query_engine(
        llm=narrow, response_mode=ResponseMode.TREE_SUMMARIZE, use_async=True, similarity_top_k=3
    )
    server.clear()
    with track_decisions() as summarised:
        await tree.aquery("When?")
    assert len(summarised.decisions) == len(server.requests) > 2

    async def one(question: str) -> list[str]:
        with track_decisions() as mine:
            await engine.aquery(question)
        return mine.decision_ids

    first, second = await asyncio.gather(one("When does it open?"), one("When does it close?"))
    assert (len(first), len(second)) == (1, 1)
    assert first != second
