"""Costs predicted from the query alone: what a router would do that knows neither prices nor lengths."""

from __future__ import annotations

import numpy as np

from mixllm_engine.evaluation.rivals.base import Rows
from mixllm_engine.evaluation.rivals.ridge import Ridge
from mixllm_engine.types import Matrix

_PENALTY = 10.0
_LEAST_USD = 1e-9


class LogCost:
    """Ridge regression of log cost on the whole embedding, and the mean of the log-normal that it implies."""

    def fit(self, embeddings: Rows, cost_usd: Matrix) -> None:
        """Learn from embeddings of shape (n, d) and recorded costs of shape (n, K)."""
        self._ridge = Ridge(_PENALTY)
        logs = np.log(cost_usd + _LEAST_USD)
        self._ridge.fit(embeddings, logs, None)
        self._half_variance = (logs - self._ridge.predict(embeddings, None)).var(axis=0) / 2.0

    def predict(self, embeddings: Rows) -> Matrix:
        """Return expected costs in dollars, shape (m, K)."""
        expected: Matrix = np.exp(self._ridge.predict(embeddings, None) + self._half_variance)
        return expected
