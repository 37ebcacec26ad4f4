"""Tools and agents beyond the 31 behaviours: incomplete arguments, candidates without tools, agents cut short."""

from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock

from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine import Candidate, Router
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer

from .contract import ADD_CALL, QUESTION, REACT_ANSWER, THOUGHT, body, tools


@pytest.mark.parametrize(
    ("arguments", "read"), [('{"a": 1, "b', {"a": 1}), ('{"a": [1, ', {"a": [1]}), ("]{", {}), ("[1]", {}), ("", {})]
)
def test_incomplete_or_bad_arguments_are_read_as_far_as_they_go(
    llm: MixLLM, arguments: str, read: dict[str, Any]
) -> None:
    block = ToolCallBlock(tool_name="add", tool_kwargs=arguments)
    (call,) = llm.get_tool_calls_from_response(ChatResponse(message=ChatMessage(role="assistant", blocks=[block])))
    assert call.tool_kwargs == read


async def test_agent_workflow_takes_function_calling_for_granted(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")])
    workflow = AgentWorkflow.from_tools_or_functions(tools(), llm=llm)
    assert str(await workflow.run(QUESTION)) == "It is 3."
    assert "tools" in body(server, 0)


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # LlamaIndex's own
async def test_react_agent_needs_no_tools_of_the_candidate(server: ScriptedServer) -> None:
    server.script("plain", [Reply(text=THOUGHT), Reply(text=REACT_ANSWER)])
    plain = Candidate(
        name="plain",
        model="openai/plain",
        api_base=server.base_url,
        input_usd_per_mtok=1.0,
        output_usd_per_mtok=1.0,
        supports_tools=False,
    )
    llm = MixLLM(router=Router([plain], encoder=HashingEncoder()))
    output: Any = await ReActAgent(tools=tools(), llm=llm).run(QUESTION)
    assert output.response.content == "It is 3."
    assert all("tools" not in request.body for request in server.requests)


@pytest.mark.skipif("early_stopping_method" not in FunctionAgent.model_fields, reason="a newer LlamaIndex can do this")
async def test_an_agent_that_is_stopped_early_ends_with_who_began(server: ScriptedServer, llm: MixLLM) -> None:
    """The last call has the tool's output in its history, and a system message after that."""
    script = [Reply(tool_calls=[ADD_CALL]), Reply(tool_calls=[ADD_CALL]), Reply(text="I stop at 3.")]
    server.script("cheap", script)
    agent = FunctionAgent(tools=tools(), llm=llm, early_stopping_method="generate")
    with track_decisions() as tracked:
        assert str(await agent.run(QUESTION, max_iterations=2)) == "I stop at 3."
    assert [decision.candidate for decision in tracked.decisions] == ["cheap"] * 3


async def test_the_credit_of_a_run_goes_to_its_decisions(server: ScriptedServer, llm: MixLLM) -> None:
    server.script("cheap", [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")])
    with track_decisions() as tracked:
        await FunctionAgent(tools=tools(), llm=llm).run(QUESTION)
    assert llm.feedback(tracked, 1.0).decision_id == tracked.decision_ids[-1]
    assert llm.router.stats()["feedback_applied"] == 1
    llm.feedback(tracked, 1.0, key="judge", credit="all")
    assert llm.router.stats()["feedback_applied"] == 3
