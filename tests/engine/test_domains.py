"""Domains: groups of tags, and the file in which a person edits them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine.encoding.domains import Domains, silhouette
from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.errors import ConfigError, TableError
from mixllm_engine.testing import HashingEncoder

FIELDS = {
    "law": ["law", "contract law", "criminal law", "legal advice", "court rulings"],
    "cooking": ["cooking", "baking bread", "recipes", "cooking pasta", "kitchen tools"],
    "python": ["python", "python programming", "debugging python code", "python functions", "python unit tests"],
}


def some_tags() -> list[tuple[str, ...]]:
    """Give each field's name on three texts, the others on one."""
    names = [tag for tags in FIELDS.values() for tag in tags] + 2 * list(FIELDS)
    return [(name,) for name in names]


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder()


@pytest.mark.parametrize("count", [3, None])
def test_tags_of_a_field_come_together_under_the_most_frequent_name(encoder: OnnxEncoder, count: int | None) -> None:
    domains = Domains.group(some_tags(), encoder, count=count)
    assert domains.names == ("cooking", "law", "python")
    assert {name: sorted(tags) for name, tags in domains.tags.items()} == {k: sorted(v) for k, v in FIELDS.items()}
    assert all(tags[0] == name for name, tags in domains.tags.items())


def test_grouping_does_not_depend_on_the_order_of_the_texts(encoder: OnnxEncoder) -> None:
    rows = some_tags()
    assert Domains.group(rows[::-1], encoder, count=4) == Domains.group(rows, encoder, count=4)


def test_few_tags_and_odd_numbers() -> None:
    encoder = HashingEncoder()
    assert Domains.group([("a",)], encoder).tags == {"a": ("a",)}
    assert Domains.group([("a", "b"), ("b",)], encoder).tags == {"b": ("b", "a")}
    assert len(Domains.group([("a", "b", "c")], encoder, count=3).names) == 3
    with pytest.raises(TableError, match="no text has a tag"):
        Domains.group([(), ()], encoder)
    for count in (0, 4):
        with pytest.raises(ConfigError, match=f"from 1 to the number of tags, 3, got {count}"):
            Domains.group([("a", "b", "c")], encoder, count=count)


def test_a_query_belongs_where_most_of_its_tags_do() -> None:
    domains = Domains(tags={"law": ("contracts", "courts"), "cooking": ("bread", "soup")})
    assert domains.of(["contracts", "courts", "bread"]) == "law"
    assert domains.of(["contracts", "bread"]) == domains.of(["bread", "contracts"]) == "cooking"  # a tie, by name
    assert domains.of(["weather", "courts"]) == "law"
    assert domains.labels([["soup"], [], ["weather"]]) == ("cooking", None, None)


def test_centroids_are_unit_means_of_the_queries() -> None:
    domains = Domains(tags={"law": ("contracts",), "cooking": ("bread",)})
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    found = domains.centroids(embeddings, [["contracts"], ["bread"], ["contracts"], []])
    assert np.allclose(found, [np.array([1.6, 0.8]) / np.hypot(1.6, 0.8), [0.0, 1.0]])
    cancelled = domains.centroids(embeddings, [["contracts"], ["bread"], [], ["contracts"]])
    assert np.allclose(np.linalg.norm(cancelled, axis=1), 1.0)
    with pytest.raises(TableError, match="no query belongs to 'cooking'"):
        domains.centroids(embeddings, [["contracts"]] * 4)
    with pytest.raises(TableError, match="4 embeddings, but tags for 1 queries"):
        domains.centroids(embeddings, [["contracts"]])


def test_the_file_can_be_edited_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "domains.json"
    domains = Domains(tags={"maths": ("algebra", 'a "quoted", tag'), "stats": ("mean",), "café": ("crème",)})
    domains.save(path)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 5  # one line for each domain
    assert "café" in path.read_text(encoding="utf-8")
    assert Domains.load(path) == domains
    edited = path.read_text(encoding="utf-8").replace('"stats"', '"maths"').replace('"café"', '"coffee"')
    path.write_text(edited, encoding="utf-8")
    assert Domains.load(path).tags == {"maths": ("algebra", 'a "quoted", tag', "mean"), "coffee": ("crème",)}
    with pytest.raises(ConfigError, match=r"domains.json holds unknown tags: \['crème'\]"):
        Domains.load(path, known={"algebra", 'a "quoted", tag', "mean"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ["x"], "b": ["x"]}', r"tag 'x' stands twice, in \['a', 'b'\]"),
        ('{"a": ["x", "x"]}', r"tag 'x' stands twice, in \['a'\]"),
        ('{"a": ["x"],}', "domains.json is not valid JSON: .*line 1"),
        ('{"a": "x"}', "domain 'a' needs a list of tags, got 'x'"),
        ('{"a": [1]}', "domain 'a' needs a list of tags"),
        ('{"a": {"x": 1}}', "domain 'a' needs a list of tags"),
        ('{"a": []}', "domain 'a' needs a name and at least one tag"),
        ('{" ": ["x"]}', "domain ' ' needs a name"),
        ('{"a": [""]}', "no tag may be empty"),
        ('["a"]', "must hold one object"),
        ("{}", "must hold one object"),
        ("3", "must hold one object"),
        ("", "not valid JSON"),
    ],
)
def test_a_spoilt_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "domains.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Domains.load(path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing.json can't be read: No such file"):
        Domains.load(tmp_path / "missing.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match="binary.json is not valid JSON"):
        Domains.load(tmp_path / "binary.json")


def test_silhouette_by_hand() -> None:
    # cosines: 01 = 1, 02 = 03 = 12 = 13 = 0, 23 = 0.6
    rows = np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [0, 0.6, 0.8]])
    assert silhouette(rows, np.array([0, 0, 1, 1])) == pytest.approx((1 + 1 + 0.6 + 0.6) / 4)
    assert silhouette(rows, np.array([0, 0, 1, 2])) == pytest.approx(0.5)  # alone: 0
    assert silhouette(rows, np.zeros(4, dtype=int)) == 0.0


@settings(deadline=None)
@given(st.integers(2, 20), st.integers(2, 5), st.integers(0, 1000))
def test_silhouette_agrees_with_scikit_learn(rows: int, clusters: int, seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    member = rng.integers(clusters, size=rows)
    found = silhouette(vectors, member)
    assert -1.0 <= found <= 1.0
    if 2 <= len(set(member)) < rows:
        assert found == pytest.approx(metrics.silhouette_score(vectors, member, metric="cosine"), abs=1e-6)
