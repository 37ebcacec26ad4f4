"""Saved states to test with: learned, loaded, taken apart, changed and put back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mixllm_engine import Outcome, Router
from mixllm_engine.config import FeatureConfig, LearningConfig, PredictionConfig, RouterConfig
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router

SMALL = RouterConfig(features=FeatureConfig(domains="none", components=3))
FILE = "state.safetensors"

Manifest = dict[str, Any]
Tensors = dict[str, Any]


def taught(config: RouterConfig = SMALL, labels: int = 4, **settings: Any) -> Router:
    """Return a router that has learned all there is to learn: by a table, by feedback, and when one joined."""
    router = tiny_router(config=config, **settings)
    table = {
        "prompt": ["one", "two", "three", "four"],
        "cheap|quality": [0.0, 1.0, 0.0, 1.0],
        "dear|quality": [1.0, 1.0, 1.0, 0.5],
        "cheap|cost_usd": [0.1] * 4,
        "cheap|response_tokens": [5, 6, 7, 8],
    }
    router.fit(table, progress=False)
    joined = dataclasses.replace(tiny_pool(names=["new"])[0])
    router.add_candidate(joined, like="dear", labelled={"prompt": ["five"], "quality": [1.0], "response_tokens": [9]})
    for step in range(labels):
        decision = router.decide(f"question {step}", force=("cheap", "dear")[step % 2])
        router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=10 + step))
        router.feedback(decision, 1.0)
    return router


EVERYTHING = RouterConfig(
    features=SMALL.features,
    prediction=PredictionConfig(heads="neural"),
    learning=LearningConfig(binary="both"),
)


def load(folder: Path, **settings: Any) -> Router:
    return Router.load(folder, **{"encoder": HashingEncoder(), **settings})


def put(folder: Path, data: bytes) -> Path:
    (folder / FILE).write_bytes(data)
    return folder


def parts(data: bytes) -> tuple[Manifest, Tensors]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["manifest"]), dict(load_tensors(data))


def changed(data: bytes, change: Callable[[Manifest, Tensors], object]) -> bytes:
    """Return a well-formed file whose content was changed."""
    manifest, tensors = parts(data)
    change(manifest, tensors)
    return save_tensors(tensors, metadata={"manifest": json.dumps(manifest)})
