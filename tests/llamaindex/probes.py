"""46 things that people do with a LlamaIndex LLM, each on a strict server; six of them are failures that must be told.

``python -m tests.llamaindex.probes`` runs them in a process without the package `mcp`, which LiteLLM would import for
tools, and prints a JSON object: name of the probe -> ``"ok"`` or what went wrong.
"""

import asyncio
import json
import sys
import warnings
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from llama_index.core.workflow import Context

from llamaindex_mixllm import MixLLM
from mixllm_engine import Candidate, Router
from mixllm_engine.testing import Cut, Failure, HashingEncoder, Malformed, Reply, ScriptedServer

from .contract import (
    ADD_CALL,
    CITY_PROMPT,
    HELLO,
    PARIS,
    PARIS_CALL,
    QUESTION,
    REACT_ANSWER,
    SUBTRACT_CALL,
    THOUGHT,
    City,
    collected,
    tools,
)

Probe = Callable[[MixLLM, ScriptedServer], Awaitable[None] | None]

PROBES: dict[str, Probe] = {}
GREETING = "Good day to you"
GREET = PromptTemplate("Greet {name}.")
TWO_STEPS = [Reply(tool_calls=[ADD_CALL]), Reply(text="It is 3.")]


def probe(function: Probe) -> Probe:
    PROBES[function.__name__] = function
    return function


def sent(server: ScriptedServer) -> dict[str, Any]:
    return dict(server.requests[-1].body)


def says(response: Any, text: str = GREETING) -> None:
    found = response.text if hasattr(response, "text") else response.message.content
    assert found == text, found


# -- the eight ways (8) ----------------------------------------------------------------------------------------------


@probe
def chat(llm: MixLLM, server: ScriptedServer) -> None:
    says(llm.chat(HELLO))


@probe
async def achat(llm: MixLLM, server: ScriptedServer) -> None:
    says(await llm.achat(HELLO))


@probe
def stream_chat(llm: MixLLM, server: ScriptedServer) -> None:
    chunks = list(llm.stream_chat(HELLO))
    says(chunks[-1])
    assert "".join(chunk.delta or "" for chunk in chunks) == GREETING


@probe
async def astream_chat(llm: MixLLM, server: ScriptedServer) -> None:
    chunks = await collected(await llm.astream_chat(HELLO))
    says(chunks[-1])
    assert "".join(chunk.delta or "" for chunk in chunks) == GREETING


@probe
def complete(llm: MixLLM, server: ScriptedServer) -> None:
    says(llm.complete("Hello?"))


@probe
async def acomplete(llm: MixLLM, server: ScriptedServer) -> None:
    says(await llm.acomplete("Hello?"))


@probe
def stream_complete(llm: MixLLM, server: ScriptedServer) -> None:
    says(list(llm.stream_complete("Hello?"))[-1])


@probe
async def astream_complete(llm: MixLLM, server: ScriptedServer) -> None:
    says((await collected(await llm.astream_complete("Hello?")))[-1])


# -- templates (4) ---------------------------------------------------------------------------------------------------


@probe
def predict(llm: MixLLM, server: ScriptedServer) -> None:
    assert llm.predict(GREET, name="Ada") == GREETING


@probe
async def apredict(llm: MixLLM, server: ScriptedServer) -> None:
    assert await llm.apredict(GREET, name="Ada") == GREETING


@probe
def stream(llm: MixLLM, server: ScriptedServer) -> None:
    assert "".join(llm.stream(GREET, name="Ada")) == GREETING


@probe
async def astream(llm: MixLLM, server: ScriptedServer) -> None:
    assert "".join(await collected(await llm.astream(GREET, name="Ada"))) == GREETING


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


# -- histories and thoughts (4), usage (1) ---------------------------------------------------------------------------


@probe
def a_history_with_tool_calls(llm: MixLLM, server: ScriptedServer) -> None:
    call = ToolCallBlock(tool_call_id="call_1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
    result = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1"})
    says(llm.chat([*HELLO, ChatMessage(role="assistant", blocks=[call]), result]))
    assert [message["role"] for message in sent(server)["messages"]] == ["user", "assistant", "tool"]


@probe
def a_history_with_thoughts(llm: MixLLM, server: ScriptedServer) -> None:
    said = ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm"), TextBlock(text="Hi.")])
    says(llm.chat([*HELLO, said, *HELLO]))
    assert sent(server)["messages"][1] == {"role": "assistant", "content": "Hi."}


@probe
def a_message_with_an_image(llm: MixLLM, server: ScriptedServer) -> None:
    says(llm.chat([ChatMessage(blocks=[TextBlock(text="What?"), ImageBlock(url="https://example.org/a.png")])]))
    assert [part["type"] for part in sent(server)["messages"][0]["content"]] == ["text", "image_url"]


@probe
def thoughts_in_an_answer(llm: MixLLM, server: ScriptedServer) -> None:
    server.script("own", Reply(text="Four.", reasoning="two and two"))
    chunks = list(llm.stream_chat(HELLO))
    assert chunks[-1].message.blocks[0] == llm.chat(HELLO).message.blocks[0] == ThinkingBlock(content="two and two")
    assert "".join(chunk.additional_kwargs.get("thinking_delta", "") for chunk in chunks) == "two and two"


@probe
async def tokens_are_counted_once(llm: MixLLM, server: ScriptedServer) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    llm.callback_manager = CallbackManager([counter])
    await collected(await llm.astream_chat(HELLO))
    assert counter.total_llm_token_count == 15, counter.total_llm_token_count


# -- agents (6) ------------------------------------------------------------------------------------------------------


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


# -- failures (6) ----------------------------------------------------------------------------------------------------


def fails(llm: MixLLM, server: ScriptedServer, behaviour: Any, word: str) -> None:
    server.script("own", behaviour)
    before = len(server.requests)
    for ask in (lambda: llm.chat(HELLO), lambda: list(llm.stream_chat(HELLO))):
        try:
            ask()
        except Exception as error:
            assert word in repr(error), error
        else:
            raise AssertionError("nothing was raised")
    assert len(server.requests) == before + 2  # one request per attempt


@probe
def a_refused_key_raises(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Failure(status=401, message="bad key"), "bad key")


@probe
def too_many_requests_raise(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Failure(status=429, message="slow down"), "slow down")


@probe
def a_server_error_raises(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Failure(status=500, message="oh no"), "oh no")


@probe
def a_prompt_that_is_too_long_raises(llm: MixLLM, server: ScriptedServer) -> None:
    failure = Failure(status=400, code="context_length_exceeded", message="maximum context length is 9")
    fails(llm, server, failure, "maximum context length is 9")


@probe
def an_answer_that_is_no_answer_raises(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Malformed(body="no JSON"), "all 1 candidates failed")


@probe
def a_stream_that_breaks_raises(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Cut(text="one two three", after_tokens=1), "onnection")


# -- running them ----------------------------------------------------------------------------------------------------


async def outcome(name: str) -> str:
    with ScriptedServer() as server:
        server.script("own", Reply(text=GREETING, response_tokens=4))
        own = Candidate(
            name="own",
            model="openai/own",
            api_base=server.base_url,
            input_usd_per_mtok=1.0,
            output_usd_per_mtok=1.0,
            context_window=4096,
            supports_tools=True,
            supports_images=True,
        )
        try:
            result = PROBES[name](MixLLM(router=Router([own], encoder=HashingEncoder())), server)
            if isawaitable(result):
                await result
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "ok"


async def outcomes() -> dict[str, str]:
    return {name: await outcome(name) for name in PROBES}


if __name__ == "__main__":
    sys.modules["mcp"] = None  # type: ignore[assignment]
    warnings.simplefilter("ignore")
    sys.stdout.write(json.dumps(asyncio.run(outcomes())))
