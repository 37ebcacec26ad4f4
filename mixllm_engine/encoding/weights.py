"""Where an encoder's files come from, and the check that they are the ones that were meant."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixllm_engine.errors import EncoderError
from mixllm_engine.loading import read_file

_MOST_BYTES = 2**31  # an ONNX graph with its weights in one file can't be larger: protobuf's limit
_PACKAGED = Path(__file__).parent / "packaged"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A model, its tokenizer, and the sha256 of both.

    Parameters
    ----------
    folder : Path
        Holds ``model.onnx`` and ``tokenizer.json``.
    model_sha256, tokenizer_sha256 : str
        What the files must hash to.
    """

    folder: Path
    model_sha256: str
    tokenizer_sha256: str

    @classmethod
    def packaged(cls) -> Weights:
        """Return the weights that this package carries: the packaged MiniLM, trained on tags."""
        return _packaged()

    @classmethod
    def from_folder(cls, folder: str | Path) -> Weights:
        """Take the files of a folder as they are now, and hold them to that."""
        folder = Path(folder)
        return cls(
            folder=folder,
            model_sha256=_sha256(_read(folder / "model.onnx")),
            tokenizer_sha256=_sha256(_read(folder / "tokenizer.json")),
        )

    @classmethod
    def from_hub(cls, repository: str, *, revision: str = "main") -> Weights:
        """Take the files of a hub repository: from the local cache, else downloaded once.

        Raises
        ------
        EncoderError
            If they are neither in the cache nor to be had.
        """
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        files = ["model.onnx", "tokenizer.json"]
        try:
            folder = snapshot_download(repository, revision=revision, allow_patterns=files)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise EncoderError(
                f"{repository!r} (revision {revision!r}) is neither in the hub's cache nor to be downloaded: {error}; "
                "OnnxEncoder() serves the packaged encoder without any network"
            ) from error
        return cls.from_folder(folder)

    def model(self) -> bytes:
        """Return the checked bytes of the ONNX graph."""
        return self._checked("model.onnx", self.model_sha256)

    def tokenizer(self) -> bytes:
        """Return the checked bytes of the tokenizer."""
        return self._checked("tokenizer.json", self.tokenizer_sha256)

    def _checked(self, name: str, expected: str) -> bytes:
        data = _read(self.folder / name)
        actual = _sha256(data)
        if actual != expected:
            raise EncoderError(
                f"{name} has sha256 {actual}, but {expected} is pinned: the file is damaged or was replaced; "
                "install the package again, or name the folder that you mean with OnnxEncoder.from_folder"
            )
        return data


@cache
def _packaged() -> Weights:
    pins = json.loads(_read(_PACKAGED / "manifest.json"))["sha256"]
    return Weights(folder=_PACKAGED, model_sha256=pins["model.onnx"], tokenizer_sha256=pins["tokenizer.json"])


def _read(path: Path) -> bytes:
    try:
        return read_file(path, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise EncoderError(f"the encoder's file {path.name} can't be read: {error.strerror}") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
