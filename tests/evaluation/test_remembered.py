from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixllm_engine.encoding.encoder import Embeddings, Encoder
from mixllm_engine.evaluation.remembered import RememberedEncoder
from mixllm_engine.testing import HashingEncoder

TEXTS = ["one two", "three", "one two"]


class Counting(HashingEncoder):
    def __init__(self) -> None:
        super().__init__(16)
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> Embeddings:
        self.encoded += texts
        return super().encode(texts)


def test_each_text_is_encoded_once() -> None:
    inner = Counting()
    encoder = RememberedEncoder(inner)
    assert isinstance(encoder, Encoder)
    first = encoder.encode(TEXTS)
    assert (encoder.encode(TEXTS) == first).all()
    assert (first == HashingEncoder(16).encode(TEXTS)).all()
    assert encoder.count_tokens("one two") == 2
    assert inner.encoded == ["one two", "three"]
    assert encoder.encode([]).shape == (0, 16)
    assert (encoder.fingerprint, encoder.dimension) == (inner.fingerprint, 16)


def test_a_later_run_reads_what_was_kept_and_no_text_is_in_the_file(tmp_path: Path) -> None:
    RememberedEncoder(Counting(), tmp_path).remember(TEXTS)
    [file] = tmp_path.iterdir()
    assert b"three" not in file.read_bytes()
    inner = Counting()
    later = RememberedEncoder(inner, tmp_path)
    later.remember(TEXTS)
    assert np.array_equal(later.encode(TEXTS), HashingEncoder(16).encode(TEXTS))
    assert later.count_tokens("three") == 1
    assert inner.encoded == []


def test_another_encoder_has_a_file_of_its_own(tmp_path: Path) -> None:
    RememberedEncoder(HashingEncoder(16), tmp_path).remember(TEXTS)
    other = RememberedEncoder(HashingEncoder(8), tmp_path)
    assert other.encode(TEXTS).shape == (3, 8)
