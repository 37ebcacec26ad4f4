"""Embedding to context: phi(q) = [1, softmax(e . mu_j / T) over domains, principal components of e].

The first part lets every head learn its candidate's mean, the second knows coarse domains, the third finer shades.
The map is learned once for each encoder, without any label, from general prompts of our own. It measured about as
good as a map learned from the user's own prompts (figures in docs/paper.md), and since it never changes, all that was
ever learned stays comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mixllm_engine.config import FeatureConfig
from mixllm_engine.types import Matrix, Vector

if TYPE_CHECKING:
    from mixllm_engine.encoding.encoder import Encoder

_PACKAGED = Path(__file__).parent / "packaged"
_EMBEDDINGS = "general_prompts.safetensors"
_KMEANS_ROWS = 20_000
_KMEANS_ROUNDS = 30


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """The map phi.

    Parameters
    ----------
    mean : array of shape (d,)
        Mean embedding.
    components : array of shape (d, k)
        Orthonormal principal directions.
    centroids : array of shape (m, d)
        Unit domain centroids mu_j.
    temperature : float
        T of the posterior over domains.
    """

    mean: Vector
    components: Matrix
    centroids: Matrix
    temperature: float

    @property
    def dimension(self) -> int:
        """Length of a context vector."""
        return int(1 + self.centroids.shape[0] + self.components.shape[1])

    @property
    def input_dimension(self) -> int:
        """Length of an embedding."""
        return int(self.mean.shape[0])

    @cached_property
    def _directions(self) -> Matrix:
        """Centroids (over T) and components side by side, so that one product serves both, shape (d, m + k)."""
        return np.concatenate([self.centroids.T / self.temperature, self.components], axis=1)

    @cached_property
    def _origin(self) -> Vector:
        """What is subtracted: 1 / T, which keeps exp() from overflowing, and the projected mean."""
        domains = np.full(self.centroids.shape[0], 1.0 / self.temperature)
        return np.concatenate([domains, self.mean @ self.components])

    def __call__(self, embeddings: npt.NDArray[np.floating]) -> Matrix:
        """Map embeddings of shape (n, d) to contexts of shape (n, `dimension`)."""
        domains = self.centroids.shape[0]
        context = np.empty((embeddings.shape[0], self.dimension))
        context[:, 0] = 1.0
        context[:, 1:] = embeddings @ self._directions - self._origin
        if domains:
            weights = np.exp(context[:, 1 : domains + 1])  # a cosine is at most 1, so the exponent is at most 0
            context[:, 1 : domains + 1] = weights / weights.sum(axis=1, keepdims=True)
        return context

    @classmethod
    def fit(cls, embeddings: npt.NDArray[np.floating], config: FeatureConfig, *, seed: int = 0) -> FeatureMap:
        """Learn domains and components from embeddings of shape (n, d).

        With few rows there are fewer of both: at most n - 1 components, and three rows for each domain.
        """
        rows = np.asarray(embeddings, dtype=np.float64)
        mean = rows.mean(axis=0)
        centred = rows - mean
        count = min(config.components, max(len(rows) - 1, 0), rows.shape[1])
        # eigh sorts upwards; the sign of an eigenvector is arbitrary, so it is fixed to make refits comparable
        directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :count]
        directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(count)])
        domains = min(config.domains, len(rows) // 3)
        centroids = spherical_kmeans(rows, domains, seed) if domains else np.empty((0, rows.shape[1]))
        return cls(mean=mean, components=directions, centroids=centroids, temperature=config.temperature)

    @classmethod
    def general(cls, encoder: Encoder, config: FeatureConfig) -> FeatureMap:
        """Learn the map from general prompts, which the packaged encoder need not encode again."""
        return cls.fit(_general_embeddings(encoder), config)


@cache
def general_prompts() -> tuple[str, ...]:
    """Return our own short prompts over many domains; no benchmark's text is among them."""
    lines = (_PACKAGED / "general_prompts.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line.strip() and not line.startswith("#"))


def write_general_embeddings(encoder: Encoder, folder: Path) -> None:
    """Encode the general prompts once, for the encoder that a package carries."""
    from safetensors.numpy import save_file

    embeddings = encoder.encode(general_prompts()).astype(np.float16)
    save_file({"embeddings": embeddings}, folder / _EMBEDDINGS, metadata={"fingerprint": encoder.fingerprint})


def _general_embeddings(encoder: Encoder) -> npt.NDArray[np.floating]:
    from safetensors import safe_open

    with safe_open(_PACKAGED / _EMBEDDINGS, framework="np") as file:
        if file.metadata()["fingerprint"] == encoder.fingerprint:
            embeddings: npt.NDArray[np.floating] = file.get_tensor("embeddings").astype(np.float64)
            return embeddings
    return encoder.encode(general_prompts())


def spherical_kmeans(rows: Matrix, clusters: int, seed: int) -> Matrix:
    """Cluster unit vectors by cosine (Lloyd's algorithm, k-means++ seeding); returns unit centroids (m, d)."""
    rng = np.random.default_rng(seed)
    if len(rows) > _KMEANS_ROWS:
        rows = rows[rng.choice(len(rows), _KMEANS_ROWS, replace=False)]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-12)
    chosen = [int(rng.integers(len(rows)))]
    nearest = rows @ rows[chosen[0]]
    for _ in range(clusters - 1):  # k-means++: far from what is chosen, with probability by squared distance
        weight = np.clip(1.0 - nearest, 0.0, None) + 1e-12
        chosen.append(int(rng.choice(len(rows), p=weight / weight.sum())))
        nearest = np.maximum(nearest, rows @ rows[chosen[-1]])
    centroids = rows[chosen]
    for _ in range(_KMEANS_ROUNDS):
        member = (rows @ centroids.T).argmax(axis=1)
        sums = np.zeros_like(centroids)
        np.add.at(sums, member, rows)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        updated = np.where(norms > 1e-12, sums / np.maximum(norms, 1e-12), centroids)  # an empty cluster stays
        if np.allclose(updated, centroids, atol=1e-6):
            break
        centroids = updated
    return centroids
