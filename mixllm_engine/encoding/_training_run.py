"""What a training run leaves on disk besides the model: its identity, its checkpoints and the learned centroids."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import StateError
from mixllm_engine.types import Matrix

CHECKPOINTS = "checkpoints"
_CENTROIDS = "centroids.safetensors"
_RUN = "run.json"


def load_centroids(folder: str | Path) -> tuple[tuple[str, ...], Matrix]:
    """Return the classes and their learned unit centroids, shape (classes, d), of a trained encoder's folder."""
    classes, raw = read_centroids(Path(folder))
    return classes, raw / np.linalg.norm(raw, axis=1, keepdims=True).clip(min=1e-12)


def read_centroids(folder: Path) -> tuple[tuple[str, ...], Matrix]:
    """Return the classes and their centroids as they were learned, before they are brought to unit norm."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / _CENTROIDS, framework="np") as file:
            classes = tuple(json.loads((file.metadata() or {})["classes"]))
            centroids: Matrix = file.get_tensor("centroids").astype(np.float64)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise StateError(f"{_CENTROIDS} in {folder.name!r} is missing or damaged: {error}") from error
    return classes, centroids


def identity(texts: Sequence[str], labels: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Name what must be the same for a run to be resumed."""
    data = json.dumps([list(texts), list(labels)]).encode()
    return json.dumps({"data_sha256": hashlib.sha256(data).hexdigest(), "settings": dict(settings)}, indent=2) + "\n"


def begin(folder: Path, run: str, resume: bool) -> Path | None:
    """Claim the folder for a run, or find the checkpoint to go on from."""
    claim = folder / CHECKPOINTS / _RUN
    checkpoint = _last_checkpoint(claim.parent)
    if checkpoint is not None and not resume:
        raise StateError(f"{folder.name!r} holds an interrupted run: resume it (resume=True), or name a new folder")
    if checkpoint is not None and (not claim.is_file() or claim.read_text(encoding="utf-8") != run):
        raise StateError(f"the run in {folder.name!r} had other texts, labels or settings; name a new folder")
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.write_text(run, encoding="utf-8")
    return checkpoint


def _last_checkpoint(checkpoints: Path) -> Path | None:
    """Find the last complete checkpoint: the centroids are written after everything else."""
    complete = [path.parent for path in checkpoints.glob(f"checkpoint-*/{_CENTROIDS}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def save_centroids(centroids: npt.NDArray[np.float32], classes: Sequence[str], folder: Path) -> None:
    """Write the centroids in one step: a file that is there is whole."""
    from safetensors.numpy import save_file

    part = folder / f"{_CENTROIDS}.part"
    save_file({"centroids": centroids}, part, metadata={"classes": json.dumps(classes)})
    os.replace(part, folder / _CENTROIDS)
