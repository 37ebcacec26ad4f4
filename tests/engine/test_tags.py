"""Tags: from an LLM, from a person, and tidied."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine.encoding._tag_names import normalise_tag, tag_counts
from mixllm_engine.encoding.encoder import Embeddings, OnnxEncoder
from mixllm_engine.encoding.tags import LlmTagger, tags_from_column, tidy
from mixllm_engine.errors import CallError, ConfigError, TableError
from mixllm_engine.testing import HashingEncoder


def answering(answer: str) -> LlmTagger:
    return LlmTagger(lambda prompt: answer)


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ('["algebra", "proof"]', ("algebra", "proof")),
        ('```json\n["Algebra",\n "proof."]\n```', ("algebra", "proof")),
        ('Here you are: ["algebra"]. Anything else?', ("algebra",)),
        ('[{"tag": "algebra", "explanation": "x [1]"}, {"tag": "proof"}]', ("algebra", "proof")),
        ('{"tags": ["algebra", "proof"]}', ("algebra", "proof")),
        ('<think>As in ["example"] [1], so</think>["algebra"]', ("algebra",)),
        ('["algebra"] [see note]', ("algebra",)),
        ('["algebra"] and a broken ["pro', ("algebra",)),
        ('["algebra", "Algebra", "a very long sentence about it", ""]', ("algebra",)),
        ('["a", "b", "c", "d", "e", "f", "g"]', ("a", "b", "c", "d", "e")),
        ('["C++", "C#", "日本語"]', ("c++", "c#", "日本語")),
    ],
)
def test_a_list_of_tags_is_found_wherever_it_stands(answer: str, tags: tuple[str, ...]) -> None:
    assert answering(answer).parse(answer) == tags


@pytest.mark.parametrize(
    "answer",
    [None, "", "algebra, proof", "[]", "[1, 2]", '["algebra", 3]', '["algebra', "null", '[["algebra"]]', '["..."]',
     '[{"a": 1}]', "[" * 5000, '["one two three four five words"]', "\x00\ud800"],
)  # fmt: skip
def test_anything_else_is_rubbish(answer: str | None) -> None:
    assert LlmTagger(lambda prompt: answer).parse(answer) is None


@given(st.text(alphabet='[]{}",:abc 1\\\n', max_size=60))
def test_no_answer_raises(answer: str) -> None:
    tags = answering(answer).parse(answer)
    assert tags is None or (0 < len(tags) <= 5 and all(tag == normalise_tag(tag) for tag in tags))


def test_a_bad_answer_and_a_failed_call_cost_one_text_its_tags_and_are_counted() -> None:
    def complete(prompt: str) -> str | None:
        if "FAIL" in prompt:
            raise CallError("time-out")
        if "NOTHING" in prompt:
            return None
        return "I would rather not." if "RUBBISH" in prompt else '["greeting"]'

    tagging = LlmTagger(complete).tag(["hello", "RUBBISH", "good day", "FAIL", "hi", "NOTHING", "hey"])
    assert tagging.tags == (("greeting",), (), ("greeting",), (), ("greeting",), (), ("greeting",))
    assert (tagging.unusable, tagging.failed) == (2, 1)
    assert LlmTagger(complete).tag([]).tags == ()


def test_mostly_rubbish_is_an_error_that_comes_early_and_quotes_no_answer() -> None:
    asked: list[str] = []

    def complete(prompt: str) -> str:
        asked.append(prompt)
        return "As a language model"

    with pytest.raises(CallError, match=r"20 answers held no JSON list.*0 calls failed") as raised:
        LlmTagger(complete).tag(["hello"] * 1000)
    assert "language model" not in str(raised.value)  # an answer may repeat the prompt
    assert len(asked) <= 24
    with pytest.raises(CallError, match="of 3 texts, 2 answers"):
        LlmTagger(lambda prompt: '["a"]' if "one" in prompt.split("<request>")[1] else "?").tag(["one", "two", "six"])
    assert LlmTagger(lambda p: '["a"]' if "one" in p.split("<request>")[1] else "?").tag(["one", "two"]).unusable == 1


def test_failed_calls_are_the_cause() -> None:
    def complete(prompt: str) -> str:
        raise CallError("no key")

    with pytest.raises(CallError, match="1 calls failed") as caught:
        LlmTagger(complete).tag(["hello"])
    assert str(caught.value.__cause__) == "no key"

    def broken(prompt: str) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # a mistake in the callable is not an answer
        LlmTagger(broken).tag(["hello"])


def test_the_prompt_holds_the_text_as_it_is_and_cut() -> None:
    tagger = LlmTagger(lambda prompt: "[]", max_tags=3, max_characters=21)
    prompt = tagger.prompt("{text} {max_tags} %s: " + "x" * 100)
    assert "<request>\n{text} {max_tags} %s:\n</request>" in prompt
    assert "1 to 3 tags" in prompt and "xx" not in prompt


def test_threads_keep_the_order_and_progress_changes_nothing() -> None:
    barrier = threading.Barrier(4, timeout=10)

    def complete(prompt: str) -> str:
        barrier.wait()  # only four at once get through
        return json.dumps([prompt.split("<request>\n")[1].split("\n")[0]])

    texts = [f"text {n}" for n in range(16)]
    tagging = LlmTagger(complete, threads=4).tag(texts, progress=True)
    assert tagging.tags == tuple((text,) for text in texts)


@pytest.mark.parametrize("argument", ["max_tags", "max_words", "max_characters", "threads"])
def test_odd_settings_are_refused(argument: str) -> None:
    settings: dict[str, Any] = {argument: 0}
    with pytest.raises(ConfigError, match=f"{argument} must be at least 1, got 0"):
        LlmTagger(str, **settings)


def test_labels_by_a_person() -> None:
    values = ["law", ["algebra", " proof ", "algebra"], None, float("nan"), "", [], np.array(["a", "b"]), "x, y"]
    assert tags_from_column(values) == (
        ("law",), ("algebra", "proof"), (), (), (), (), ("a", "b"), ("x, y",),
    )  # fmt: skip
    for wrong in (3, [3], ["a", None], {"a": 1}.values(), np.array(3)):
        with pytest.raises(TableError, match="row 1: a label is a string or a list of strings"):
            tags_from_column(["fine", wrong])


def test_spelling_and_plurals_are_unified_only_where_it_is_safe() -> None:
    rows = [
        ["Proofs"],
        ["proof", "Number-Theory"],
        ["proof"],
        ["number_theory"],
        ["physics"],
        ["physic"],
        ["news", "new"],
    ]
    tidied = tidy(rows, min_count=1)
    assert tidied[0] == ("proof",) and tidied[1] == ("proof", "number theory") and tidied[3] == ("number theory",)
    assert tidied[4:] == (("physics",), ("physic",), ("news", "new"))
    assert tidy([["queries"], ["query"], ["query"], ["classes"], ["class"], ["matrices"]], min_count=1) == (
        ("query",), ("query",), ("query",), ("class",), ("class",), ("matrices",),
    )  # fmt: skip
    assert tidy([["integrals"]] * 3 + [["integral"]], min_count=4) == (("integrals",),) * 4  # the frequent name wins


def test_rare_tags_go_and_a_tag_twice_on_a_text_counts_once() -> None:
    assert tidy([["a", "A", "b"], ["a"], ["b", "b"], ["c", "c", "c"]], min_count=2) == (("a", "b"), ("a",), ("b",), ())
    assert tidy([], min_count=2) == ()
    assert tidy([["!!!", ""], []], min_count=1) == ((), ())


class Angles:
    """An encoder that puts each tag at a given angle."""

    fingerprint, dimension = "angles", 2

    def __init__(self, **degrees: float) -> None:
        self.degrees = degrees

    def encode(self, texts: Any) -> Embeddings:
        angle = np.deg2rad([self.degrees[text] for text in texts])
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).reshape(-1, 2).astype(np.float32)

    def count_tokens(self, text: str) -> int:
        return 1


def test_near_duplicates_take_the_most_frequent_name_without_chains() -> None:
    encoder = Angles(maths=0, mathematics=15, arithmetic=30, law=90)  # cos 15 = .966, cos 30 = .866
    rows = [["maths"]] * 5 + [["mathematics", "maths"]] * 3 + [["arithmetic"]] * 4 + [["law"]] * 2
    tidied = tidy(rows, min_count=2, encoder=encoder)
    assert set(tidied) == {("maths",), ("arithmetic",), ("law",)}
    assert tag_counts(tidied) == {"maths": 8, "arithmetic": 4, "law": 2}
    assert tidy(rows, min_count=2, encoder=encoder, merge_cosine=1.0)[5] == ("mathematics", "maths")


def test_the_packaged_encoder_merges_what_means_the_same() -> None:
    rows = [["unit testing"], ["unit testing"], ["unit tests"], ["contract law"]]
    assert tidy(rows, min_count=1, encoder=OnnxEncoder(), merge_cosine=0.8) == (
        ("unit testing",), ("unit testing",), ("unit testing",), ("contract law",),
    )  # fmt: skip


WORDS = st.sampled_from(["proof", "proofs", "Law", "law", "civil law", "laws", "query", "queries", "c++", "x y"])


@given(st.lists(st.lists(WORDS, max_size=4), max_size=12), st.randoms(use_true_random=False), st.integers(1, 3))
def test_the_order_of_texts_does_not_matter(rows: list[list[str]], random_: random.Random, least: int) -> None:
    order = list(range(len(rows)))
    random_.shuffle(order)
    encoder: Callable[[], HashingEncoder] = HashingEncoder
    tidied = tidy(rows, min_count=least, encoder=encoder())
    shuffled = tidy([rows[row][::-1] for row in order], min_count=least, encoder=encoder())
    assert [set(tidied[row]) for row in order] == [set(tags) for tags in shuffled]
    assert all(count >= least for count in tag_counts(tidied).values())
    assert tidy(tidied, min_count=least, encoder=encoder()) == tidied  # nothing is left to tidy


@pytest.mark.parametrize(("argument", "value"), [("min_count", 0), ("merge_cosine", 0.0), ("merge_cosine", 1.5)])
def test_odd_thresholds_are_refused(argument: str, value: float) -> None:
    settings: dict[str, Any] = {argument: value}
    with pytest.raises(ConfigError, match=f"{argument} must be"):
        tidy([["a"]], **settings)
