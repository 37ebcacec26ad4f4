"""Random forest, the paper's own quality predictor."""

from __future__ import annotations

import numpy as np

from mixllm_engine.evaluation.rivals.base import Domains, Rows, need_scikit_learn
from mixllm_engine.types import Matrix


class Forest:
    """One forest for all candidates; the paper has one for each, and names no sizes.

    Parameters
    ----------
    seed : int
        Chance of the trees.

    References
    ----------
    Wang et al. (2025), "MixLLM", arXiv 2502.18482; Liu et al. (2024), "OptLLM", arXiv 2405.15130.
    """

    def __init__(self, *, seed: int = 0) -> None:
        need_scikit_learn()
        self.seed = seed

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Grow the trees; leaves of at least five queries, since single ones would be learned by heart."""
        from sklearn.ensemble import RandomForestRegressor

        self._forest = RandomForestRegressor(
            n_estimators=100, min_samples_leaf=5, max_features="sqrt", random_state=self.seed
        )
        self._forest.fit(embeddings, quality)

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        """Average over the trees."""
        predicted: Matrix = np.asarray(self._forest.predict(embeddings), dtype=np.float64)
        return predicted.reshape(len(embeddings), -1)
