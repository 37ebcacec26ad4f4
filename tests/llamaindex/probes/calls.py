"""Twelve probes of tools, and five of structured output."""

from typing import Any

from llamaindex_mixllm import MixLLM
from mixllm_engine.testing import Reply, ScriptedServer
from tests.llamaindex.contract import (
    ADD_CALL,
    CITY_PROMPT,
    HELLO,
    PARIS,
    PARIS_CALL,
    QUESTION,
    SUBTRACT_CALL,
    City,
    collected,
    tools,
)
from tests.llamaindex.probes.registry import probe, says, sent

# -- tools (12) ------------------------------------------------------------------------------------------------------


def adds(llm: MixLLM, response: Any) -> None:
    (call,) = llm.get_tool_calls_from_response(response)
    assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 1, "b": 2})


@probe
def chat_with_tools(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL]))
    adds(llm, llm.chat_with_tools(tools(), QUESTION))


@probe
async def achat_with_tools(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL]))
    adds(llm, await llm.achat_with_tools(tools(), QUESTION))


@probe
def stream_chat_with_tools(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL]))
    adds(llm, list(llm.stream_chat_with_tools(tools(), QUESTION))[-1])


@probe
async def astream_chat_with_tools(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL]))
    adds(llm, (await collected(await llm.astream_chat_with_tools(tools(), QUESTION)))[-1])


@probe
def parallel_tool_calls(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL, SUBTRACT_CALL]))
    response = llm.chat_with_tools(tools(), QUESTION, allow_parallel_tool_calls=True)
    assert [call.tool_id for call in llm.get_tool_calls_from_response(response)] == ["call_1", "call_2"]


@probe
def a_tool_is_required(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL]))
    adds(llm, llm.chat_with_tools(tools(), QUESTION, tool_required=True))
    assert sent(server)["tool_choice"] == "required"


@probe
def a_tool_is_chosen_by_name(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL]))
    adds(llm, llm.chat_with_tools(tools(), QUESTION, tool_choice="add"))
    assert sent(server)["tool_choice"] == {"type": "function", "function": {"name": "add"}}


@probe
def tool_choice_none_is_not_said(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL]))
    adds(llm, llm.chat_with_tools(tools(), QUESTION, tool_choice=None))
    assert "tool_choice" not in sent(server)


@probe
def no_tools_at_all(llm: MixLLM, server: ScriptedServer) -> None:
    says(llm.chat_with_tools([], QUESTION))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(sent(server))


@probe
def text_instead_of_a_call(llm: MixLLM, server: ScriptedServer) -> None:
    response = llm.chat_with_tools(tools(), QUESTION)
    says(response)
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []


@probe
def predict_and_call(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL]))
    assert llm.predict_and_call(tools(), QUESTION).response == "3"


@probe
async def apredict_and_call(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[ADD_CALL]))
    assert (await llm.apredict_and_call(tools(), QUESTION)).response == "3"


# -- structured output (5) -------------------------------------------------------------------------------------------


@probe
def structured_predict(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[PARIS_CALL]))
    assert llm.structured_predict(City, CITY_PROMPT, country="France") == PARIS
    assert sent(server)["tool_choice"] == "required"


@probe
async def astructured_predict(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[PARIS_CALL]))
    assert await llm.astructured_predict(City, CITY_PROMPT, country="France") == PARIS
    assert sent(server)["tool_choice"] == "required"


@probe
def stream_structured_predict(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[PARIS_CALL]))
    assert list(llm.stream_structured_predict(City, CITY_PROMPT, country="France"))[-1] == PARIS


@probe
async def astream_structured_predict(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[PARIS_CALL]))
    assert (await collected(await llm.astream_structured_predict(City, CITY_PROMPT, country="France")))[-1] == PARIS


@probe
async def as_structured_llm(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(tool_calls=[PARIS_CALL]))
    structured = llm.as_structured_llm(City)
    assert structured.chat(HELLO).raw == (await structured.achat(HELLO)).raw == PARIS
