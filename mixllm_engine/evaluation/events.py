"""What may happen in the middle of a replayed stream."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.router import Router
from mixllm_engine.types import Candidate, Matrix


@dataclass(kw_only=True)
class World:
    """What the router acts in; events change it from their query on.

    Attributes
    ----------
    router : Router
        Who decides.
    names : tuple of str
        Candidates in the order of the columns below.
    candidates : dict of str to Candidate
        Candidates as they are sold now, those included that the router does not have yet.
    quality, cost_usd : array of shape (n, K)
        What each candidate would answer to each query of the stream, and at what cost.
    rng : numpy.random.Generator
        Source of chance for events.
    """

    router: Router
    names: tuple[str, ...]
    candidates: dict[str, Candidate]
    quality: Matrix
    cost_usd: Matrix
    rng: np.random.Generator


class Event(Protocol):
    """Something that happens before a query of the stream is decided."""

    @property
    def at(self) -> int:
        """Row of the stream before which it happens."""
        ...

    def happen(self, world: World) -> None:
        """Change the world."""
        ...


@dataclass(frozen=True, kw_only=True)
class Decay:
    """A candidate gets worse: each of its answers keeps its quality with a probability, and is worth nothing else.

    So recorded qualities of 0 and 1 stay what they are, and a threshold on them means the same before and after.
    """

    at: int
    candidate: str
    keeps: float = 0.5

    def happen(self, world: World) -> None:
        """Spoil answers from the event's row on."""
        column = world.names.index(self.candidate)
        kept = world.rng.random(len(world.quality) - self.at) < self.keeps
        world.quality[self.at :, column] *= kept


@dataclass(frozen=True, kw_only=True)
class PriceChange:
    """A candidate's prices are multiplied by a factor, and the router is told.

    A router has no other way to learn of a new price than to take the candidate out and put it in again; what was
    learned of it counts again under the same name.
    """

    at: int
    candidate: str
    factor: float = 0.1

    def happen(self, world: World) -> None:
        """Change the bill, and the candidate."""
        world.cost_usd[self.at :, world.names.index(self.candidate)] *= self.factor
        world.candidates[self.candidate] = repriced(world.candidates[self.candidate], self.factor)
        world.router.remove_candidate(self.candidate)
        world.router.add_candidate(world.candidates[self.candidate])


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A candidate of the pool that the router did not have yet is added to it, without any label."""

    at: int
    candidate: str
    like: str | None = None

    def happen(self, world: World) -> None:
        """Add it."""
        world.router.add_candidate(world.candidates[self.candidate], like=self.like)


def repriced(candidate: Candidate, factor: float) -> Candidate:
    """Return a candidate whose prices are multiplied by a factor."""
    return dataclasses.replace(
        candidate,
        input_usd_per_mtok=factor * (candidate.input_usd_per_mtok or 0.0),
        output_usd_per_mtok=factor * (candidate.output_usd_per_mtok or 0.0),
    )


def decayed(data: FullFeedback, name: str, keeps: float, seed: int) -> FullFeedback:
    """Return the pool as it is recorded after a `Decay`: what somebody who knows of it would fit on."""
    quality = data.quality.copy()
    quality[:, data.column(name)] *= np.random.default_rng(seed).random(len(data)) < keeps
    return dataclasses.replace(data, quality=quality)


def with_price(data: FullFeedback, name: str, factor: float) -> FullFeedback:
    """Return the pool as it is billed after a `PriceChange`."""
    cost = data.cost_usd.copy()
    cost[:, data.column(name)] *= factor
    return dataclasses.replace(data, cost_usd=cost)
