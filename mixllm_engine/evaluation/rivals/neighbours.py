"""k nearest neighbours, RouterBench's and many others' router."""

from __future__ import annotations

import numpy as np

from mixllm_engine.evaluation.rivals.base import Domains, Rows
from mixllm_engine.types import Matrix

_BLOCK = 2000


class Neighbours:
    """Expect of every candidate its mean quality on the k queries that are nearest by cosine.

    Parameters
    ----------
    count : int
        k; at most as many as there are queries.

    References
    ----------
    Hu et al. (2024), "RouterBench", arXiv 2403.12031, with k of 5, 10 and 40.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Keep everything."""
        self._embeddings, self._quality = embeddings, quality

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        """Average over the neighbours."""
        count = min(self.count, len(self._embeddings))
        blocks = []
        for start in range(0, len(embeddings), _BLOCK):  # all distances at once may not fit into memory
            likeness = embeddings[start : start + _BLOCK] @ self._embeddings.T
            nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
            blocks.append(self._quality[nearest].mean(axis=1))
        return np.concatenate(blocks)
