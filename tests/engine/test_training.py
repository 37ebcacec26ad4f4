"""The losses of the paper, and training a tiny encoder with them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine.config import FeatureConfig
from mixllm_engine.encoding import features, recipe
from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.encoding.export import agreement, export_onnx, minilm_folder
from mixllm_engine.encoding.general_prompts import few_prompts, general_domains
from mixllm_engine.encoding.training import TrainingConfig, load_centroids, train_encoder
from mixllm_engine.encoding.weights import Weights
from mixllm_engine.errors import ConfigError, EncoderError, StateError, TableError

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

import torch
from sentence_transformers import SentenceTransformer

from mixllm_engine.encoding.losses import CentroidLoss, inter_loss, intra_loss

trains = pytest.mark.skipif(
    not (importlib.util.find_spec("accelerate") and importlib.util.find_spec("datasets")),
    reason='sentence-transformers trains only with accelerate and datasets: pip install "mixllm[train]"',
)
CLASSES = {
    "cooking": ["bake bread with flour", "boil soup and salt", "fry onions in butter", "roast garlic and pepper"],
    "law": ["the court signed a contract", "a judge heard the appeal", "the lawyer filed a claim", "sue the tenant"],
}
FAST = TrainingConfig(
    epochs=4,
    batch_size=4,
    learning_rate=6e-3,
    max_tokens=16,
    save_steps=5,
    seed=3,
    device="cpu",
    frozen_blocks=0,
)
exports = pytest.mark.filterwarnings(  # of torch's TorchScript exporter, which export.py chooses
    "ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning",
    "ignore:The feature will be removed. Please remove usage of this function:DeprecationWarning",
    "ignore:Converting a tensor to a Python boolean:torch.jit.TracerWarning",
    "ignore:Exporting aten..index operator of advanced indexing:UserWarning",
)


def some_texts(repeats: int = 3) -> tuple[list[str], list[str]]:
    pairs = [(f"{text} {n}", name) for n in range(repeats) for name, texts in CLASSES.items() for text in texts]
    return [text for text, _ in pairs], [name for _, name in pairs]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A tiny model gains nothing from threads, and loses much where others compute beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a random BERT of two layers, with the packaged encoder's word pieces."""
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    make: Any = PreTrainedTokenizerFast  # untyped
    tokenizer = make(
        tokenizer_file=str(Weights.packaged().folder / "tokenizer.json"), pad_token="[PAD]", unk_token="[UNK]"
    )
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(shape).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    words = Transformer(str(folder / "bert"))
    model = SentenceTransformer(modules=[words, Pooling(32, pooling_mode="mean")], device="cpu")
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def margin(model: Path) -> float:
    """Mean cosine within the classes less that between them, on texts that were not trained on."""
    texts = ["salt the butter and bake", "fry flour in pepper", "a judge signed the claim", "the court and the lawyer"]
    vectors = np.asarray(SentenceTransformer(str(model), device="cpu").encode(texts, normalize_embeddings=True))
    cosines = vectors @ vectors.T
    return float((cosines[0, 1] + cosines[2, 3]) / 2 - cosines[:2, 2:].mean())


def unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths: npt.NDArray[np.float64] = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / lengths


def tensor(rows: npt.ArrayLike) -> torch.Tensor:
    return torch.tensor(np.asarray(rows), dtype=torch.float64)


def test_intra_loss_by_hand() -> None:
    # cosines [1, 0] and [0.6, 0.8] with T = 0.5: logits [2, 0] and [1.2, 1.6]; classes 0 and 1
    loss = intra_loss(
        tensor([[3.0, 0.0], [0.6, 0.8]]), tensor([[1.0, 0.0], [0.0, 7.0]]), torch.tensor([0, 1]), temperature=0.5
    )
    by_hand = -(math.log(math.exp(2) / (math.exp(2) + 1)) + math.log(math.exp(1.6) / (math.exp(1.2) + math.exp(1.6))))
    assert loss.item() == pytest.approx(by_hand / 2)
    assert loss.item() == pytest.approx(0.3199715)


def test_inter_loss_by_hand() -> None:
    # cosines of the pairs: 01 = 0, 02 = 0.6, 12 = 0.8; T = 1
    loss = inter_loss(tensor([[2.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), temperature=1.0)
    e = math.exp
    by_hand = (math.log(e(0) + e(0.6)) + math.log(e(0) + e(0.8)) + math.log(e(0.6) + e(0.8))) / 3
    assert loss.item() == pytest.approx(by_hand)
    assert loss.item() == pytest.approx(1.2022425)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 8), st.integers(0, 10_000), st.sampled_from([0.05, 0.5, 2.0]))
def test_losses_agree_with_numpy_know_no_norms_and_keep_their_bounds(
    classes: int, queries: int, seed: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    rows, centres = rng.normal(size=(queries, 4)), rng.normal(size=(classes, 4))
    labels = rng.integers(classes, size=queries)
    intra = intra_loss(tensor(rows), tensor(centres), torch.tensor(labels), temperature=temperature).item()
    inter = inter_loss(tensor(centres), temperature=temperature).item()

    weights = np.exp((unit(rows) @ unit(centres).T - 1) / temperature)
    assert intra == pytest.approx(-np.log(weights[np.arange(queries), labels] / weights.sum(axis=1)).mean())
    others = np.exp(unit(centres) @ unit(centres).T / temperature)
    np.fill_diagonal(others, 0.0)
    assert inter == pytest.approx(np.log(others.sum(axis=1)).mean())

    longer = tensor(centres * rng.uniform(0.1, 9.0, size=(classes, 1)))
    assert inter_loss(longer, temperature=temperature).item() == pytest.approx(inter)
    assert intra_loss(tensor(rows * 5), longer, torch.tensor(labels), temperature=temperature).item() == pytest.approx(
        intra
    )
    assert 0 <= intra <= math.log(classes) + 2 / temperature
    base = math.log(classes - 1)
    assert base - 1 / ((classes - 1) * temperature) - 1e-9 <= inter <= base + 1 / temperature + 1e-9


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_separated_classes_are_the_minimum(classes: int) -> None:
    simplex = unit(np.eye(classes) - 1 / classes)
    labels = torch.arange(classes)
    best = intra_loss(tensor(simplex), tensor(simplex), labels, temperature=0.5).item()
    apart = inter_loss(tensor(simplex), temperature=0.5).item()
    assert apart == pytest.approx(math.log(classes - 1) - 1 / ((classes - 1) * 0.5))  # the lower bound is reached
    rng = np.random.default_rng(classes)
    for scale in (0.1, 0.5, 3.0):
        moved = simplex + rng.normal(scale=scale, size=simplex.shape)
        assert inter_loss(tensor(moved), temperature=0.5).item() > apart
        assert intra_loss(tensor(moved), tensor(simplex), labels, temperature=0.5).item() > best


def test_gradients_push_centroids_apart_and_both_losses_are_added(tiny: Path) -> None:
    centres = tensor([[1.0, 0.6], [1.0, -0.6]]).requires_grad_()
    before = torch.cosine_similarity(centres[0], centres[1], dim=0)
    (slope,) = torch.autograd.grad(inter_loss(centres, temperature=0.5), centres)
    assert torch.isfinite(slope).all()
    moved = centres.detach() - 0.1 * slope
    assert torch.cosine_similarity(moved[0], moved[1], dim=0) < before

    model = SentenceTransformer(str(tiny), device="cpu")
    start = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    both = CentroidLoss(model, start, temperature=0.5, inter_weight=0.3)
    inputs, labels = model.preprocess(["soup", "court"]), torch.tensor([0, 1])
    model.eval()
    embeddings = model(inputs)["sentence_embedding"]
    parts = intra_loss(embeddings, start, labels, temperature=0.5) + 0.3 * inter_loss(start, temperature=0.5)
    assert both([inputs], labels).item() == pytest.approx(parts.item(), rel=1e-5)  # equation 3


@trains
@exports
def test_training_lowers_the_loss_separates_held_out_texts_and_can_be_exported(tiny: Path, tmp_path: Path) -> None:
    texts, labels = some_texts()
    steps: list[int] = []
    report = train_encoder(
        tiny, [*texts, "no label"], [*labels, None], tmp_path / "new", config=FAST, progress=False, on_step=steps.append
    )
    assert (report.texts, report.classes, report.steps) == (24, ("cooking", "law"), 24)
    assert steps == list(range(1, 25))
    first, last = [np.mean([loss for _, loss in part]) for part in (report.losses[:3], report.losses[-3:])]
    assert last < first - 0.3
    assert margin(tmp_path / "new") > margin(tiny) + 0.5
    classes, centroids = load_centroids(tmp_path / "new")
    assert classes == report.classes and centroids.shape == (2, 32)
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1.0)
    assert not (tmp_path / "new" / "checkpoints").exists()

    assert export_onnx(tmp_path / "new", tmp_path / "onnx") > 0.99
    served = OnnxEncoder.from_folder(tmp_path / "onnx", max_tokens=16)
    assert agreement(tmp_path / "new", served, texts) > 0.99
    nearest = (served.encode(texts) @ centroids.T).argmax(axis=1)
    assert [classes[row] for row in nearest] == labels


@pytest.mark.slow
@exports
def test_an_export_agrees_with_the_torch_model_it_is_made_from(tmp_path: Path) -> None:
    export_onnx(minilm_folder(), tmp_path)
    exported = OnnxEncoder.from_folder(tmp_path)
    assert agreement(minilm_folder(), exported, few_prompts().texts[:200:3]) > 0.995
    assert (tmp_path / "model.onnx").stat().st_size < 60e6


@trains
@exports
def test_the_recipe_makes_an_encoder_and_its_map(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[Path] = []

    def quickly(source: Path, texts: Any, tags: Any, folder: Path, *, resume: bool) -> None:
        started.append(folder)
        config = FAST.model_copy(update={"epochs": 1, "batch_size": 32})
        train_encoder(source, texts, tags, folder, config=config, progress=False, resume=resume)

    monkeypatch.setattr(recipe, "minilm_folder", lambda: tiny)
    monkeypatch.setattr(recipe, "train_encoder", quickly)
    for module in (recipe, features):
        monkeypatch.setattr(module, "tagged_prompts", few_prompts)
    work, made = tmp_path / "work", tmp_path / "made"
    recipe.main([str(work), str(made)])
    assert re.fullmatch(r"mean cosine with the torch model: (0\.99\d\d|1\.0000)\n", capsys.readouterr().out)
    assert {path.name for path in made.iterdir()} == {
        "model.onnx",
        "tokenizer.json",
        "manifest.json",
        "general_map.safetensors",
    }
    pins = json.loads((made / "manifest.json").read_text())["sha256"]
    encoder = OnnxEncoder.from_folder(made)
    assert pins == {"model.onnx": encoder.weights.model_sha256, "tokenizer.json": encoder.weights.tokenizer_sha256}

    stored = features.stored_map(made, encoder)
    assert stored is not None and features.stored_map(made, OnnxEncoder()) is None
    config, names = FeatureConfig(surface=False), general_domains().names
    texts, tags = few_prompts()
    contexts = stored.reduced(config)(encoder.encode(texts))
    assert contexts.shape == (len(texts), 1 + len(names) + config.components)
    found = [names[row] for row in contexts[:, 1 : 1 + len(names)].argmax(axis=1)]
    assert np.mean([name == general_domains().of([tag]) for name, tag in zip(found, tags, strict=True)]) > 0.2

    recipe.main([str(work), str(tmp_path / "again")])  # what is trained is not trained again,
    monkeypatch.setattr(recipe, "tagged_prompts", lambda: (texts[1:], tags[1:]))
    recipe.train(work)  # unless the prompts changed
    assert len(started) == len(set(started)) == 2
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (made / "model.onnx").read_bytes()


@trains
@pytest.mark.parametrize("blocks", [0, 1])
def test_frozen_blocks_and_the_word_table_stay_as_they_are(tiny: Path, tmp_path: Path, blocks: int) -> None:
    config = FAST.model_copy(update={"epochs": 1, "frozen_blocks": blocks})
    train_encoder(tiny, *some_texts(), tmp_path, config=config, progress=False)
    before, after = (SentenceTransformer(str(folder), device="cpu")[0].state_dict() for folder in (tiny, tmp_path))
    assert set(before) == set(after)
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen = {name for name in before if blocks and ("embeddings." in name or "encoder.layer.0." in name)}
    assert same - {name for name in before if "pooler." in name} == frozen  # the pooler is not used
    assert len(frozen) == 21 * blocks


@trains
def test_a_killed_run_resumes_and_ends_where_an_undisturbed_one_does(tiny: Path, tmp_path: Path) -> None:
    texts, labels = some_texts()

    def kill(step: int) -> None:
        if step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder(tiny, texts, labels, tmp_path / "killed", config=FAST, progress=False, on_step=kill)
    kept = {path.name for path in (tmp_path / "killed" / "checkpoints").glob("checkpoint-*")}
    assert kept == {"checkpoint-5", "checkpoint-10"}
    half_written = tmp_path / "killed" / "checkpoints" / "checkpoint-15"
    half_written.mkdir()  # killed while a checkpoint was written: no centroids yet

    with pytest.raises(StateError, match="'killed' holds an interrupted run: resume it"):
        train_encoder(tiny, texts, labels, tmp_path / "killed", config=FAST, progress=False)
    with pytest.raises(StateError, match="had other texts, labels or settings"):
        train_encoder(tiny, texts[:-1], labels[:-1], tmp_path / "killed", config=FAST, progress=False, resume=True)

    steps: list[int] = []
    resumed = train_encoder(
        tiny, texts, labels, tmp_path / "killed", config=FAST, progress=False, resume=True, on_step=steps.append
    )
    once = FAST.model_copy(update={"save_steps": 1000})
    whole = train_encoder(tiny, texts, labels, tmp_path / "whole", config=once, progress=False, resume=True)
    assert steps == list(range(11, 25))
    assert resumed.steps == whole.steps == 24
    assert np.allclose([loss for _, loss in resumed.losses], [loss for _, loss in whole.losses], atol=1e-3)
    assert np.allclose(load_centroids(tmp_path / "killed")[1], load_centroids(tmp_path / "whole")[1], atol=1e-4)
    probe = ["bake a court", "sue the soup"]
    after, undisturbed = [
        np.asarray(SentenceTransformer(str(tmp_path / run), device="cpu").encode(probe)) for run in ("killed", "whole")
    ]
    assert np.allclose(after, undisturbed, atol=1e-3)


KILLED = """
import json, os, signal, sys
from mixllm_engine.encoding.training import TrainingConfig, train_encoder
source, folder, config, data = sys.argv[1:]

def kill(step):
    if step == 12:
        os.kill(os.getpid(), signal.SIGKILL)

config = TrainingConfig.model_validate_json(config)
train_encoder(source, *json.loads(data), folder, config=config, progress=False, on_step=kill)
"""


@trains
@pytest.mark.slow
def test_a_run_that_could_not_clean_up_resumes(tiny: Path, tmp_path: Path) -> None:
    """As above, but killed for good: nothing of the process is left to write or remove anything."""
    data, folder = some_texts(), tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(tiny), str(folder), FAST.model_dump_json(), json.dumps(data)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    steps: list[int] = []
    report = train_encoder(tiny, *data, folder, config=FAST, progress=False, resume=True, on_step=steps.append)
    assert steps == list(range(11, 25))
    assert report.steps == 24
    assert margin(folder) > margin(tiny) + 0.5


@trains
def test_what_can_not_be_trained_on_is_refused_before_anything_is_written(tiny: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    with pytest.raises(TableError, match="2 texts, but 1 labels"):
        train_encoder(tiny, ["a", "b"], ["x"], new)
    with pytest.raises(TableError, match="a text of class 'x' is empty"):
        train_encoder(tiny, [" ", "b"], ["x", "y"], new)
    with pytest.raises(TableError, match="at least two classes"):
        train_encoder(tiny, ["a", "b", "c"], ["x", "x", None], new)
    with pytest.raises(EncoderError, match="'nowhere' is no sentence-transformers model"):
        train_encoder("nowhere", ["a", "b"], ["x", "y"], new)
    with pytest.raises(ConfigError, match="frozen_blocks=2 leaves nothing to train of 2 blocks"):
        train_encoder(tiny, ["a", "b"], ["x", "y"], new, config=FAST.model_copy(update={"frozen_blocks": 2}))
    assert not new.exists()
    with pytest.raises(StateError, match=r"centroids.safetensors in 'model' is missing or damaged"):
        load_centroids(tiny)
    with pytest.raises(ValueError, match="temperature"):
        TrainingConfig(temperature=0.0)


@trains
def test_the_missing_extra_is_named(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.import_module

    def without_datasets(name: str, package: str | None = None) -> object:
        if name == "datasets":
            raise ModuleNotFoundError(name)
        return original(name, package)

    monkeypatch.setattr("mixllm_engine.encoding.training.importlib.import_module", without_datasets)
    with pytest.raises(ConfigError, match=r'training needs datasets.*pip install "mixllm\[train\]"'):
        train_encoder(tiny, ["a", "b"], ["x", "y"], tmp_path)
