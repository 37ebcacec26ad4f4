"""The protocol that every rival follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mixllm_engine.types import Matrix

Rows = npt.NDArray[np.floating]
Domains = Sequence[str] | None


class Rival(Protocol):
    """Predicts the quality of every candidate for queries that it has not seen."""

    def fit(self, embeddings: Rows, quality: Matrix, domains: Domains) -> None:
        """Learn from embeddings of shape (n, d), qualities of shape (n, K), and the true domains where known."""
        ...

    def predict(self, embeddings: Rows, domains: Domains) -> Matrix:
        """Return the expected quality, shape (m, K), of queries with embeddings of shape (m, d)."""
        ...


def need_scikit_learn() -> None:
    """Say how to install scikit-learn, in an `ImportError`, where it is missing."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError('this rival needs scikit-learn: pip install "mixllm[evaluate]"') from error
