"""A query as a person gives it -> the checked, encoded form that is decided on."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mixllm_engine.config import FeatureConfig
from mixllm_engine.encoding.encoder import Encoder
from mixllm_engine.encoding.features import FeatureMap
from mixllm_engine.encoding.progress import shown
from mixllm_engine.encoding.surface import UNKNOWN, surface, vector_space
from mixllm_engine.errors import ConfigError, QueryError
from mixllm_engine.types import Capability, Matrix, Query, Vector

Item = TypeVar("Item")
Made = TypeVar("Made")

_BATCH = 64
_BATCHES_IN_CHUNK = 16
_CACHED_TEXTS = 512
_MOST_TOKENS: Final = 10**12  # far beyond any window, and small enough for any arithmetic
_LEAST_SQUARE: Final = 1e-280  # smaller ones have lost digits


class Context(NamedTuple):
    """A query that can be decided on.

    Attributes
    ----------
    embedding : array of shape (d,) or (d + 3,)
        Its embedding, and behind it the surface of its text, where that is a feature.
    features : array
        phi of it.
    prompt_tokens, max_output_tokens : int
        Length of the prompt, and the longest answer that will be asked for (0 = not said).
    needs : frozenset of str
        Capabilities.
    in_tool_loop : bool
        Whether the candidate of its session must not change.
    """

    embedding: npt.NDArray[np.floating]
    features: Vector
    prompt_tokens: int
    max_output_tokens: int
    needs: frozenset[Capability]
    in_tool_loop: bool


class ContextMaker:
    """Check and encode queries; thread-safe.

    The embeddings of the latest texts are remembered, by a hash of each: an agent asks about the same request at every
    step of its loop.

    Parameters
    ----------
    encoder : Encoder
        Text to embedding.
    config : FeatureConfig
        Embedding to context.

    Raises
    ------
    ConfigError
        If what is given as an encoder can't encode.
    """

    def __init__(self, encoder: Encoder, config: FeatureConfig) -> None:
        able = all(callable(getattr(encoder, method, None)) for method in ("encode", "count_tokens"))
        if isinstance(encoder, type) or not able:
            given = f"the class {encoder.__name__}" if isinstance(encoder, type) else type(encoder).__name__
            raise ConfigError(f"encoder must be able to encode and to count tokens, as OnnxEncoder() is; got {given}")
        self.encoder = encoder
        self.config = config
        self._lock = threading.Lock()
        self._latest: OrderedDict[bytes, tuple[npt.NDArray[np.floating], int]] = OrderedDict()

    @cached_property
    def features(self) -> FeatureMap:
        """The map from embeddings to contexts."""
        return FeatureMap.general(self.encoder, self.config)

    @property
    def space(self) -> str:
        """Name of the space of `Context.embedding`: what was learned in one is never used in another."""
        return vector_space(self.encoder.fingerprint, surface=self.config.surface)

    def make(self, query: str | Query) -> Context:
        """Check and encode one query, or raise `QueryError` that says what is wrong."""
        if isinstance(query, str):
            query = Query(text=query)
        if not isinstance(query, Query):
            raise QueryError(f"a query is a text or a Query, not {type(query).__name__}")
        if isinstance(query.needs, str):
            raise QueryError(f"needs must be a list of capabilities, got the text {query.needs!r}")
        embedding, counted = self._encoded(query.text) if query.embedding is None else self._given(query)
        prompt_tokens = counted if query.prompt_tokens is None else _tokens(query.prompt_tokens, "prompt_tokens")
        longest = 0 if query.max_output_tokens is None else _tokens(query.max_output_tokens, "max_output_tokens")
        if not isinstance(query.in_tool_loop, bool):
            raise QueryError(f"in_tool_loop must be True or False, got {query.in_tool_loop!r}")
        try:
            needs = frozenset(query.needs)
        except TypeError as error:
            raise QueryError(f"needs must be a list of capabilities, got {query.needs!r}") from error
        return Context(embedding, self.features(embedding), prompt_tokens, longest, needs, query.in_tool_loop)

    def many(self, texts: Sequence[str]) -> tuple[Matrix, Vector]:
        """Return the contexts, shape (n, k), and the lengths in tokens, shape (n,), of many texts.

        Raises
        ------
        QueryError
            If it is no list of texts, or one of them is empty.
        """
        listed: list[str] | None = None
        if not isinstance(texts, str | bytes):  # a text has texts in it: its characters
            with suppress(TypeError):
                listed = list(texts)
        if listed is None:
            raise QueryError(f"texts must be a list of texts, not {type(texts).__name__}; for one query give [text]")
        chunks = list(self.stream(listed))
        if not chunks:
            return np.empty((0, self.features.dimension)), np.empty(0)
        return np.concatenate([contexts for contexts, _ in chunks]), np.concatenate([count for _, count in chunks])

    def stream(self, texts: Sequence[str], *, progress: bool = False) -> Iterator[tuple[Matrix, Vector]]:
        """Encode and count texts in their order, about a thousand at a time: few embeddings are held at once.

        Parameters
        ----------
        texts : sequence of str
            n texts.
        progress : bool
            Show a progress bar.

        Yields
        ------
        tuple of arrays of shape (m, k) and (m,)
            Contexts phi and lengths in tokens of the next m texts.

        Raises
        ------
        QueryError
            If a text is empty; nothing is encoded then.
        """
        for row, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise QueryError(f"text {row} is empty; every query needs some text")
        batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
        encoded = iter(shown(map(self._batch, batches), "encoding queries", len(batches), progress))
        while chunk := list(islice(encoded, _BATCHES_IN_CHUNK)):
            embeddings = np.concatenate([vectors for vectors, _ in chunk])
            yield self.features(embeddings), np.concatenate([count for _, count in chunk])

    def _batch(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.floating], Vector]:
        texts = [whole(text) for text in texts]
        counts = np.array([self.encoder.count_tokens(text) for text in texts], dtype=np.float64)
        rows = zip(self.encoder.encode(texts), texts, strict=True)
        return np.stack([self._with_surface(embedding, text) for embedding, text in rows]), counts

    def _encoded(self, text: str | None) -> tuple[npt.NDArray[np.floating], int]:
        text = _checked_text(text)
        if text is None or not text.strip():
            raise QueryError("the query is empty: give some text, or an embedding by the router's own encoder")
        text = whole(text)
        name = hashlib.blake2b(text.encode(), digest_size=16).digest()
        with self._lock:
            if name in self._latest:
                self._latest.move_to_end(name)
                return self._latest[name]
        found = (self._with_surface(self.encoder.encode([text])[0], text), self.encoder.count_tokens(text))
        with self._lock:
            self._latest[name] = found
            if len(self._latest) > _CACHED_TEXTS:
                self._latest.popitem(last=False)
        return found

    def _given(self, query: Query) -> tuple[npt.NDArray[np.floating], int]:
        text = _checked_text(query.text)
        return self._with_surface(self._checked(query.embedding), text or None), 0

    def _with_surface(self, embedding: npt.NDArray[np.floating], text: str | None) -> npt.NDArray[np.floating]:
        if not self.config.surface:
            return embedding
        return np.concatenate([embedding, UNKNOWN if text is None else surface(text)])

    def _checked(self, given: npt.ArrayLike | None) -> Vector:
        try:
            embedding = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise QueryError(f"the embedding must be an array of numbers: {error}") from error
        if embedding.shape != (self.features.embedding_dimension,):
            expected = self.features.embedding_dimension
            raise QueryError(f"the embedding has shape {embedding.shape}, this router's encoder makes ({expected},)")
        with np.errstate(all="ignore"):
            square = float(embedding.dot(embedding))
        if not _LEAST_SQUARE < square < math.inf:  # of very large or very small numbers, or of none that can be used
            largest = float(np.abs(embedding).max())
            if not 0.0 < largest < math.inf:
                raise QueryError("the embedding must be finite and not all zero")
            embedding = embedding / largest
            square = float(embedding.dot(embedding))
        unit: Vector = embedding / math.sqrt(square)
        return unit


def _checked_text(given: Any) -> str | None:
    if given is not None and not isinstance(given, str):
        raise QueryError(f"a query's text is a str, not {type(given).__name__}")
    return given


def _tokens(given: Any, name: str) -> int:
    if type(given) is int and 0 <= given <= _MOST_TOKENS:
        return given
    if isinstance(given, bool) or not isinstance(given, int | float | np.number) or not 0 <= given <= _MOST_TOKENS:
        raise QueryError(f"{name}={given!r} must be a number of tokens, at least 0 and at most {_MOST_TOKENS}")
    return int(given)


def whole(text: str) -> str:
    """Put ``?`` for halves of characters, which remain where a text was cut by UTF-16 units: they can't be encoded."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
