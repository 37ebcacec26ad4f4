"""Four probes of histories and thoughts, and one of usage."""

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

from llamaindex_mixllm import MixLLM
from mixllm_engine.testing import Reply, ScriptedServer
from tests.llamaindex.contract import HELLO, collected
from tests.llamaindex.probes.registry import probe, says, sent


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
