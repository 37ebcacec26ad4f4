"""Query engines: what they lose of a decision, `track_decisions` keeps."""

from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import TextNode

from llamaindex_mixllm import MixLLM, track_decisions
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


async def test_streamed_answers_are_asked_for_when_they_are_read(
    index: VectorStoreIndex, server: ScriptedServer, llm: MixLLM
) -> None:
    """Versions of LlamaIndex differ in whether the LLM is called with the query or with the first token."""
    engine = index.as_query_engine(llm=llm, streaming=True)
    with track_decisions() as tracked:
        response, aresponse = engine.query(QUESTION), await engine.aquery(QUESTION)
        assert server.requests == ()
        assert isinstance(response, StreamingResponse)
        assert "".join(response.response_gen) == "Good day to you"
        assert isinstance(aresponse, AsyncStreamingResponse)
        assert "".join([token async for token in aresponse.response_gen]) == "Good day to you"
    assert len(tracked.decisions) == len(server.requests) == 2


async def test_every_call_of_a_synthesizer_is_kept(
    index: VectorStoreIndex, server: ScriptedServer, llm: MixLLM
) -> None:
    engine = index.as_query_engine(llm=llm, response_mode=ResponseMode.REFINE, similarity_top_k=3)
    with track_decisions() as tracked:
        await engine.aquery(QUESTION)
    assert len(tracked.decisions) == len(server.requests) == 3
