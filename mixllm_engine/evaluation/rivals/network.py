"""A multi-layer perceptron, one of RouterBench's routers."""

from __future__ import annotations

import warnings

import numpy as np

from mixllm_engine.evaluation.rivals.base import Domains, Rows, need_scikit_learn
from mixllm_engine.types import Matrix

_EPOCHS = 50
# On a few hundred queries a network without strong decay learns them by heart and loses to a query-blind mix.
_DECAY = 4.0


class Network:
    """One hidden layer of 100 ReLU units for all candidates, as in RouterBench's configuration (learning rate 1e-3).

    It is trained on differences to the candidates' means, with weight decay: both help it a lot against its published
    form.

    Parameters
    ----------
    seed : int
        Chance of the first weights and of the order of the queries.

    References
    ----------
    Hu et al. (2024), "RouterBench", arXiv 2403.12031.
    """

    def __init__(self, *, seed: int = 0) -> None:
        need_scikit_learn()
        self.seed = seed

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Train for a fixed number of epochs."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        self._mean = quality.mean(axis=0)
        self._network = MLPRegressor(
            hidden_layer_sizes=(100,),
            alpha=_DECAY,
            learning_rate_init=1e-3,
            max_iter=_EPOCHS,
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._network.fit(embeddings, quality - self._mean)

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        """Apply it."""
        differences = np.asarray(self._network.predict(embeddings), dtype=np.float64)
        predicted: Matrix = differences.reshape(len(embeddings), -1) + self._mean
        return predicted
