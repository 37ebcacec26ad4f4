"""Spherical k-means: groups of unit vectors by cosine."""

from __future__ import annotations

from typing import Final

import numpy as np

from mixllm_engine.types import Matrix

_MOST_ROWS: Final = 20_000
_ROUNDS: Final = 30


def spherical_kmeans(rows: Matrix, clusters: int, seed: int) -> Matrix:
    """Cluster unit vectors by cosine (Lloyd's algorithm, k-means++ seeding); returns unit centroids (m, d)."""
    rng = np.random.default_rng(seed)
    if len(rows) > _MOST_ROWS:
        rows = rows[rng.choice(len(rows), _MOST_ROWS, replace=False)]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-12)
    chosen = [int(rng.integers(len(rows)))]
    nearest = rows @ rows[chosen[0]]
    for _ in range(clusters - 1):  # k-means++: far from what is chosen, with probability by squared distance
        weight = np.clip(1.0 - nearest, 0.0, None) + 1e-12
        chosen.append(int(rng.choice(len(rows), p=weight / weight.sum())))
        nearest = np.maximum(nearest, rows @ rows[chosen[-1]])
    centroids = rows[chosen]
    for _ in range(_ROUNDS):
        member = (rows @ centroids.T).argmax(axis=1)
        sums = np.zeros_like(centroids)
        np.add.at(sums, member, rows)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        updated = np.where(norms > 1e-12, sums / np.maximum(norms, 1e-12), centroids)  # an empty cluster stays
        if np.allclose(updated, centroids, atol=1e-6):
            break
        centroids = updated
    return centroids
