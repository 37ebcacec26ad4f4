"""Linear support vector regression, one of RouterBench's routers."""

from __future__ import annotations

import numpy as np

from mixllm_engine.evaluation.rivals.base import Domains, Rows, need_scikit_learn
from mixllm_engine.types import Matrix

# A grade this near counts as met.
_TOLERANCE = 0.1
# scikit-learn's C = 1, which RouterBench keeps, learns a few hundred queries by heart.
_TRUST = 0.03


class SupportVectors:
    """scikit-learn's `LinearSVR` on the whole embedding, one for each candidate.

    RouterBench's loss is the absolute one, with C = 1. It aims at the median, which is 0 or 1 for grades that are 0 or
    1 and tells nothing in between; here it is the squared one, which aims at the mean, with more regularisation. Both
    help it a lot, and bring it near to ridge regression.

    References
    ----------
    Hu et al. (2024), "RouterBench", arXiv 2403.12031.
    """

    def __init__(self) -> None:
        need_scikit_learn()

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Fit each candidate."""
        from sklearn.svm import LinearSVR

        rows = embeddings.astype(np.float64)
        self._models = [
            LinearSVR(epsilon=_TOLERANCE, C=_TRUST, loss="squared_epsilon_insensitive", dual=False).fit(rows, column)
            for column in quality.T
        ]

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        """Apply the weights."""
        rows = embeddings.astype(np.float64)
        return np.stack([model.predict(rows) for model in self._models], axis=1)
