"""An encoder that encodes each text once, in this run and in later ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.encoding.encoder import Embeddings, Encoder
from mixllm_engine.encoding.progress import shown

_BATCH = 64


class RememberedEncoder:
    """Remember what another encoder made of each text, so that many splits of a pool cost one encoding.

    Parameters
    ----------
    encoder : Encoder
        Who encodes what is not known yet.
    folder : path, optional
        Where `keep` writes and from where earlier runs are read, a file for each fingerprint. Digests of the texts are
        kept there, not the texts.
    """

    def __init__(self, encoder: Encoder, folder: str | PathLike[str] | None = None) -> None:
        self._encoder = encoder
        self._folder = None if folder is None else Path(folder)
        self._known: dict[bytes, tuple[npt.NDArray[np.float32], int]] = {}
        if self._file is not None and self._file.is_file():
            self._read(self._file)

    @property
    def fingerprint(self) -> str:
        """The encoder's own."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """Return the embeddings in the order of the texts, shape (n, d)."""
        keys = self._learn(texts)
        rows = [self._known[key][0] for key in keys]
        return np.stack(rows) if rows else np.empty((0, self.dimension), np.float32)

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text."""
        return self._known[self._learn([text])[0]][1]

    def remember(self, texts: Sequence[str], *, progress: bool = False) -> None:
        """Encode what is not known yet, and keep it."""
        new = [text for text in dict.fromkeys(texts) if _digest(text) not in self._known]
        batches = [new[start : start + _BATCH] for start in range(0, len(new), _BATCH)]
        for batch in shown(batches, "encoding queries", len(batches), progress):
            self._learn(batch)
        if new:
            self.keep()

    def keep(self) -> None:
        """Write all that is known to the folder, if there is one; another reader sees the old file or the new one."""
        if self._file is None or not self._known:
            return
        from safetensors.numpy import save_file

        self._file.parent.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, npt.NDArray[Any]] = {
            "digests": np.frombuffer(b"".join(self._known), dtype=np.uint8).reshape(len(self._known), -1),
            "embeddings": np.stack([embedding for embedding, _ in self._known.values()]),
            "tokens": np.array([tokens for _, tokens in self._known.values()], dtype=np.int64),
        }
        partial = self._file.with_suffix(f".{os.getpid()}.part")
        save_file(tensors, partial)
        partial.replace(self._file)

    @property
    def _file(self) -> Path | None:
        name = hashlib.sha256(self.fingerprint.encode()).hexdigest()[:16]
        return None if self._folder is None else self._folder / f"{name}.safetensors"

    def _read(self, file: Path) -> None:
        from safetensors.numpy import load_file

        kept = load_file(file)
        for digest, embedding, tokens in zip(kept["digests"], kept["embeddings"], kept["tokens"], strict=True):
            self._known[digest.tobytes()] = (embedding, int(tokens))

    def _learn(self, texts: Sequence[str]) -> list[bytes]:
        keys = [_digest(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            for (key, text), embedding in zip(new.items(), self._encoder.encode(list(new.values())), strict=True):
                self._known[key] = (np.asarray(embedding, dtype=np.float32), self._encoder.count_tokens(text))
        return keys


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
