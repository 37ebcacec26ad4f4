"""Tag-enhanced training of an encoder (paper, section 3.1): queries of one class come together, classes move apart.

No quality label is used. The result is a folder that `mixllm_engine.encoding.export.export_onnx` turns into an encoder
that is served without torch. Needs ``mixllm[train]``.
"""

from __future__ import annotations

import importlib
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from mixllm_engine.config import NonNegative, Positive
from mixllm_engine.encoding._training_run import (
    CHECKPOINTS,
    begin,
    identity,
    load_centroids,
    read_centroids,
    save_centroids,
)
from mixllm_engine.encoding.domains import class_means
from mixllm_engine.errors import ConfigError, EncoderError, TableError
from mixllm_engine.types import Matrix

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from transformers import TrainerCallback

    from mixllm_engine.encoding.losses import CentroidLoss

__all__ = ["TrainingConfig", "TrainingReport", "load_centroids", "train_encoder"]

INSTALL = 'pip install "mixllm[train]"'
_LOGGED_POINTS = 50


class TrainingConfig(BaseModel):
    """Settings of a training run. The paper publishes none of these; the values are ours (see each).

    Examples
    --------
    >>> TrainingConfig(epochs=2).temperature
    0.05
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=2, ge=1, description="Passes over the texts.")
    batch_size: int = Field(default=32, ge=1, description="Texts in a step; they are of similar length.")
    learning_rate: Positive = Field(default=8e-5, description="Of AdamW, falling linearly to 0.")
    centroid_rate: Positive = Field(default=8e-4, description="The same for the centroids, which start at class means.")
    frozen_blocks: int = Field(
        default=2,
        ge=0,
        description="Lowest blocks that stay as they are, and with any of them the word table: a few thousand texts "
        "would only spoil it, and training is faster by half.",
    )
    max_tokens: int = Field(default=96, ge=2, description="Longer texts are cut.")
    temperature: Positive = Field(default=0.05, description="T of both losses; with unit norms a T is needed.")
    inter_weight: NonNegative = Field(default=0.1, description="Weight of L_inter in equation 3.")
    save_steps: int = Field(default=200, ge=1, description="Steps between checkpoints.")
    seed: int = Field(default=0, ge=0, description="Of the order of the texts and of dropout.")
    device: Literal["auto", "cpu"] = Field(default="auto", description="The accelerator if there is one, or never.")


class TrainingReport(BaseModel):
    """What a training run did.

    Attributes
    ----------
    texts : int
        Texts with a label.
    classes : tuple of str
        The classes, in the order of the centroids.
    steps : int
        Steps of the whole run, those before a resumption included.
    losses : tuple of (int, float)
        Step and mean loss since the point before, at most about fifty points.
    """

    model_config = ConfigDict(frozen=True)

    texts: int
    classes: tuple[str, ...]
    steps: int
    losses: tuple[tuple[int, float], ...]


def train_encoder(
    source: str | Path,
    texts: Sequence[str],
    labels: Sequence[str | None],
    folder: str | Path,
    *,
    config: TrainingConfig | None = None,
    resume: bool = False,
    progress: bool = True,
    on_step: Callable[[int], object] | None = None,
) -> TrainingReport:
    """Train a sentence encoder with L = L_intra + weight L_inter, and write it to a folder.

    Beside the encoder the folder gets ``centroids.safetensors`` (see `load_centroids`). Checkpoints go to
    ``checkpoints`` in it and are removed at the end. They are the trainer's own, for this machine only: resume no
    checkpoint that somebody else gave you.

    Parameters
    ----------
    source : str or Path
        A sentence-transformers BERT model with mean pooling: a folder, or a name on the hub.
    texts : sequence of str
        Queries.
    labels : sequence of str or None
        The class of each: its domain (`mixllm_engine.encoding.domains.Domains.labels`) or its main tag. Texts without
        one are left out.
    folder : str or Path
        Where to write.
    config : TrainingConfig, optional
        Settings.
    resume : bool
        Go on from the last checkpoint of an interrupted run on the same texts, labels and settings; start from the
        beginning if there is none.
    progress : bool
        Show a progress bar and the losses.
    on_step : callable, optional
        Called after each step with its number, and after the checkpoint if that step made one.

    Raises
    ------
    TableError
        If there are fewer than two classes, an empty text, or not one label for each text.
    StateError
        If the folder holds checkpoints of another run, or of an interrupted one and `resume` is not set.
    EncoderError
        If the source can't be loaded.
    ConfigError
        If the extra is not installed, or all blocks of the model are to stay frozen.
    """
    config = config or TrainingConfig()
    folder = Path(folder)
    texts, labels = _labelled(texts, labels)
    _check_extra()
    model = _load(source, config)
    _freeze(model, config.frozen_blocks)
    checkpoint = begin(folder, identity(texts, labels, config.model_dump(mode="json", exclude={"device"})), resume)
    classes = sorted(set(labels))
    start = _means(model, texts, labels, classes) if checkpoint is None else read_centroids(checkpoint)[1]
    loss = _loss(model, start, config)
    trainer = _trainer(loss, _dataset(texts, labels, classes), folder / CHECKPOINTS, config, progress)
    trainer.add_callback(_callback(loss, folder / CHECKPOINTS, classes, on_step))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    _finish(loss, classes, folder)
    points = [(int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry]
    return TrainingReport(
        texts=len(texts), classes=tuple(classes), steps=trainer.state.global_step, losses=tuple(points)
    )


def _labelled(texts: Sequence[str], labels: Sequence[str | None]) -> tuple[list[str], list[str]]:
    if len(texts) != len(labels):
        raise TableError(f"{len(texts)} texts, but {len(labels)} labels: every text needs one, or None")
    pairs = [(text, label) for text, label in zip(texts, labels, strict=True) if label is not None]
    for text, label in pairs:
        if not isinstance(text, str) or not text.strip():
            raise TableError(f"a text of class {label!r} is empty; every text needs some words")
    if len({label for _, label in pairs}) < 2:
        raise TableError("training needs texts of at least two classes: there is nothing to tell apart")
    return [text for text, _ in pairs], [label for _, label in pairs]


def _check_extra() -> None:
    for name in ("torch", "sentence_transformers", "accelerate", "datasets"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"training needs {name}, which is not installed: {INSTALL}") from error


def _load(source: str | Path, config: TrainingConfig) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(str(source), device="cpu" if config.device == "cpu" else None)
    except OSError as error:
        raise EncoderError(f"{str(source)!r} is no sentence-transformers model: {error}") from error
    model.max_seq_length = config.max_tokens
    model.model_card_data.local_files_only = True  # checkpoints carry a card, and the hub need not be asked for it
    return model


def _freeze(model: SentenceTransformer, blocks: int) -> None:
    """Keep the word table and the lowest blocks of a BERT model as they are."""
    bert: Any = model[0].auto_model
    if blocks >= len(bert.encoder.layer):
        raise ConfigError(f"frozen_blocks={blocks} leaves nothing to train of {len(bert.encoder.layer)} blocks")
    for module in (bert.embeddings, *bert.encoder.layer[:blocks]) if blocks else ():
        module.requires_grad_(False)


def _means(model: SentenceTransformer, texts: list[str], labels: list[str], classes: list[str]) -> Matrix:
    """Embed all texts once: every centroid starts at the mean of its class."""
    embeddings = model.encode(texts, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
    return class_means(np.asarray(embeddings, dtype=np.float64), labels, classes)


def _loss(model: SentenceTransformer, start: Matrix, config: TrainingConfig) -> CentroidLoss:
    import torch

    from mixllm_engine.encoding.losses import CentroidLoss

    centroids = torch.tensor(start, dtype=torch.float32)
    return CentroidLoss(model, centroids, temperature=config.temperature, inter_weight=config.inter_weight)


def _array(loss: CentroidLoss) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = loss.centroids.detach().cpu().numpy()
    return values


def _dataset(texts: list[str], labels: list[str], classes: list[str]) -> Any:
    number = {name: row for row, name in enumerate(classes)}
    datasets = importlib.import_module("datasets")  # ships no types
    return datasets.Dataset.from_dict({"text": texts, "label": [number[label] for label in labels]})


def _trainer(
    loss: CentroidLoss, dataset: Any, checkpoints: Path, config: TrainingConfig, progress: bool
) -> SentenceTransformerTrainer:
    import torch
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from transformers import PrinterCallback

    from mixllm_engine.encoding._batches import SimilarLengths

    steps = math.ceil(len(dataset) / config.batch_size) * config.epochs
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        learning_rate_mapping={"^centroids$": config.centroid_rate},
        batch_sampler=SimilarLengths,
        seed=config.seed,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=max(1, steps // _LOGGED_POINTS),
        report_to="none",
        disable_tqdm=not progress,
        use_cpu=config.device == "cpu",
        dataloader_pin_memory=config.device == "auto" and torch.cuda.is_available(),
    )
    trainer = SentenceTransformerTrainer(model=loss.model, args=arguments, train_dataset=dataset, loss=loss)
    trainer.remove_callback(PrinterCallback)  # without a progress bar it would print every logged loss
    return trainer


def _callback(
    loss: CentroidLoss, checkpoints: Path, classes: list[str], on_step: Callable[[int], object] | None
) -> TrainerCallback:
    from transformers import TrainerCallback

    class Centroids(TrainerCallback):
        """Complete checkpoints, which hold the model's weights but not the loss's."""

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Write the centroids into the checkpoint that was just made."""
            save_centroids(_array(loss), classes, checkpoints / f"checkpoint-{state.global_step}")
            self._tell(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Tell the caller, unless a checkpoint comes first."""
            if not control.should_save:
                self._tell(state)

        def _tell(self, state: Any) -> None:
            if on_step is not None:
                on_step(state.global_step)

    return Centroids()


def _finish(loss: CentroidLoss, classes: list[str], folder: Path) -> None:
    """Write the trained encoder and its centroids, then drop the checkpoints."""
    loss.model.save_pretrained(str(folder), create_model_card=False)
    save_centroids(_array(loss), classes, folder)
    shutil.rmtree(folder / CHECKPOINTS)
