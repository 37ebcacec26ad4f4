"""Text to embedding: the protocol that every encoder follows, and the one that serves the packaged ONNX model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mixllm_engine.encoding.weights import Weights
from mixllm_engine.errors import EncoderError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

Embeddings = npt.NDArray[np.float32]

# To read a text of megabytes for the sake of its first tokens would take seconds, and anybody can send one.
_CHARACTERS_READ: Final = 50_000
_MANY: Final = 8  # below it, threads are not worth being started


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns text into unit vectors; the router needs no more than this."""

    @property
    def fingerprint(self) -> str:
        """Identify the vector space: what was learned with one fingerprint is never used with another."""
        ...

    @property
    def dimension(self) -> int:
        """Length d of an embedding."""
        ...

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return the L2-normalised embeddings, shape (n, d)."""
        ...

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text; the estimate of what a provider will bill."""
        ...


class OnnxEncoder:
    """A sentence encoder served by onnxruntime, without torch.

    Pooling and normalisation are inside the graph (inputs ``input_ids`` and ``attention_mask``, output
    ``embedding``). Files are read on first use, which takes about a tenth of a second.

    Parameters
    ----------
    weights : Weights, optional
        Where the model and its tokenizer lie and what their sha256 must be; by default the packaged MiniLM,
        trained on tags (`mixllm_engine.encoding.weights.Weights.packaged`).
    max_tokens : int
        Longer texts are cut; what a person asks stands at the front.
    threads : int
        Threads for one text. One is best for a server that routes many queries at once.

    Raises
    ------
    EncoderError
        On first use, if a file is missing, not the pinned one, damaged, or of something else than an encoder.

    Examples
    --------
    >>> encoder = OnnxEncoder()
    >>> vectors = encoder.encode(["What is 2 + 2?", "Add two and two."])
    >>> vectors.shape, bool(vectors[0] @ vectors[1] > 0.5)
    ((2, 384), True)
    """

    def __init__(self, weights: Weights | None = None, *, max_tokens: int = 128, threads: int = 1) -> None:
        self.weights = weights or Weights.packaged()
        self.max_tokens = max_tokens
        self.threads = threads
        self._lock = threading.Lock()

    @classmethod
    def from_hub(cls, repository: str, *, revision: str = "main", max_tokens: int = 128) -> OnnxEncoder:
        """Serve an ONNX encoder of the Hugging Face hub, from its cache or downloaded once.

        The repository must hold ``model.onnx`` and ``tokenizer.json`` in the form described above, as
        `mixllm_engine.encoding.export.export_onnx` writes them.
        """
        return cls(Weights.from_hub(repository, revision=revision), max_tokens=max_tokens)

    @classmethod
    def from_folder(cls, folder: str | Path, *, max_tokens: int = 128) -> OnnxEncoder:
        """Serve ``model.onnx`` and ``tokenizer.json`` of a folder."""
        return cls(Weights.from_folder(folder), max_tokens=max_tokens)

    @property
    def fingerprint(self) -> str:
        """sha256 of the model, and the length at which texts are cut."""
        return f"{self.weights.model_sha256[:32]}-{self.max_tokens}"

    @cached_property
    def dimension(self) -> int:
        """Length of an embedding, as the graph declares it."""
        return int(self._session.get_outputs()[0].shape[-1])

    @cached_property
    def _session(self) -> InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # A spinning thread pool would burn the other core between queries.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = self.weights.model()
        with self._failing("model.onnx can't be loaded"):
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        taken, made = {each.name for each in session.get_inputs()}, session.get_outputs()[0].shape
        if taken != {"input_ids", "attention_mask"} or len(made) != 2 or not isinstance(made[-1], int):
            raise EncoderError(
                f"model.onnx in {self.weights.folder.name!r} takes {sorted(taken)} and makes shape {made}; an encoder "
                "takes input_ids and attention_mask and makes one embedding of a fixed length for each text"
            )
        return session

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        data = self.weights.tokenizer()
        with self._failing("tokenizer.json can't be loaded"):
            tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return the embeddings in the order of the texts, shape (n, d), unit norm.

        Texts are encoded one by one: in int8 the activations share one scale, so that in a batch the neighbours of a
        text would change its embedding (measured: down to a cosine of 0.98), and no batch is faster on a processor.
        Many texts are spread over all processors.
        """
        with self._lock:  # two threads must not both load; the loaded objects are thread-safe
            tokenizer, session = self._tokenizer, self._session

        def embedding(encoding: Encoding) -> Embeddings:
            ids = np.array([self._cut(encoding.ids)], dtype=np.int64)
            made: Embeddings = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]
            return made

        with self._failing("a text can't be encoded"):
            encodings = tokenizer.encode_batch([text[:_CHARACTERS_READ] for text in texts])
            rows = _side_by_side(embedding, encodings) if len(texts) >= _MANY else map(embedding, encodings)
            return np.array(list(rows), dtype=np.float32).reshape(len(texts), self.dimension)

    def count_tokens(self, text: str) -> int:
        """Count word pieces, without the two marks of a sentence; a very long text goes on as it begins."""
        tokenizer, read = self._tokenizer, text[:_CHARACTERS_READ]
        with self._failing("the tokens of a text can't be counted"):
            counted = len(tokenizer.encode(read, add_special_tokens=False).ids)
        return counted if len(read) == len(text) else round(counted * len(text) / len(read))

    @contextmanager
    def _failing(self, how: str) -> Iterator[None]:
        """Turn errors over foreign files into ours; neither onnxruntime's nor tokenizers' have a base of their own."""
        try:
            yield
        except Exception as error:
            raise EncoderError(f"{how}, with the encoder in {self.weights.folder.name!r}: {error}") from error

    def _cut(self, ids: list[int]) -> list[int]:
        """Keep the first tokens and the closing mark."""
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]

    def __getstate__(self) -> dict[str, Any]:
        """Copy the settings; sessions and locks are made anew."""
        return {"weights": self.weights, "max_tokens": self.max_tokens, "threads": self.threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from the settings."""
        self.__dict__.update(state, _lock=threading.Lock())


def _side_by_side(make: Callable[[Encoding], Embeddings], encodings: Sequence[Encoding]) -> Iterator[Embeddings]:
    """Compute on all processors, in the order of the texts: an ONNX session computes outside Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(make, encodings)
