"""A clock that is moved by hand, an encoder without weights, and a router of two candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixllm_engine.encoding.encoder import Embeddings
from mixllm_engine.router import Router
from mixllm_engine.types import Candidate


class FakeClock:
    """Seconds that pass only when told to.

    Examples
    --------
    >>> clock = FakeClock(100.0)
    >>> clock.advance(2.5)
    >>> clock()
    102.5
    """

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class HashingEncoder:
    """An encoder without weights: words are hashed to coordinates. Texts that share words are near each other.

    Parameters
    ----------
    dimension : int
        Length of an embedding.
    """

    def __init__(self, dimension: int = 64) -> None:
        self._dimension = dimension

    @property
    def fingerprint(self) -> str:
        """Name the vector space."""
        return f"hashing-{self._dimension}"

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._dimension

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return unit vectors, shape (n, d)."""
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                vectors[row, int.from_bytes(digest[:4], "little") % self._dimension] += 1.0 if digest[4] % 2 else -1.0
            if not vectors[row].any():
                vectors[row, 0] = 1.0
        unit: Embeddings = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def count_tokens(self, text: str) -> int:
        """Count words."""
        return len(text.split())


def tiny_pool(api_base: str | None = None, names: Sequence[str] = ("cheap", "dear")) -> list[Candidate]:
    """Return candidates of rising price that call `api_base` under their own names as models."""
    return [
        Candidate(
            name=name,
            model=f"openai/{name}",
            api_base=api_base,
            input_usd_per_mtok=0.1 * 20.0**rank,
            output_usd_per_mtok=0.4 * 20.0**rank,
            context_window=4096 * 4**rank,
            supports_tools=True,
            supports_json_schema=True,
        )
        for rank, name in enumerate(names)
    ]


def tiny_router(api_base: str | None = None, names: Sequence[str] = ("cheap", "dear"), **settings: Any) -> Router:
    """Return a router over `tiny_pool` that needs no weights and explores repeatably.

    Examples
    --------
    >>> tiny_router().decide("hello").ranking
    ('cheap', 'dear')
    """
    return Router(tiny_pool(api_base, names), **{"encoder": HashingEncoder(), "seed": 0, **settings})
