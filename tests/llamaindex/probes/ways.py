"""Twelve probes: the eight ways to ask, and four with templates."""

from llama_index.core.prompts import PromptTemplate

from llamaindex_mixllm import MixLLM
from mixllm_engine.testing import ScriptedServer
from tests.llamaindex.contract import HELLO, collected
from tests.llamaindex.probes.registry import GREETING, probe, says

GREET = PromptTemplate("Greet {name}.")


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
