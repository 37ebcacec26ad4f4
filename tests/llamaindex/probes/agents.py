"""Six probes of agents."""

import json
import warnings
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.workflow import Context

from llamaindex_mixllm import MixLLM
from mixllm_engine.testing import Reply, ScriptedServer
from tests.llamaindex.contract import ADD_CALL, PARIS, PARIS_CALL, QUESTION, REACT_ANSWER, THOUGHT, City, tools
from tests.llamaindex.probes.registry import probe, sent

TWO_STEPS = [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")]


@probe
async def function_agent_streaming(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", TWO_STEPS)
    assert str(await FunctionAgent(tools=tools(), llm=llm).run(QUESTION)) == "It is 3."


@probe
async def function_agent_at_once(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", TWO_STEPS)
    assert str(await FunctionAgent(tools=tools(), llm=llm, streaming=False).run(QUESTION)) == "It is 3."


@probe
async def function_agent_with_an_output_class(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", [*TWO_STEPS, Reply(tool_calls=[PARIS_CALL])])
    output: Any = await FunctionAgent(tools=tools(), llm=llm, output_cls=City).run(QUESTION)
    assert output.get_pydantic_model(City) == PARIS


@probe
async def react_agent(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", [Reply(text=THOUGHT), Reply(text=REACT_ANSWER)])
    assert str(await ReActAgent(tools=tools(), llm=llm).run(QUESTION)) == "It is 3."


@probe
async def agent_workflow(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", TWO_STEPS)
    assert str(await AgentWorkflow.from_tools_or_functions(tools(), llm=llm).run(QUESTION)) == "It is 3."


@probe
async def a_context_goes_round(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", [*TWO_STEPS, Reply(text="Still 3.")])
    agent = FunctionAgent(tools=tools(), llm=llm)
    context, memory = Context(agent), ChatMemoryBuffer.from_defaults(llm=llm)
    await agent.run(QUESTION, ctx=context, memory=memory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LlamaIndex says that the memory is to be kept apart, as it is here
        again = Context.from_dict(agent, json.loads(json.dumps(context.to_dict())))
    kept = [ChatMessage.model_validate_json(message.model_dump_json()) for message in memory.get_all()]
    remembered = ChatMemoryBuffer.from_defaults(kept, llm=llm)
    assert str(await agent.run("And now?", ctx=again, memory=remembered)) == "Still 3."
    assert [message["role"] for message in sent(server)["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
