"""A router's settings and learned state <-> one safe file. Keys are never part of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mixllm_engine.config import RouterConfig
from mixllm_engine.errors import CandidateError, StateError
from mixllm_engine.learning.learner import Learner
from mixllm_engine.learning.state import Learned
from mixllm_engine.store import snapshot
from mixllm_engine.types import Candidate


def pack(learner: Learner) -> bytes:
    """Return all that a learner knows, with its pool and settings."""
    learned = learner.learned()
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

    def teach(self, learner: Learner) -> None:
        """Let a learner begin with this, or raise `StateError` if its encoder or features are others."""
        if self.encoder != learner.encoder:
            raise StateError("the state was learned with another encoder; give that one, or fit anew")
        learner.start(Learned.restore(self.manifest, self.tensors, learner.features.dimension))
        learner.predictor.quality.check()
        learner.predictor.length.check()


def unpack(data: bytes) -> Saved:
    """Read a state, or raise `StateError`."""
    manifest, tensors = snapshot.decode(data)
    try:
        return Saved(
            encoder=str(manifest["encoder"]),
            config=RouterConfig.model_validate(manifest["config"]),
            candidates=tuple(Candidate(**fields) for fields in manifest["pool"]),
            manifest=manifest,
            tensors=tensors,
        )
    except (KeyError, TypeError, ValidationError, CandidateError) as error:
        raise StateError(f"the state's manifest lacks a part or holds one that is not allowed: {error!r}") from error


def _portable(candidate: Candidate) -> dict[str, Any]:
    fields = {field.name: getattr(candidate, field.name) for field in dataclasses.fields(candidate)}
    del fields["api_key"]
    return {**fields, "params": dict(candidate.params)}
