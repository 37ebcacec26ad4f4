"""Learned state <-> bytes and folders: safetensors with a JSON manifest, checked on load, replaced atomically.

Nothing is ever unpickled. The manifest travels in the header of the safetensors file, so one file is one state.
What would not be read is not written either: a state that was good stays where a damaged one would replace it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import StateError
from mixllm_engine.loading import read_file
from mixllm_engine.store.files import replacing, sync_folder

FORMAT: Final = "mixllm-state"
VERSION: Final = 1
FILE: Final = "state.safetensors"

# What SQLite takes as one value. With the usual features that is some ten thousand candidates.
_MOST_BYTES: Final = 10**9
# JSON takes many times its length in memory.
_MOST_HEADER_BYTES: Final = 16 * 2**20
# Beyond this doubles no longer count by ones, and products of them soon overflow: no sum over labels gets there.
_LARGEST: Final = 1e15

Tensors = Mapping[str, npt.NDArray[np.float64]]


def encode(manifest: Mapping[str, Any], tensors: Tensors) -> bytes:
    """Return a state as bytes, or raise `StateError` if `decode` would not take them."""
    from safetensors import SafetensorError
    from safetensors.numpy import save

    header = {"format": FORMAT, "version": VERSION, **manifest}
    arrays = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in tensors.items()}
    _check_numbers(arrays)
    try:
        data = save(arrays, metadata={"manifest": json.dumps(header, sort_keys=True, allow_nan=False)})
    except (SafetensorError, TypeError, ValueError, RecursionError) as error:
        raise StateError(
            f"the state can't be saved: {error}; names and params of candidates must be plain text, numbers, lists and "
            "mappings"
        ) from error
    _check_size(data)
    return data


def decode(data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.float64]]]:
    """Return manifest and arrays, or raise `StateError` if the bytes are damaged, foreign or of another version."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    _check_size(data)
    try:
        header = _parsed(data[8 : 8 + _header_bytes(data)])
        manifest = _parsed(header["__metadata__"]["manifest"])
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateError(f"this is not a MixLLM state, or it is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StateError("this safetensors file holds something else than a MixLLM state")
    if manifest.get("version") != VERSION:
        raise StateError(f"the state has version {manifest.get('version')!r}, this MixLLM reads version {VERSION}")
    _check_numbers(tensors)
    return manifest, tensors


def write(folder: str | os.PathLike[str], data: bytes) -> None:
    """Replace the state in a folder: the old one stays until the new one is on disk.

    The folder may be a link to another; a file that is a link is replaced, and what it led to stays as it was.

    Raises
    ------
    StateError
        If it can't be written; the old one is still there.
    """
    target = Path(folder)
    try:
        missing = [each for each in (target, *target.parents) if not each.exists()]
        target.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)
        with replacing(target / FILE) as file:
            file.write(data)
    except (OSError, ValueError) as error:  # the latter for a path with a NUL in it
        why = error.strerror if isinstance(error, OSError) else error
        raise StateError(f"the state can't be written to {str(folder)!r}: {why}") from error


def read(folder: str | os.PathLike[str]) -> bytes:
    """Return the state in a folder, or raise `StateError` if there is none, or what is there can't be one."""
    try:
        return read_file(Path(folder) / FILE, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise StateError(f"no state in {str(folder)!r}: {FILE} can't be read ({error.strerror})") from error


def _check_size(data: bytes) -> None:
    header = _header_bytes(data)
    if len(data) > _MOST_BYTES or header > _MOST_HEADER_BYTES:
        raise StateError(
            f"a state has at most {_MOST_BYTES} bytes and a header of {_MOST_HEADER_BYTES}, this one has {len(data)} "
            f"and {header}: it is damaged or no MixLLM state, or its pool is too large"
        )


def _header_bytes(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _check_numbers(arrays: Tensors) -> None:
    for name, array in arrays.items():
        if array.dtype != np.float64 or not (np.abs(array) <= _LARGEST).all():
            raise StateError(f"array {name!r} of the state is not float64, finite and within {_LARGEST:g}: damaged")


def _parsed(text: bytes | str) -> Any:
    """Parse JSON, or raise `ValueError`, also for numbers that are not finite, which JSON does not have."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text} is not finite")
    return number
