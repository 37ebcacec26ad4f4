"""The mean quality of each candidate: a router that knows what queries cost, but not what they need."""

from __future__ import annotations

import numpy as np

from mixllm_engine.evaluation.rivals.base import Domains, Rows
from mixllm_engine.types import Matrix


class QueryBlind:
    """Expect of every candidate its mean, whatever is asked.

    With mean costs instead of the query's own, its curve is RouterBench's Zero router: the best mix of single LLMs.

    References
    ----------
    Hu et al. (2024), "RouterBench", arXiv 2403.12031.
    """

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Take the means."""
        self._mean = quality.mean(axis=0)

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        """Repeat them."""
        return np.tile(self._mean, (len(embeddings), 1))
