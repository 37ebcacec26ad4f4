"""The encoder that MixLLM carries, as an embedding model for LlamaIndex: no key, no network."""

from __future__ import annotations

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import PrivateAttr

from mixllm_engine import OnnxEncoder


class PackagedEmbedding(BaseEmbedding):
    """all-MiniLM-L6-v2 as MixLLM ships it."""

    _encoder: OnnxEncoder = PrivateAttr(default_factory=OnnxEncoder)

    def _get_text_embedding(self, text: str) -> list[float]:
        vector: list[float] = self._encoder.encode([text])[0].tolist()
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)
