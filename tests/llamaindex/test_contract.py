"""The contract of a LlamaIndex LLM: for MixLLM over LiteLLM, over LlamaIndex LLMs, and for OpenAILike as control."""

from typing import Any, ClassVar

from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.llms.openai_like import OpenAILike  # type: ignore[import-untyped]

from llamaindex_mixllm import MixLLM
from mixllm_engine import Candidate, Router
from mixllm_engine.testing import HashingEncoder, ScriptedServer

from .contract import STREAMS, LLMContract

KEY = "sk-a-key-that-must-not-be-seen"


def candidate(server: ScriptedServer) -> Candidate:
    return Candidate(
        name="own",
        model="openai/cheap",
        api_base=server.base_url,
        api_key=KEY,
        input_usd_per_mtok=1.0,
        output_usd_per_mtok=1.0,
        context_window=4096,
        supports_tools=True,
        supports_images=True,
    )


def openai_like(server: ScriptedServer, **fields: Any) -> OpenAILike:
    return OpenAILike(
        model="cheap",
        api_base=server.base_url,
        api_key=KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
        default_headers={"Connection": "close"},  # nobody closes its clients
        **fields,
    )


class TestMixLLM(LLMContract):
    def make(self, server: ScriptedServer, **fields: Any) -> FunctionCallingLLM:
        return MixLLM(router=Router([candidate(server)], encoder=HashingEncoder()), **fields)


class TestMixLLMOverLlamaIndexLLMs(LLMContract):
    unmet: ClassVar[dict[str, str]] = {
        "test_one_call_is_one_pair_of_events": "the LLM inside tells the dispatcher, too",
        "test_a_stream_that_breaks_is_an_error": "as above",
        "test_tool_choice[by-name]": "it is the only tool then, and required",
    }

    def make(self, server: ScriptedServer, **fields: Any) -> FunctionCallingLLM:
        router = Router([candidate(server)], encoder=HashingEncoder())
        return MixLLM(router=router, models={"own": openai_like(server)}, **fields)


class TestOpenAILike(LLMContract):
    """The control: what it fails is OpenAILike's, what it passes is a fair demand."""

    unmet: ClassVar[dict[str, str]] = {
        "test_chunks_share_nothing": "all chunks have the same list of tool calls",
        **{f"test_usage_is_the_servers_and_counted_once[{way}]": "asks for no usage in streams" for way in STREAMS},
        "test_without_tools_nothing_is_said_of_them": 'says "tools": null',
        "test_function_agent_without_tools": "as above",
        "test_the_history_stays_as_it_is": "adds the message to the caller's list",
        "test_structured_streams_demand_the_call": "the program says nothing of it in streams",
        "test_the_key_is_sent_and_never_told": "the key is a field",
    }

    def make(self, server: ScriptedServer, **fields: Any) -> FunctionCallingLLM:
        made: FunctionCallingLLM = openai_like(server, **fields)
        return made
