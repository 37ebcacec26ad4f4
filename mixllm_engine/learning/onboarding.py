"""What a candidate was given when it joined: the expectations of a sibling, and a few labelled prompts.

Both are part of what is learned of the candidate, and are kept beside it as well: given again, they replace what was
given before, so that a program may add its candidates anew whenever it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import StateError
from mixllm_engine.learning._sums import Arrays, from_arrays, to_arrays
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.types import Vector


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Weights of a candidate's heads before anything was observed of it, each of shape (d,)."""

    quality: Vector
    length: Vector


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The sums over labelled prompts.

    Attributes
    ----------
    quality, length : HeadStatistics
        Sums of the two heads.
    response_tokens : float, optional
        Mean length of the answers; ``None`` where no length is known.
    weight : float
        What forgetting has left of the quality sums, in [0, 1].
    """

    quality: HeadStatistics
    length: HeadStatistics
    response_tokens: float | None = None
    weight: float = 1.0

    def same(self, other: Labelled | None) -> bool:
        """Tell whether another one is over the same labels."""
        return other is not None and all(
            np.array_equal(mine.gram, theirs.gram) and np.array_equal(mine.moment, theirs.moment)
            for mine, theirs in ((self.quality, other.quality), (self.length, other.length))
        )


@dataclass(frozen=True, kw_only=True)
class Onboarding:
    """What one candidate was given."""

    prior: Prior | None = None
    labelled: Labelled | None = None

    @property
    def response_tokens(self) -> float | None:
        """Mean length of the labelled answers, if it is known."""
        return self.labelled.response_tokens if self.labelled else None

    def changes(self, before: Onboarding) -> list[tuple[HeadStatistics, HeadStatistics]]:
        """Return what is to be added to the sums of both heads if `before` was given until now.

        Labels take the place of those that were given before; the same ones again change nothing.
        """
        new, old = self.labelled, before.labelled
        if new is None or new.same(old):
            return []
        gone = [(-old.quality.weighted(old.weight), -old.length)] if old else []
        return [*gone, (new.quality.weighted(new.weight), new.length)]

    def updated(self, newer: Onboarding) -> Onboarding:
        """Return this with what a newer one has in its place."""
        labelled = newer.labelled if newer.labelled and not newer.labelled.same(self.labelled) else self.labelled
        return Onboarding(prior=newer.prior or self.prior, labelled=labelled)

    def faded(self, keep: float) -> Onboarding:
        """Return this after forgetting has left the share `keep` of the quality sums."""
        if self.labelled is None:
            return self
        return replace(self, labelled=replace(self.labelled, weight=keep * self.labelled.weight))

    def fresh(self) -> Onboarding:
        """Return this as it was given, before anything was forgotten."""
        return self if self.labelled is None else replace(self, labelled=replace(self.labelled, weight=1.0))


def manifest(onboarded: Mapping[str, Onboarding]) -> dict[str, dict[str, Any]]:
    """Return what is not an array, by candidate."""
    return {
        name: {
            "prior": given.prior is not None,
            "labelled": given.labelled is not None,
            "response_tokens": given.response_tokens,
            "weight": given.labelled.weight if given.labelled else 1.0,
        }
        for name, given in onboarded.items()
    }


def tensors(onboarded: Mapping[str, Onboarding]) -> dict[str, npt.NDArray[np.float64]]:
    """Return the arrays."""
    arrays: dict[str, npt.NDArray[np.float64]] = {}
    for name, given in onboarded.items():
        if given.prior:
            arrays[f"prior/{name}/quality"] = given.prior.quality
            arrays[f"prior/{name}/length"] = given.prior.length
        if given.labelled:
            arrays |= to_arrays(given.labelled.quality, f"labelled/{name}/quality")
            arrays |= to_arrays(given.labelled.length, f"labelled/{name}/length")
    return arrays


def restore(stored: Mapping[str, Mapping[str, Any]], arrays: Arrays, dimension: int) -> dict[str, Onboarding]:
    """Rebuild from manifest and arrays, or raise `StateError` or `KeyError` where something doesn't fit."""
    onboarded = {}
    for name, entry in stored.items():
        prior, labelled = None, None
        if entry["prior"]:
            weights = [_vector(arrays[f"prior/{name}/{head}"], dimension) for head in ("quality", "length")]
            prior = Prior(quality=weights[0], length=weights[1])
        if entry["labelled"]:
            tokens = entry["response_tokens"]
            labelled = Labelled(
                quality=from_arrays(arrays, f"labelled/{name}/quality", dimension),
                length=from_arrays(arrays, f"labelled/{name}/length", dimension),
                response_tokens=None if tokens is None else _tokens(tokens),
                weight=_share(entry["weight"]),
            )
        onboarded[str(name)] = Onboarding(prior=prior, labelled=labelled)
    return onboarded


def _tokens(value: Any) -> float:
    tokens = float(value)
    if not tokens >= 0.0:
        raise StateError(f"answers of the state have a mean length of {value!r} tokens")
    return tokens


def _share(value: Any) -> float:
    share = float(value)
    if not 0.0 <= share <= 1.0:
        raise StateError(f"labels of the state weigh {value!r}, which must be in [0, 1]")
    return share


def _vector(array: npt.NDArray[np.float64], dimension: int) -> Vector:
    if array.shape != (dimension,):
        raise StateError(f"a prior of the state has shape {array.shape}, the features need ({dimension},)")
    return array
