"""Saved files that are damaged, disguised, endless or none are refused, soon and in little memory."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as save_tensors

from mixllm_engine import EncoderError, Router, StateError
from mixllm_engine.encoding.features import stored_map
from mixllm_engine.loading import read_file
from mixllm_engine.store import snapshot
from mixllm_engine.testing import HashingEncoder
from tests.engine.safe_files.states import FILE, load, put


def raw(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class Command:
    """What a pickle would run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_disguise_is_refused_and_never_run(tmp_path: Path) -> None:
    bad = pickle.dumps(Command(tmp_path / "ran"))
    disguised = [bad, raw(bad), raw({"__metadata__": {"manifest": bad.decode("latin-1")}}), b"PK\x03\x04" + bad]
    entry = {"dtype": "F64", "shape": [len(bad) // 8], "data_offsets": [0, len(bad) // 8 * 8]}
    disguised.append(raw({"quality/cheap/gram": entry}, bad))
    for data in disguised:
        with pytest.raises(StateError, match="not? (a )?MixLLM state|something else"):
            load(put(tmp_path, data))
    assert not (tmp_path / "ran").exists()


def metadata(manifest: str) -> dict[str, Any]:
    return {"__metadata__": {"manifest": manifest}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 8,
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 99 * 2**20) + b"{}",
        raw({"a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]}}),
        raw({"a": {"dtype": "F64", "shape": [2**62, 4], "data_offsets": [0, 8]}}, b"\0" * 8),
        raw({**metadata("{}"), "a": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 8]}}, b"\0" * 8),
        raw({"a": {"dtype": "F64", "shape": [1], "data_offsets": [-8, 0]}}),
        raw({"a": {"dtype": "F64", "shape": [0] * 100_000, "data_offsets": [0, 0]}}),
        raw(b"[" * 100_000),
        raw(metadata("[" * 100_000)),
        raw(metadata("9" * 100_000)),
        raw(metadata('{"format": "mixllm-state", "version": 1e999}')),
        raw({"__metadata__": 5}),
        raw({"__metadata__": {"manifest": 5}}),
        raw([]),
    ],
    ids=range(17),
)
def test_headers_that_lie_are_refused_in_little_memory(data: bytes, tmp_path: Path) -> None:
    put(tmp_path, data)
    tracemalloc.start()
    try:
        with pytest.raises(StateError, match="state"):
            load(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_a_state_that_was_cut_anywhere_is_refused(whole: bytes, tmp_path: Path) -> None:
    for length in range(0, len(whole), 997):
        with pytest.raises(StateError, match="not a MixLLM state"):
            load(put(tmp_path, whole[:length]))
    with pytest.raises(StateError, match="not a MixLLM state"):
        load(put(tmp_path, whole + b"more"))


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.truncate(3 * 10**9)  # a hole: it takes no place on the disk
    tracemalloc.start()
    try:
        with pytest.raises(StateError, match="3000000000 bytes, more than the 1000000000 that are allowed"):
            load(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(StateError, match="is no regular file"):
        load(tmp_path)
    (tmp_path / "endless").mkdir()
    (tmp_path / "endless" / FILE).symlink_to("/dev/zero")
    with pytest.raises(StateError, match="is no regular file"):
        load(tmp_path / "endless")
    (tmp_path / "folder" / FILE).mkdir(parents=True)
    with pytest.raises(StateError, match="no regular file|directory"):
        load(tmp_path / "folder")


def test_names_that_no_system_has_are_one_clear_error(whole: bytes) -> None:
    with pytest.raises(StateError, match="null"):
        Router.load("a\0b")
    with pytest.raises(StateError, match="null"):
        snapshot.write("a\0b", whole)
    with pytest.raises(OSError, match="null"):
        read_file("a\0b", most_bytes=1)


def test_a_damaged_feature_map_is_refused(tmp_path: Path) -> None:
    encoder, path = HashingEncoder(8), tmp_path / "general_map.safetensors"
    arrays = {"mean": np.zeros(8), "components": np.zeros((8, 2)), "domains": np.zeros((3, 8)), "bias": np.zeros(3)}

    def store(**other: Any) -> None:
        path.write_bytes(save_tensors({**arrays, **other}, metadata={"fingerprint": encoder.fingerprint}))

    store()
    found = stored_map(tmp_path, encoder)
    assert found is not None and found.dimension == 6
    huge = np.full((3, 8), 1e160)
    for other in (
        {"bias": np.zeros(4)},
        {"mean": np.full(8, np.nan)},
        {"components": np.zeros((7, 2))},
        {"domains": huge},
    ):
        store(**other)
        with pytest.raises(EncoderError, match="arrays that don't fit"):
            stored_map(tmp_path, encoder)
    store(more=np.zeros(1))
    with pytest.raises(EncoderError, match="missing or damaged"):
        stored_map(tmp_path, encoder)
    for data in (b"", pickle.dumps(arrays), save_tensors(arrays)):
        path.write_bytes(data)
        with pytest.raises(EncoderError, match="missing or damaged"):
            stored_map(tmp_path, encoder)
    path.unlink()
    with pytest.raises(EncoderError, match="missing or damaged"):
        stored_map(tmp_path, encoder)
