"""Query engines: what they lose of a decision, `track_decisions` keeps."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import TextNode

from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine import Router
from mixllm_engine.testing import ScriptedServer

QUESTION = "When does the library open?"


@pytest.fixture
def index() -> VectorStoreIndex:
    nodes = [TextNode(text=text) for text in ("The library opens at nine.", "It closes at six.", "It has a garden.")]
    return VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=8))


async def test_query_and_aquery(index: VectorStoreIndex, server: ScriptedServer, llm: MixLLM) -> None:
    engine = index.as_query_engine(llm=llm, similarity_top_k=3)
    with track_decisions() as tracked:
        assert str(engine.query(QUESTION)) == "Good day to you"
        assert str(await engine.aquery(QUESTION)) == "Good day to you"
    assert len(tracked.decisions) == len(server.requests) == 2
    assert llm.feedback(tracked.decision_ids[0], 1.0).status == "applied"
    content: Any = server.requests[0].body["messages"]
    assert "The library opens at nine." in content[-1]["content"]


async def test_streamed_answers_are_decided_on_when_they_are_read(
    index: VectorStoreIndex, server: ScriptedServer, llm: MixLLM
) -> None:
    """LlamaIndex's synthesizers ask the LLM no sooner, so it is there that the block has to be open."""
    engine = index.as_query_engine(llm=llm, streaming=True)
    response, aresponse = engine.query(QUESTION), await engine.aquery(QUESTION)
    assert server.requests == ()
    with track_decisions() as tracked:
        assert isinstance(response, StreamingResponse)
        assert "".join(response.response_gen) == "Good day to you"
        assert isinstance(aresponse, AsyncStreamingResponse)
        assert "".join([token async for token in aresponse.response_gen]) == "Good day to you"
    assert len(tracked.decisions) == len(server.requests) == 2


async def test_a_stream_of_the_llm_itself_is_decided_on_at_once(llm: MixLLM) -> None:
    with track_decisions() as tracked:
        stream, astream = llm.stream_complete(QUESTION), await llm.astream_complete(QUESTION)
    assert len(tracked.decisions) == 2
    assert list(stream)[-1].text == [chunk async for chunk in astream][-1].text == "Good day to you"
    assert llm.router.stats()["decisions"] == 2


async def test_every_call_of_a_synthesizer_is_kept(
    index: VectorStoreIndex, server: ScriptedServer, llm: MixLLM
) -> None:
    engine = index.as_query_engine(llm=llm, response_mode=ResponseMode.REFINE, similarity_top_k=3)
    with track_decisions() as tracked:
        await engine.aquery(QUESTION)
    assert len(tracked.decisions) == len(server.requests) == 3


async def test_tree_summarize_runs_its_calls_in_tasks(server: ScriptedServer, router: Router) -> None:
    llm = MixLLM(router=router, context_window=300, max_tokens=100)  # so narrow that one node fills a prompt
    nodes = [TextNode(text=f"{name} opens at nine. " * 20) for name in ("The library", "The museum", "The pool")]
    engine = VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=8)).as_query_engine(
        llm=llm, response_mode=ResponseMode.TREE_SUMMARIZE, use_async=True, similarity_top_k=3
    )
    with track_decisions() as tracked:
        await engine.aquery(QUESTION)
    assert len(tracked.decisions) == len(server.requests) > 2


async def test_parallel_queries_keep_their_decisions_apart(index: VectorStoreIndex, llm: MixLLM) -> None:
    engine = index.as_query_engine(llm=llm)

    async def one(question: str) -> list[str]:
        with track_decisions() as tracked:
            await engine.aquery(question)
        return tracked.decision_ids

    first, second = await asyncio.gather(one("When does it open?"), one("When does it close?"))
    assert (len(first), len(second)) == (1, 1)
    assert first != second


async def test_threads_keep_the_block_only_if_they_inherit_it(llm: MixLLM) -> None:
    with track_decisions() as tracked:
        await asyncio.to_thread(llm.complete, "Hello?")
        with ThreadPoolExecutor(1) as threads:
            threads.submit(llm.complete, "Hello?").result()
    assert len(tracked.decisions) == 1
