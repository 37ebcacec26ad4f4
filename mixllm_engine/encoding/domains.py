"""Tags -> domains: many fine tags are grouped into a few coarse fields, such as "law" or "computer science".

The paper groups its tags into 20 domains by hand. Here spherical k-means of the tags' embeddings proposes the groups,
and a person improves them in a small file: one line for each domain, with its tags.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.candidates import is_plain
from mixllm_engine.encoding._tag_names import Tags, by_frequency, tag_counts
from mixllm_engine.encoding.clustering import spherical_kmeans
from mixllm_engine.encoding.encoder import Encoder
from mixllm_engine.errors import ConfigError, TableError
from mixllm_engine.loading import read_file
from mixllm_engine.types import Matrix, Vector

_NUMBERS = (2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32)
_SILHOUETTE_ROWS = 2000
_RUNS = 10
_MOST_BYTES = 64 * 2**20  # a person edits the file


@dataclass(frozen=True, kw_only=True)
class Domains:
    """Which tags belong to which domain.

    Parameters
    ----------
    tags : dict of str to tuple of str
        The tags of each domain, by its name.

    Examples
    --------
    >>> domains = Domains(tags={"mathematics": ("algebra", "proof"), "law": ("contracts",)})
    >>> domains.of(["contracts", "proof", "algebra"]), domains.of(["weather"])
    ('mathematics', None)
    """

    tags: dict[str, Tags]

    def __post_init__(self) -> None:
        """Refuse a tag that stands in two domains, and empty names."""
        for domain, tags in self.tags.items():
            if not domain.strip() or not tags or not all(tag.strip() for tag in tags):
                raise ConfigError(f"domain {domain!r} needs a name and at least one tag, and no tag may be empty")
            if not all(map(is_plain, (domain, *tags))):
                raise ConfigError(f"domain {domain!r} or one of its tags holds NUL or half a character")
        places = Counter(tag for tags in self.tags.values() for tag in tags)
        twice = sorted(tag for tag, count in places.items() if count > 1)
        if twice:
            homes = [domain for domain, tags in self.tags.items() if twice[0] in tags]
            raise ConfigError(f"tag {twice[0]!r} stands twice, in {homes}: every tag belongs to one domain")

    @property
    def names(self) -> Tags:
        """The domains, in the order of the rows of `centroids`."""
        return tuple(self.tags)

    @cached_property
    def _home(self) -> dict[str, str]:
        return {tag: domain for domain, tags in self.tags.items() for tag in tags}

    def of(self, tags: Iterable[str]) -> str | None:
        """Return the domain of most of a query's tags, of equal ones the first by name; None if no tag is known."""
        votes = Counter(self._home[tag] for tag in tags if tag in self._home)
        return min(votes, key=lambda domain: (-votes[domain], domain), default=None)

    def labels(self, tags_per_text: Iterable[Iterable[str]]) -> tuple[str | None, ...]:
        """Return the domain of each query, ready for `mixllm_engine.encoding.training.train_encoder`."""
        return tuple(self.of(tags) for tags in tags_per_text)

    def centroids(self, embeddings: npt.NDArray[np.floating], tags_per_text: Sequence[Iterable[str]]) -> Matrix:
        """Return mu_j, the unit mean of the queries' embeddings in each domain, shape (domains, d).

        Parameters
        ----------
        embeddings : array of shape (n, d)
            What an encoder makes of the queries.
        tags_per_text : sequence of iterables of str
            The tags of the same queries.

        Raises
        ------
        TableError
            If a domain has no query.
        """
        labels = self.labels(tags_per_text)
        if len(labels) != len(embeddings):
            raise TableError(f"{len(embeddings)} embeddings, but tags for {len(labels)} queries")
        return class_means(np.asarray(embeddings, dtype=np.float64), labels, self.names)

    @classmethod
    def group(
        cls,
        tags_per_text: Sequence[Iterable[str]],
        encoder: Encoder,
        *,
        count: int | None = None,
        seed: int = 0,
    ) -> Domains:
        """Cluster tags by the cosine of their embeddings; each domain is named after its most frequent tag.

        Parameters
        ----------
        tags_per_text : sequence of iterables of str
            Tidied tags (`mixllm_engine.encoding.tags.tidy`) of each query.
        encoder : Encoder
            Embeds the tags.
        count : int, optional
            How many domains; by default the number from 2 to 32 with the best silhouette. Clusters that stay empty
            are left out.
        seed : int
            Seed of k-means.
        """
        counts = tag_counts([tuple(tags) for tags in tags_per_text])
        if not counts:
            raise TableError("no text has a tag, so there is nothing to group into domains")
        if count is not None and not 1 <= count <= len(counts):
            raise ConfigError(f"count must be from 1 to the number of tags, {len(counts)}, got {count!r}")
        names = sorted(counts)
        member = _members(encoder.encode(names).astype(np.float64), count, seed)
        groups = [
            by_frequency({tag: counts[tag] for tag, own in zip(names, member, strict=True) if own == cluster})
            for cluster in sorted(set(member.tolist()))
        ]
        return cls(tags={group[0]: tuple(group) for group in sorted(groups)})

    def save(self, path: str | Path) -> None:
        """Write a JSON object with one line for each domain, to be edited by hand.

        Renaming a domain renames it, giving two lines the same name merges them, moving a tag moves it, and deleting
        a tag leaves it without a domain.
        """
        lines = [
            f"  {json.dumps(domain, ensure_ascii=False)}: {json.dumps(list(tags), ensure_ascii=False)}"
            for domain, tags in self.tags.items()
        ]
        Path(path).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, *, known: Collection[str] | None = None) -> Domains:
        """Read what `save` wrote and a person edited.

        Parameters
        ----------
        path : str or Path
            The file.
        known : collection of str, optional
            All tags that exist; a misspelt one is then refused.

        Raises
        ------
        ConfigError
            If the file is not such an object, holds an unknown tag, or a tag in two domains.
        """
        path = Path(path)
        try:
            lines = json.loads(read_file(path, most_bytes=_MOST_BYTES).decode(), object_pairs_hook=list)
        except OSError as error:
            raise ConfigError(f"{path.name} can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:  # neither JSON nor UTF-8, or nested without end
            raise ConfigError(f"{path.name} is not valid JSON: {error}") from error
        domains = cls(tags=_merged(path.name, lines))
        if known is not None:
            unknown = sorted(set(domains._home) - set(known))
            if unknown:
                raise ConfigError(f"{path.name} holds unknown tags: {unknown[:5]}; check their spelling")
        return domains


def silhouette(rows: Matrix, member: npt.NDArray[np.integer]) -> float:
    """Return the mean silhouette of a clustering of unit vectors by cosine distance, in [-1, 1].

    A row's is (b - a) / max(a, b): a is its mean distance to the rest of its cluster, b that to the nearest other
    cluster. A row that is alone has 0.

    References
    ----------
    P. Rousseeuw, "Silhouettes", J. Computational and Applied Mathematics 20 (1987).
    """
    clusters, index = np.unique(member, return_inverse=True)
    if len(clusters) < 2:
        return 0.0
    indicator = np.eye(len(clusters))[index]
    sizes = indicator.sum(axis=0)
    distances = np.clip(1.0 - rows @ rows.T, 0.0, None)
    sums = distances @ indicator
    every = np.arange(len(rows))
    own = (sums[every, index] - np.diagonal(distances)) / np.maximum(sizes[index] - 1.0, 1.0)
    means = sums / sizes
    means[every, index] = np.inf
    nearest = means.min(axis=1)
    widths = (nearest - own) / np.maximum(np.maximum(own, nearest), 1e-12)
    return float(np.where(sizes[index] > 1, widths, 0.0).mean())


def class_means(embeddings: Matrix, labels: Sequence[str | None], classes: Sequence[str]) -> Matrix:
    """Return the unit mean embedding of each class, shape (classes, d); rows without a label are left out."""
    means = np.empty((len(classes), embeddings.shape[1]))
    given = np.array(labels, dtype=object)
    for row, name in enumerate(classes):
        own = embeddings[given == name]
        if not len(own):
            raise TableError(f"no query belongs to {name!r}: merge it with another, or leave it out")
        mean: Vector = own.mean(axis=0)
        norm = float(np.linalg.norm(mean))
        means[row] = mean / norm if norm > 1e-12 else own[0]  # embeddings that cancel have no direction
    return means


def _members(vectors: Matrix, count: int | None, seed: int) -> npt.NDArray[np.intp]:
    """Assign each vector to a cluster, in the given number of clusters or the best of a few."""
    if count is not None:
        return _assigned(vectors, count, seed)
    sample = np.random.default_rng(seed).permutation(len(vectors))[:_SILHOUETTE_ROWS]
    tried = [_assigned(vectors, number, seed) for number in _NUMBERS if number < len(vectors)]
    best: npt.NDArray[np.intp] = max(
        tried,
        key=lambda member: silhouette(vectors[sample], member[sample]),  # of equal ones the fewest clusters
        default=np.zeros(len(vectors), dtype=np.intp),
    )
    return best


def _assigned(vectors: Matrix, count: int, seed: int) -> npt.NDArray[np.intp]:
    """Assign each vector to its cluster in the tightest of a few runs: k-means keeps what a poor start gives it."""
    runs = [vectors @ spherical_kmeans(vectors, count, seed + run).T for run in range(_RUNS)]
    nearest: npt.NDArray[np.intp] = max(runs, key=lambda cosines: cosines.max(axis=1).sum()).argmax(axis=1)
    return nearest


def _merged(name: str, lines: Any) -> dict[str, Tags]:
    """Check the shape of the file, and merge lines with the same name."""
    tags: dict[str, Tags] = {}
    if not isinstance(lines, list) or not lines or not all(isinstance(line, tuple) for line in lines):
        raise ConfigError(f'{name} must hold one object, {{"domain": ["tag", ...], ...}}')
    for domain, own in lines:
        if not isinstance(own, list) or not all(isinstance(tag, str) for tag in own):
            raise ConfigError(f"{name}: domain {domain!r} needs a list of tags, got {own!r}")
        tags[domain] = tags.get(domain, ()) + tuple(own)
    return tags
