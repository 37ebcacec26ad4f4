"""Batches of texts of similar length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from mixllm_engine.encoding._batches import SimilarLengths


def batches_of(lengths: list[int], size: int, *, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    sampler = SimilarLengths({"text": ["x" * length for length in lengths]}, size, False, seed=seed)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=150), st.integers(1, 9), st.integers(0, 99), st.integers(0, 3))
def test_every_row_comes_once_in_full_batches(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    found = batches_of(lengths, size, seed=seed, epoch=epoch)
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    assert sorted(map(len, found))[1:] == [size] * (len(found) - 1)  # but for one, which is the rest
    assert found == batches_of(lengths, size, seed=seed, epoch=epoch)


def test_epochs_and_seeds_differ() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, size=1000).tolist()
    first, next_epoch, other_seed = (
        {frozenset(batch) for batch in batches_of(lengths, 8, seed=seed, epoch=epoch)}
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    assert not first & next_epoch and not first & other_seed


def test_a_batch_needs_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 400, size=1000)
    longest = sum(lengths[batch].max() * len(batch) for batch in batches_of(lengths.tolist(), 8))
    assert longest < 1.1 * lengths.sum()  # of random batches 1.7
