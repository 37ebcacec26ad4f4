"""The packaged encoder and the feature map."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import threading
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine import EncoderError, OnnxEncoder, Query, Router
from mixllm_engine.config import FeatureConfig
from mixllm_engine.encoding.context import ContextMaker
from mixllm_engine.encoding.encoder import Encoder
from mixllm_engine.encoding.features import FeatureMap
from mixllm_engine.encoding.general_prompts import few_prompts, general_domains, tagged_prompts
from mixllm_engine.encoding.softmax_regression import softmax_regression
from mixllm_engine.encoding.surface import SIZE, surface
from mixllm_engine.encoding.weights import Weights
from mixllm_engine.testing import HashingEncoder, tiny_pool


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder()


def test_meaning_is_near_and_order_and_batches_do_not_matter(encoder: OnnxEncoder) -> None:
    texts = [
        "How do I sort a list in Python?",
        "Ways of ordering a Python list",
        "The weather in Rome",
        "x" * 5000,
        "?",
    ]
    vectors = encoder.encode(texts)
    assert vectors.shape == (5, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.7 > 0.3 > vectors[0] @ vectors[2]
    one_by_one = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.array_equal(vectors, one_by_one)
    assert np.array_equal(encoder.encode(texts * 20), np.tile(vectors, (20, 1)))  # by several threads
    assert encoder.encode([]).shape == (0, 384)


def test_tokens_are_counted_beyond_the_cut(encoder: OnnxEncoder) -> None:
    assert encoder.count_tokens("word " * 1000) == 1000
    assert np.allclose(encoder.encode(["word " * 1000]), encoder.encode(["word " * 900]), atol=1e-6)


def test_replaced_weights_are_refused(tmp_path: Path) -> None:
    packaged = Weights.packaged()
    for name in ("model.onnx", "tokenizer.json"):
        shutil.copy(packaged.folder / name, tmp_path)
    moved = Weights(folder=tmp_path, model_sha256=packaged.model_sha256, tokenizer_sha256=packaged.tokenizer_sha256)
    assert OnnxEncoder(moved).encode(["hello"]).shape == (1, 384)
    with (tmp_path / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EncoderError, match="model.onnx has sha256 .* is pinned"):
        OnnxEncoder(moved).encode(["hello"])
    with pytest.raises(EncoderError, match="tokenizer.json can't be read"):
        (tmp_path / "tokenizer.json").unlink()
        OnnxEncoder.from_folder(tmp_path)


def test_the_hub_is_named_when_it_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EncoderError, match=r"'nobody/nothing'.*neither in the hub's cache nor to be downloaded"):
        OnnxEncoder.from_hub("nobody/nothing")


def test_the_hubs_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    packaged = Weights.packaged()
    revision = "0" * 40
    snapshot = tmp_path / "models--me--encoder" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    for name in ("model.onnx", "tokenizer.json"):
        shutil.copy(packaged.folder / name, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(revision)
    download = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda *a, **k: download(*a, **{**k, "cache_dir": tmp_path, "local_files_only": True}),
    )
    cached = OnnxEncoder.from_hub("me/encoder")
    assert np.allclose(cached.encode(["hello"]), OnnxEncoder().encode(["hello"]))
    assert cached.fingerprint == OnnxEncoder().fingerprint


def test_an_encoder_survives_copying_and_threads(encoder: OnnxEncoder) -> None:
    expected = encoder.encode(["hello"])
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert np.array_equal(other.encode(["hello"]), expected)
    fresh, found = OnnxEncoder(), []
    threads = [threading.Thread(target=lambda: found.append(fresh.encode(["hello"]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(np.array_equal(vector, expected) for vector in found)


def test_the_protocol_is_met(encoder: OnnxEncoder) -> None:
    assert isinstance(encoder, Encoder) and isinstance(HashingEncoder(), Encoder)


def test_the_general_prompts_have_tags_and_every_tag_one_domain() -> None:
    texts, tags = tagged_prompts()
    assert len(texts) == len(tags) == len(set(texts)) > 6000
    assert all(text.strip() for text in texts)
    domains = general_domains()
    assert sorted(tag for own in domains.tags.values() for tag in own) == sorted(set(tags))
    few = few_prompts()
    assert set(few.tags) == set(tags) and set(few.texts) <= set(texts)


def test_the_stored_map_is_the_packaged_encoders_own_and_tells_domains(encoder: OnnxEncoder) -> None:
    manifest = json.loads((Weights.packaged().folder / "manifest.json").read_text())
    assert "all-MiniLM-L6-v2" in manifest["source"]
    stored = FeatureMap.general(encoder, FeatureConfig())
    assert stored is FeatureMap.general(OnnxEncoder(), FeatureConfig())
    names = general_domains().names
    assert stored.dimension == 1 + len(names) + FeatureConfig().components + SIZE
    plain = FeatureMap.general(encoder, FeatureConfig(surface=False))
    for text, name in {
        "Write a function that counts the vowels of a word.": "short python functions",
        "The cup fell off the shelf and hit the plate, so _ broke.": "pronouns and blanks",
        "Which gas do plants take in for photosynthesis?": "earth, environment and elementary science",
    }.items():
        posterior = plain(encoder.encode([text]))[0, 1 : 1 + len(names)]
        assert names[int(posterior.argmax())] == name
        with_surface = stored(np.append(encoder.encode([text])[0], surface(text)))
        assert np.allclose(with_surface[:-SIZE], plain(encoder.encode([text])[0]))
        assert np.array_equal(with_surface[-SIZE:], surface(text))


def test_another_encoder_learns_its_map_from_a_few_prompts() -> None:
    encoder = HashingEncoder()
    made = FeatureMap.general(encoder, FeatureConfig())
    assert made.domains.shape[0] == len(general_domains().names)
    none, clusters = FeatureConfig(domains="none", components=3), FeatureConfig(domains="clusters", clusters=5)
    assert FeatureMap.general(encoder, none).dimension == 4 + SIZE
    assert FeatureMap.general(encoder, none.model_copy(update={"surface": False})).dimension == 4
    assert FeatureMap.general(encoder, clusters.model_copy(update={"components": 3})).dimension == 9 + SIZE


def test_softmax_regression_finds_the_classes_and_its_gradient_nearly_ends() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8))
    labels = rng.integers(0, 3, size=300)
    rows = centres[labels] + 0.3 * rng.normal(size=(300, 8))
    weights, bias = softmax_regression(rows, labels)
    scores = rows @ weights.T + bias
    assert ((scores.argmax(axis=1) == labels).mean()) > 0.98
    moved, shift = softmax_regression(rows + 5.0, labels)  # a shift of all rows is the bias's business
    assert np.allclose(moved, weights) and np.allclose(shift, bias - 5.0 * weights.sum(axis=1))


@given(
    st.sampled_from(["tags", "clusters", "none"]),
    st.integers(1, 12),
    st.integers(0, 40),
    st.integers(1, 60),
    st.integers(0, 5),
    st.booleans(),
)
def test_features_have_their_shape_for_any_number_of_rows(
    domains: Literal["tags", "clusters", "none"], clusters: int, components: int, rows: int, seed: int, behind: bool
) -> None:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(rows, 16))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = rng.integers(0, 4, size=rows)
    config = FeatureConfig(domains=domains, clusters=clusters, components=components, surface=behind)
    features = FeatureMap.fit(embeddings, config, labels=labels, seed=seed)
    count = {"tags": int(labels.max()) + 1, "clusters": min(clusters, rows // 3), "none": 0}[domains]
    surfaces = rng.uniform(size=(rows, SIZE if behind else 0))
    context = features(np.hstack([embeddings, surfaces]))
    assert context.shape == (rows, features.dimension)
    assert features.dimension == 1 + count + min(components, max(rows - 1, 0), 16) + features.behind
    assert np.array_equal(context[:, features.dimension - features.behind :], surfaces)
    assert (context[:, 0] == 1.0).all() and np.isfinite(context).all()
    if count:
        assert np.allclose(context[:, 1 : 1 + count].sum(axis=1), 1.0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 30.0, 300.0, 400.0, 1e4, 1e90]), st.integers(1, 5))
def test_posteriors_are_those_of_the_definition_however_steep_the_map(seed: int, scale: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(6, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    domains, bias = scale * rng.normal(size=(count, 8)), scale * rng.normal(size=count)
    features = FeatureMap(mean=np.zeros(8), components=np.empty((8, 0)), domains=domains, bias=bias)
    exponents = embeddings @ domains.T + bias
    shares = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    expected = shares / shares.sum(axis=1, keepdims=True)
    assert np.allclose(features(embeddings)[:, 1:], expected)
    assert np.allclose(features(embeddings[0])[1:], expected[0])


def test_queries_are_encoded_once_and_an_embedding_is_as_good_as_its_text() -> None:
    class Counting(HashingEncoder):
        calls = 0

        def encode(self, texts):  # type: ignore[no-untyped-def]
            Counting.calls += len(texts)
            return super().encode(texts)

    maker = ContextMaker(Counting(), FeatureConfig())
    maker.make("warm up")
    before = Counting.calls
    first, second = maker.make("the same question"), maker.make("the same question")
    assert Counting.calls == before + 1
    assert np.array_equal(first.features, second.features)
    (embedding,) = HashingEncoder().encode(["the same question"])
    given = maker.make(Query(text="the same question", embedding=embedding))
    assert np.allclose(given.features, first.features) and np.allclose(given.embedding, first.embedding)
    assert Counting.calls == before + 1
    alone = maker.make(Query(embedding=embedding, prompt_tokens=3))  # nobody knows how long its text is
    assert np.allclose(alone.features[:-SIZE], first.features[:-SIZE]) and not alone.features[-SIZE:].any()
    plain = ContextMaker(HashingEncoder(), FeatureConfig(surface=False))
    assert np.allclose(plain.make(Query(embedding=embedding)).features, plain.make("the same question").features)


@given(st.text(min_size=1))
def test_a_surface_has_its_bounds_and_many_texts_are_as_one(text: str) -> None:
    length, lines, digits = surface(text)
    assert -0.7 <= length <= 0.7 and 0.0 <= lines <= 0.7 and 0.0 <= digits <= 2.1
    assert surface(text + "and more")[0] > length and surface(text + "\n")[1] > lines
    maker = ContextMaker(HashingEncoder(), FeatureConfig())
    if text.strip():
        assert np.allclose(maker.many([text])[0][0], maker.make(text).features)


def test_a_surface_tells_what_the_encoder_does_not_see(encoder: OnnxEncoder) -> None:
    short, long = "def f(x): return x", "def f(x):\n    return x\n\n" * 500
    assert np.allclose(*encoder.encode(["a b\nc", "a b c"]))
    assert surface("a b\nc")[1] > 0.0 == surface("a b c")[1]
    assert surface(long)[0] > 0.6 > 0.0 > surface(short)[0]
    assert surface("7" * 200_000)[2] == pytest.approx(2.1) and surface("seven")[2] == 0.0


def test_a_router_takes_any_encoder() -> None:
    router = Router(tiny_pool(), encoder=HashingEncoder(32))
    assert router.decide("hello").candidate in {"cheap", "dear"}
