"""Learned state <-> bytes and folders: safetensors with a JSON manifest, checked on load, replaced atomically.

Nothing is ever unpickled. The manifest travels in the header of the safetensors file, so one file is one state.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import StateError
from mixllm_engine.store.files import replacing

FORMAT = "mixllm-state"
VERSION = 1
FILE = "state.safetensors"

Tensors = Mapping[str, npt.NDArray[np.float64]]


def encode(manifest: Mapping[str, Any], tensors: Tensors) -> bytes:
    """Return a state as bytes."""
    from safetensors.numpy import save

    header = {"format": FORMAT, "version": VERSION, **manifest}
    arrays = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in tensors.items()}
    return save(arrays, metadata={"manifest": json.dumps(header, sort_keys=True)})


def decode(data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.float64]]]:
    """Return manifest and arrays, or raise `StateError` if the bytes are damaged, foreign or of another version."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        manifest = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["manifest"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"this is not a MixLLM state, or it is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StateError("this safetensors file holds something else than a MixLLM state")
    if manifest.get("version") != VERSION:
        raise StateError(f"the state has version {manifest.get('version')!r}, this MixLLM reads version {VERSION}")
    for name, array in tensors.items():
        if array.dtype != np.float64 or not np.isfinite(array).all():
            raise StateError(f"array {name!r} of the state is not finite float64; the state is damaged")
    return manifest, tensors


def write(folder: str | os.PathLike[str], data: bytes) -> None:
    """Replace the state in a folder: the old one stays until the new one is on disk."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with replacing(target / FILE) as file:
        file.write(data)


def read(folder: str | os.PathLike[str]) -> bytes:
    """Return the state in a folder, or raise `StateError` if there is none."""
    path = Path(folder) / FILE
    try:
        return path.read_bytes()
    except OSError as error:
        raise StateError(f"no state in {str(folder)!r}: {FILE} can't be read ({error.strerror})") from error
