"""A router's settings and learned state <-> one safe file, in a folder or in the store. Secrets are never part of it.

What the store keeps is what tables taught, by `Router.fit` and `Router.add_candidate`; the log, which it holds as well,
comes on top. So a restart loses nothing, and two workers that onboard candidates don't undo each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from mixllm_engine.candidates import Pool
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.encoding.context import ContextMaker
from mixllm_engine.errors import CandidateError, StateError
from mixllm_engine.learning.columns import some
from mixllm_engine.learning.learner import Learner
from mixllm_engine.learning.offline import FitReport, Lesson, onboard, teach
from mixllm_engine.learning.state import Learned
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.store import snapshot
from mixllm_engine.store.base import Store, StoredState
from mixllm_engine.types import Candidate

_Dropped = Mapping[str, tuple[HeadStatistics, HeadStatistics]]
_PARTS: Final = {"format", "version", "encoder", "config", "pool", *Learned().manifest()}


def begin(pool: Pool, contexts: ContextMaker, config: RouterConfig, store: Store) -> Learner:
    """Make a learner that begins with what the store keeps, or raise `StateError` if that is damaged."""
    learner = Learner(pool, contexts.features, contexts.space, config)
    state = store.state(learner.encoder)
    if state is not None:
        unpack(state.data).teach(learner)
        learner.based_on = state.number
    return learner


def relearn(learner: Learner, lesson: Lesson, store: Store, now: float) -> FitReport:
    """Begin anew with what a table taught, and keep that in the store; what the log holds is not learned then."""
    kept = stored(learner, store)
    report = teach(learner, lesson, {**learner.onboarded, **kept.onboarded}, kept.neural, kept.dropped)
    learner.based_on = store.change_state(learner.encoder, lambda _: pack(learner), now)
    return report


def welcome(learner: Learner, name: str, like: str | None, lesson: Lesson | None, store: Store, now: float) -> None:
    """Give a new candidate something to start with, and add that to what the store keeps, whoever wrote the rest.

    Parameters
    ----------
    learner : Learner
        Who learns; the candidate is in its pool.
    name : str
        The candidate.
    like : str, optional
        A sibling; see `learning.offline.onboard`.
    lesson : Lesson, optional
        Labelled prompts.
    store : Store
        Where it is kept.
    now : float
        Seconds since the epoch.
    """
    if like is None and lesson is None:
        return
    onboard(learner, name, like, lesson)
    given, networks = learner.onboarded[name].fresh(), learner.predictor.networks()

    known = learner.based_on

    def changed(state: StoredState | None) -> bytes:
        nonlocal known
        known = state.number if state else 0
        return pack(learner, _learned(learner, state).with_onboarded(name, given).with_networks(name, networks))

    number = store.change_state(learner.encoder, changed, now)
    if known == learner.based_on:  # else somebody else has changed it, and this learner does not know what
        learner.based_on = number


def resume(saved: Saved, learner: Learner, store: Store) -> None:
    """Let a learner that began with what a store keeps go on from a saved state, or raise `StateError`.

    Rows that are newer than the saved state may have been dropped from the log meanwhile: then the learner stays with
    what the store keeps, which knows what they taught. To a state that never followed this log, that is added.
    """
    learned, dropped, log = saved.learned(learner), learner.dropped, f"{store.identity}/"
    followed = any(name.startswith(log) for name in learned.position)
    behind = any(learned.position.get(name, 0) < at for name, at in learner.position.items() if name.startswith(log))
    if followed and behind and not _same(dropped, learned.dropped):
        return
    _start(learner, learned)
    if not followed:
        learner.recall(dropped)


def _start(learner: Learner, learned: Learned) -> None:
    """Let a learner begin with what was read, or raise `StateError` if that is damaged."""
    try:
        with np.errstate(all="ignore"):  # what overflows is found right after
            learner.start(learned)
            learner.predictor.quality.check()
            learner.predictor.length.check()
    except np.linalg.LinAlgError as error:
        raise StateError(f"the learned statistics can't be solved; the state is damaged: {error}") from error


def _same(one: _Dropped, other: _Dropped) -> bool:
    def numbers(sums: HeadStatistics) -> tuple[float, bytes, bytes]:
        return sums.count, sums.gram.tobytes(), sums.moment.tobytes()

    return one.keys() == other.keys() and all(
        numbers(mine) == numbers(theirs)
        for name, pair in one.items()
        for mine, theirs in zip(pair, other[name], strict=True)
    )


def stored(learner: Learner, store: Store) -> Learned:
    """Return what the store keeps for a learner's encoder: what tables and onboarding taught."""
    return _learned(learner, store.state(learner.encoder))


def _learned(learner: Learner, state: StoredState | None) -> Learned:
    return Learned() if state is None else unpack(state.data).learned(learner)


def pack(learner: Learner, learned: Learned | None = None) -> bytes:
    """Return all that a learner knows, or something else in its place, with its pool and settings."""
    learned = learner.learned() if learned is None else learned
    manifest = {
        "encoder": learner.encoder,
        "config": learner.config.model_dump(mode="json"),
        "pool": [_portable(candidate) for candidate in learner.pool.candidates],
        **learned.manifest(),
    }
    return snapshot.encode(manifest, learned.tensors())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """A state that was read and checked as far as it can be without its encoder."""

    encoder: str
    config: RouterConfig
    candidates: tuple[Candidate, ...]
    manifest: Mapping[str, Any]
    tensors: Mapping[str, Any]

    def learned(self, learner: Learner) -> Learned:
        """Return what was learned, or raise `StateError` if the learner's encoder or features are others."""
        if _distinct(self.config.features) != _distinct(learner.config.features):
            raise StateError(
                f"the state was learned over the features {_distinct(self.config.features)}, this router has "
                f"{_distinct(learner.config.features)}; give that configuration, or fit anew"
            )
        if self.encoder != learner.encoder:
            raise StateError("the state was learned with another encoder; give that one, or fit anew")
        with np.errstate(all="ignore"):  # what overflows is found when a learner begins with it
            return Learned.restore(self.manifest, self.tensors, learner.features.dimension)

    def teach(self, learner: Learner) -> None:
        """Let a learner begin with this, or raise `StateError` if it doesn't fit or is damaged."""
        _start(learner, self.learned(learner))

    def check_pool(self, pool: Pool) -> None:
        """Raise `StateError` if nothing in the state is of any candidate of a pool: it is another router's."""
        known = {*(candidate.name for candidate in self.candidates), *self.manifest["candidates"]}
        if known.isdisjoint(pool.names):
            raise StateError(
                f"the state is of the candidates {some(sorted(known))}, none of which is among those given "
                f"({some(pool.names)}): it is another router's; name its folder, or fit anew"
            )


def unpack(data: bytes) -> Saved:
    """Read a state, or raise `StateError`."""
    manifest, tensors = snapshot.decode(data)
    if unknown := manifest.keys() - _PARTS:
        raise StateError(f"the state's manifest has parts that are not known: {some(sorted(unknown))}")
    try:
        return Saved(
            encoder=str(manifest["encoder"]),
            config=RouterConfig.model_validate(_named_as_now(manifest["config"])),
            candidates=Pool(_keyless(fields) for fields in manifest["pool"]).candidates,
            manifest=manifest,
            tensors=tensors,
        )
    except (KeyError, TypeError, ValidationError, CandidateError) as error:
        raise StateError(f"the state's manifest lacks a part or holds one that is not allowed: {error!r}") from error


def _named_as_now(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a state; one of before there was a choice doesn't name it, or names another."""
    features = {"surface": False, "weights": "even", **config["features"]}
    decision = {**config.get("decision", {})}
    if decision.pop("leader_advantage", None) == 0.0:
        decision["leader_margin"] = 0.0
    return {**config, "features": features, "decision": decision}


def _keyless(fields: Mapping[str, Any]) -> Candidate:
    if "api_key" in fields:
        raise CandidateError("a state holds no keys, but this one gives its candidate one")
    return Candidate(**fields)


def _distinct(features: FeatureConfig) -> dict[str, Any]:
    """Return the settings on which the map from embeddings to contexts depends, besides the encoder."""
    unused = set() if features.domains == "clusters" else {"clusters", "temperature"}
    return features.model_dump(exclude=unused)


def _portable(candidate: Candidate) -> dict[str, Any]:
    shown = candidate.without_secrets()
    return {one.name: getattr(shown, one.name) for one in dataclasses.fields(shown) if one.name != "api_key"}
