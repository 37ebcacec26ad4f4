"""Ridge regression on the whole embedding."""

from __future__ import annotations

import numpy as np

from mixllm_engine.evaluation.rivals.base import Domains, Rows
from mixllm_engine.types import Matrix


class Ridge:
    """Linear in the embedding, shrunk to each candidate's mean.

    Parameters
    ----------
    penalty : float
        Precision of the prior on every weight but the intercept.

    References
    ----------
    CARROT (arXiv 2502.03261) is such a plug-in: predict quality and cost, then take the best trade-off.
    """

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Solve the normal equations of the centred data."""
        rows = embeddings.astype(np.float64)
        self._centre, self._mean = rows.mean(axis=0), quality.mean(axis=0)
        centred = rows - self._centre
        gram = centred.T @ centred + self.penalty * np.eye(rows.shape[1])
        self._weights = np.linalg.solve(gram, centred.T @ (quality - self._mean))

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        """Apply the weights."""
        predicted: Matrix = (embeddings - self._centre) @ self._weights + self._mean
        return predicted
