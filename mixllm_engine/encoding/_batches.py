"""Batches of texts of similar length: padding all to the longest of a random batch would double the work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sentence_transformers.base.sampler import DefaultBatchSampler

# A batch is drawn from this many batches' worth of texts, so that two epochs never see the same batches.
_POOLED_BATCHES = 25


class SimilarLengths(DefaultBatchSampler):
    """Shuffle the texts, sort them by length within pools of a few batches, and shuffle the batches."""

    def __init__(self, dataset: Any, batch_size: int, drop_last: bool, **settings: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **settings)
        self.lengths = np.array([len(text) for text in dataset["text"]])

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over the batches of one epoch, as lists of rows."""
        rng = np.random.default_rng((self.seed, self.epoch))
        rows = rng.permutation(len(self.lengths))
        batches: list[list[int]] = []
        pool = _POOLED_BATCHES * self.batch_size
        for start in range(0, len(rows), pool):
            some = rows[start : start + pool]
            some = some[np.argsort(self.lengths[some], kind="stable")]
            batches += [some[at : at + self.batch_size].tolist() for at in range(0, len(some), self.batch_size)]
        yield from (batches[index] for index in rng.permutation(len(batches)))

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return -(-len(self.lengths) // self.batch_size)
