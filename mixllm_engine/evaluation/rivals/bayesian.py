"""Bayesian ridge regression, whose shrinkage follows from the evidence."""

from __future__ import annotations

import numpy as np

from mixllm_engine.evaluation.rivals.base import Domains, Rows, need_scikit_learn
from mixllm_engine.types import Matrix


class BayesianRidge:
    """scikit-learn's `BayesianRidge` on the whole embedding, one for each candidate."""

    def __init__(self) -> None:
        need_scikit_learn()

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Fit each candidate."""
        from sklearn.linear_model import BayesianRidge as OneTarget

        rows = embeddings.astype(np.float64)
        self._models = [OneTarget().fit(rows, column) for column in quality.T]

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        """Take the posterior means."""
        rows = embeddings.astype(np.float64)
        return np.stack([model.predict(rows) for model in self._models], axis=1)
