"""Folders of encoders, and the feature maps beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors

from mixllm_engine import EncoderError
from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.encoding.features import stored_map
from mixllm_engine.encoding.weights import Weights
from mixllm_engine.testing import HashingEncoder
from tests.engine.fuzz.drawing import JSON, damaged, somewhere
from tests.engine.fuzz.routers import Property, only_ours

TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "what": 1}, "unk_token": "[UNK]"},
}


def encoder_targets(folder: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    beginning = (Weights.packaged().folder / "model.onnx").read_bytes()[:3000]
    encoder = HashingEncoder(8)
    arrays = {"mean": np.zeros(8), "components": np.eye(8)[:, :2], "domains": np.ones((3, 8)), "bias": np.zeros(3)}
    maps = save_tensors(arrays, metadata={"fingerprint": encoder.fingerprint})

    @st.composite
    def folders(draw: st.DrawFn) -> tuple[bytes, bytes]:
        tokenizer = json.dumps(somewhere(draw, TOKENIZER, JSON)).encode()
        return draw(st.binary(max_size=100) | damaged(beginning)), draw(st.binary(max_size=50) | st.just(tokenizer))

    def folder_of_an_encoder(files: tuple[bytes, bytes]) -> None:
        for name, data in zip(("model.onnx", "tokenizer.json"), files, strict=True):
            (folder / name).write_bytes(data)
        made = OnnxEncoder.from_folder(folder)
        with only_ours():
            made.count_tokens("What is it?")
        with pytest.raises(EncoderError):  # no such bytes are a whole model
            made.encode(["What is it?"])

    def feature_map(data: bytes) -> None:
        (folder / "general_map.safetensors").write_bytes(data)
        with only_ours():
            found = stored_map(folder, encoder)
            assert found is None or found(np.ones(8)).shape == (found.dimension,)

    return {
        "encoders": (folders(), folder_of_an_encoder),
        "feature maps": (damaged(maps) | st.binary(max_size=100), feature_map),
    }
