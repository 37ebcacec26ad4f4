"""Remake what the package carries: the tag-trained encoder and the general feature map, with one command.

    scripts/train-encoder [WORK [FOLDER]]

trains all-MiniLM-L6-v2 on the general prompts and their tags in WORK, exports it to FOLDER, checks it, and learns the
feature map. It takes about a quarter of an hour on two cores. An interrupted run goes on where it was; other prompts,
tags or settings start a new one. Needs ``mixllm[train]`` and all-MiniLM-L6-v2, which ``mixllm[local]`` carries.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from mixllm_engine.encoding._training_run import identity
from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.encoding.export import export_onnx, minilm_folder
from mixllm_engine.encoding.features import write_general_map
from mixllm_engine.encoding.general_prompts import tagged_prompts
from mixllm_engine.encoding.training import TrainingConfig, train_encoder

_PACKAGED = Path(__file__).parent / "packaged"
_ORIGIN = "sentence-transformers/all-MiniLM-L6-v2, trained on the tags of MixLLM's general prompts"


def train(work: Path) -> Path:
    """Train the encoder in a folder named after what it learns, or find it there; returns that folder."""
    texts, tags = tagged_prompts()
    run = identity(texts, tags, TrainingConfig().model_dump(mode="json"))
    trained = work / f"encoder-{hashlib.sha256(run.encode()).hexdigest()[:12]}"
    if not (trained / "centroids.safetensors").is_file():
        train_encoder(minilm_folder(), texts, tags, trained, resume=True)
    return trained


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="where the training run is kept")
    parser.add_argument("folder", type=Path, nargs="?", default=_PACKAGED, help="where the encoder goes")
    given = parser.parse_args(arguments)
    cosine = export_onnx(train(given.work), given.folder, origin=_ORIGIN)
    write_general_map(OnnxEncoder.from_folder(given.folder), given.folder)
    print(f"mean cosine with the torch model: {cosine:.4f}")  # noqa: T201


if __name__ == "__main__":
    main()
