"""Embedding to context: phi(q) = [1, posteriors over domains, principal components of e, surface of the text].

The first part lets every head learn its candidate's mean, the second knows coarse domains, the third finer shades, the
last what no embedding holds (`encoding.surface`). A posterior is softmax_j(e . mu_j / T_j + b_j). With tags, mu_j are
the centroids that L_intra (paper, equation 1) finds on the general prompts; without tags they are those of k-means,
with one T and no b.

The map is learned once for each encoder, from prompts of our own. It measured at least as good as a map learned from
the user's own prompts (figures in docs/paper.md), and since it never changes, all that was ever learned stays
comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

import numpy as np
import numpy.typing as npt

from mixllm_engine.config import FeatureConfig
from mixllm_engine.encoding.clustering import spherical_kmeans
from mixllm_engine.encoding.general_prompts import TaggedPrompts, few_prompts, general_domains, tagged_prompts
from mixllm_engine.encoding.softmax_regression import softmax_regression
from mixllm_engine.encoding.surface import SIZE
from mixllm_engine.errors import EncoderError
from mixllm_engine.types import Matrix, Vector

if TYPE_CHECKING:
    from mixllm_engine.encoding.encoder import Encoder

_PACKAGED = Path(__file__).parent / "packaged"
_FILE: Final = "general_map.safetensors"
_STORED_COMPONENTS: Final = 64
# The k-th component counts 3 / k^0.75: what is coarse is learned from little, what is fine only from much.
_FIRST: Final = 3.0
_FALL: Final = 0.75
_MOST: Final = 1e100  # in a map that is stored
_LEAST_EXPONENT: Final = -700.0  # exp() of less is 0, or nearly


class _Form(TypedDict):
    falling: bool
    behind: int


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """The map phi.

    Parameters
    ----------
    mean : array of shape (d,)
        Mean embedding.
    components : array of shape (d, k)
        Orthonormal principal directions.
    domains : array of shape (m, d)
        mu_j / T_j of each domain.
    bias : array of shape (m,)
        b_j.
    falling : bool
        Whether the k-th component counts 3 / k^0.75 times; else all count alike.
    behind : int
        How many numbers stand behind an embedding, and are taken over as they are: those of the text's surface.
    """

    mean: Vector
    components: Matrix
    domains: Matrix
    bias: Vector
    falling: bool = True
    behind: int = 0

    @property
    def dimension(self) -> int:
        """Length of a context vector."""
        return int(1 + self.domains.shape[0] + self.components.shape[1] + self.behind)

    @cached_property
    def embedding_dimension(self) -> int:
        """Length of an embedding alone."""
        return int(self.mean.shape[0])

    @cached_property
    def _scaled(self) -> Matrix:
        """The components as they count, shape (d, k)."""
        if not self.falling:
            return self.components
        return self.components * (_FIRST / np.arange(1, self.components.shape[1] + 1) ** _FALL)

    @cached_property
    def _directions(self) -> Matrix:
        """Nothing, the domains, the components and what stands behind side by side, so that one product serves all.

        The shape is (d + b, 1 + m + k + b). Nothing less -1 is the constant 1.
        """
        rows = np.concatenate([np.zeros((1, self.embedding_dimension)), self.domains, self._scaled.T])
        width, count = self.embedding_dimension, len(rows)
        beside = np.zeros((count + self.behind, width + self.behind))
        beside[:count, :width], beside[count:, width:] = rows, np.eye(self.behind)
        return beside.T  # each direction lies in one piece of memory

    @cached_property
    def _highest(self) -> float:
        """The highest exponent that an embedding of unit norm can have."""
        return float((self.bias + np.linalg.norm(self.domains, axis=1)).max(initial=0.0))

    @cached_property
    def _steep(self) -> bool:
        """Whether all exponents of an embedding can lie so far below the highest that exp() makes them 0."""
        largest_at_least = (self.bias - np.linalg.norm(self.domains, axis=1)).max(initial=-np.inf)
        return bool(largest_at_least - self._highest < _LEAST_EXPONENT)

    @cached_property
    def _origin(self) -> Vector:
        """What is subtracted: -1, the highest exponent, lest exp() overflows, and the projected mean."""
        return np.concatenate([[-1.0], self._highest - self.bias, self.mean @ self._scaled, np.zeros(self.behind)])

    @cached_property
    def _ones(self) -> Vector:
        return np.ones(len(self.domains))

    def __call__(self, embeddings: npt.NDArray[np.floating]) -> Matrix:
        """Map embeddings, with what stands behind them, to contexts.

        Parameters
        ----------
        embeddings : array of shape (d + b,) or (n, d + b)
            d is `embedding_dimension`, b is `behind`.

        Returns
        -------
        array of shape (`dimension`,) or (n, `dimension`)
            phi of each.
        """
        contexts: Matrix = embeddings.dot(self._directions) - self._origin
        if len(self.domains):
            shares = contexts.T[1 : len(self.domains) + 1]
            if self._steep:  # no map that was learned from text; a maximum costs more than all the rest
                shares -= shares.max(axis=0)
            np.exp(shares, out=shares)  # of at most 0
            shares /= self._ones.dot(shares)  # their sum, in a third of the time of `sum`
        return contexts

    @classmethod
    def fit(
        cls,
        embeddings: npt.NDArray[np.floating],
        config: FeatureConfig,
        *,
        labels: npt.NDArray[np.integer] | None = None,
        seed: int = 0,
    ) -> FeatureMap:
        """Learn domains and components from embeddings.

        Parameters
        ----------
        embeddings : array of shape (n, d)
            Alone, without the surface. With few rows there are fewer components, at most n - 1, and fewer clusters, one
            for three rows.
        config : FeatureConfig
            What the map is made of.
        labels : array of shape (n,), optional
            The domain of each row, from 0; without them domains are clusters.
        seed : int
            Of the clustering.
        """
        rows = np.asarray(embeddings, dtype=np.float64)
        mean = rows.mean(axis=0)
        centred = rows - mean
        count = min(config.components, max(len(rows) - 1, 0), rows.shape[1])
        # eigh sorts upwards; the sign of an eigenvector is arbitrary, so it is fixed to make refits comparable
        directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :count]
        directions = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(count)])
        domains, bias = _domains(rows, config, labels, seed)
        return cls(mean=mean, components=directions, domains=domains, bias=bias, **_form(config))

    @classmethod
    def general(cls, encoder: Encoder, config: FeatureConfig) -> FeatureMap:
        """Return the map that general prompts teach; for the packaged encoder it is stored, others encode a few."""
        key = (encoder.fingerprint, config)
        if key not in _KNOWN:
            stored = stored_map(_PACKAGED, encoder)
            fits = config.domains != "clusters" and config.components <= _STORED_COMPONENTS
            _KNOWN[key] = stored.reduced(config) if stored and fits else _learned(encoder, config, few_prompts())
        return _KNOWN[key]

    def reduced(self, config: FeatureConfig) -> FeatureMap:
        """Return the map with the parts that a configuration asks for."""
        kept = slice(None) if config.domains == "tags" else slice(0)
        return FeatureMap(
            mean=self.mean,
            components=self.components[:, : config.components],
            domains=self.domains[kept],
            bias=self.bias[kept],
            **_form(config),
        )


# A map belongs to a fingerprint: encoders of the same one are the same function.
_KNOWN: dict[tuple[str, FeatureConfig], FeatureMap] = {}


def write_general_map(encoder: Encoder, folder: Path) -> None:
    """Learn an encoder's map from all general prompts, and store it beside the encoder."""
    from safetensors.numpy import save

    made = _learned(encoder, FeatureConfig(components=_STORED_COMPONENTS), tagged_prompts())
    arrays = {"mean": made.mean, "components": made.components, "domains": made.domains, "bias": made.bias}
    contiguous = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    # save_file would make a file that nobody but its owner can read
    (folder / _FILE).write_bytes(save(contiguous, metadata={"fingerprint": encoder.fingerprint}))


def stored_map(folder: Path, encoder: Encoder) -> FeatureMap | None:
    """Return the map that `write_general_map` left in a folder, or None if it is another encoder's.

    Raises
    ------
    EncoderError
        If it is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / _FILE, framework="np") as file:
            if file.metadata()["fingerprint"] != encoder.fingerprint:
                return None
            arrays = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
        made = FeatureMap(**arrays)
        fits = made.components.shape[0] == made.embedding_dimension == made.domains.shape[1]
    except (OSError, SafetensorError, KeyError, TypeError, IndexError) as error:
        raise EncoderError(f"{_FILE} in {folder.name!r} is missing or damaged: {error!r}") from error
    usable = all((np.abs(array) < _MOST).all() for array in arrays.values())  # so that no product overflows
    if not fits or not usable or made.bias.shape != made.domains.shape[:1]:
        raise EncoderError(f"{_FILE} in {folder.name!r} holds arrays that don't fit; it is damaged")
    return made


def _form(config: FeatureConfig) -> _Form:
    return {"falling": config.weights == "falling", "behind": SIZE if config.surface else 0}


def _learned(encoder: Encoder, config: FeatureConfig, prompts: TaggedPrompts) -> FeatureMap:
    domains = general_domains()
    numbers = {name: number for number, name in enumerate(domains.names)}
    labels = np.array([numbers[str(domains.of([tag]))] for tag in prompts.tags])
    return FeatureMap.fit(encoder.encode(prompts.texts), config, labels=labels if config.domains == "tags" else None)


def _domains(
    rows: Matrix, config: FeatureConfig, labels: npt.NDArray[np.integer] | None, seed: int
) -> tuple[Matrix, Vector]:
    if labels is not None and config.domains == "tags":
        return softmax_regression(rows, labels)
    clusters = 0 if config.domains == "none" else min(config.clusters, len(rows) // 3)
    centroids = spherical_kmeans(rows, clusters, seed) if clusters else np.empty((0, rows.shape[1]))
    return centroids / config.temperature, np.zeros(len(centroids))
