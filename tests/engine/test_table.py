"""Tables of outcomes: what is read from them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mixllm_engine import RouterConfig, TableError
from mixllm_engine.learning.table import read_table
from mixllm_engine.testing import tiny_router
from tests.engine import plain

KNOWN = ("cheap", "dear")


def wide(rows: int = 10, /, **columns: Any) -> pd.DataFrame:
    base = {
        "prompt": [f"question {k}" for k in range(rows)],
        "prompt_tokens_cl100k": 8,
        "cheap|quality": 0.5,
        "dear|quality": 0.9,
        "cheap|response_tokens_cl100k": 40,
        "dear|response_tokens_cl100k": 50,
        "other|quality": 0.5,
    }
    return pd.DataFrame({**base, **columns}, index=range(rows))


def long(*rows: tuple[str, str, float | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["prompt", "candidate", "quality"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (wide().drop(columns="prompt"), "has no column 'prompt' for the queries"),
        (pd.DataFrame({"prompt": ["a"]}), "neither wide"),
        (wide()[["prompt", "other|quality"]], r"no candidate of the pool .* has a '\|quality' column"),
        (wide(0), "the table has no rows"),
        (wide(prompt=" "), "row 0: the query is empty"),
        (wide(3, prompt=["a", None, "b"]), "row 1: the query in column 'prompt' is None, it must be text"),
        (wide(3, prompt=[1, 2, 3]), "row 0: the query in column 'prompt' is 1, it must be text"),
        (wide(**{"dear|quality": 1.5}), r"row 0: 'dear\|quality' is 1.5, it must be in \[0, 1\] \(10 such values\)"),
        (wide(3, **{"dear|quality": [0, 1, -0.1]}), r"row 2: 'dear\|quality' is -0.1"),
        (wide(**{"dear|quality": np.inf}), r"row 0: 'dear\|quality' is inf"),
        (wide(**{"dear|quality": np.nan}), "no quality at all is known for 'dear'"),
        (wide(**{"dear|quality": "good"}), r"column 'dear\|quality' must hold numbers"),
        (wide(3, **{"dear|cost_usd": [0.1, None, -1.0]}), r"row 2: 'dear\|cost_usd' is -1.0.*finite and at least 0"),
        (wide(**{"cheap|response_tokens_cl100k": np.inf}), r"row 0: 'cheap\|response_tokens_cl100k' is inf"),
        (wide(prompt_tokens_cl100k=-1), "row 0: 'prompt_tokens_cl100k' is -1.0"),
        ({"prompt": ["a", "b"], "cheap|quality": [0.5]}, r"column 'cheap\|quality' has 1 values for 2 queries"),
        ({"prompt": ["a", "b"], "cheap|quality": 0.5}, r"column 'cheap\|quality' must be a list of values.*not float"),
        ({"prompt": "abc", "cheap|quality": [0.5] * 3}, "column 'prompt' must be a list of values.*not str"),
        ({"prompt": ["a"], "cheap|quality": iter([0.5])}, r"column 'cheap\|quality' must be a list of values"),
        ({"prompt": ["a"], "cheap|quality": [10**400]}, r"column 'cheap\|quality' must hold numbers"),
        (pa.table([["a"], [0.1], [0.2]], names=["prompt", "cheap|quality", "cheap|quality"]), "more than one column"),
        (long(("a", "cheap", 0.5), ("a", "cheap", -0.5)), "row 1: 'quality' is -0.5"),  # their mean would be fine
        (long(("a", "cheap", 0.5)).assign(candidate=None), "row 0: the candidate in column 'candidate' is None"),
        (long(("a", "nobody", 0.5)), "no candidate of the pool .* occurs in the table; it has 'nobody'"),
        (long(("a", "cheap", None)), "no quality at all is known for 'cheap'"),
        ({"prompt": ["a", "b"], "candidate": ["cheap"], "quality": [1, 1]}, "'candidate' has 1 values for 2 queries"),
        (42, "a table is a pandas data frame.*not int"),
        ("outcomes.xlsx", "file ends in .parquet or .csv"),
        ("missing.parquet", "can't be read as a table"),
        ("missing.csv", "can't be read as a table"),
    ],
)
def test_bad_tables_are_refused_with_the_place(table: Any, message: str) -> None:
    router = tiny_router()
    before = router.predict(["hello"]).quality
    with pytest.raises(TableError, match=message):
        router.fit(table, progress=False)
    assert np.array_equal(router.predict(["hello"]).quality, before)


def test_prompts_in_a_csv_file_may_have_many_lines(tmp_path: Path) -> None:
    prompts = [f"first line of {number}\nsecond, with a comma\n\n" + "and more " * 40 for number in range(4000)]
    frame = pd.DataFrame({"prompt": prompts, "cheap|quality": 0.5, "dear|quality": 1.0})
    frame.to_csv(tmp_path / "t.csv", index=False)  # more than the reader takes in at once
    read = read_table(tmp_path / "t.csv", text="prompt", known=["cheap", "dear"])
    assert list(read.texts) == prompts
    assert read.quality.tolist() == [[0.5, 1.0]] * 4000


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"not at all")
    with pytest.raises(TableError, match="'t.parquet' can't be read as a table"):
        tiny_router().fit(tmp_path / "t.parquet", progress=False)


def test_missing_is_missing_however_it_is_said() -> None:
    says = [0.5, None, np.nan, pd.NA, 0.7]
    for column in (says, pd.array([0.5, pd.NA, pd.NA, pd.NA, 0.7], dtype="Float64")):
        table = read_table(wide(5, **{"cheap|quality": column}), text="prompt", known=KNOWN)
        assert np.array_equal(table.quality[:, 0], [0.5, np.nan, np.nan, np.nan, 0.7], equal_nan=True)


def test_in_a_wide_table_every_row_counts() -> None:
    table = read_table(pd.concat([wide(1), wide(1, **{"cheap|quality": 1.0})]), text="prompt", known=KNOWN)
    assert (len(table.texts), table.repeated) == (2, 0)
    assert table.quality[:, 0].tolist() == [0.5, 1.0]


def test_in_a_long_table_measurements_of_the_same_are_averaged() -> None:
    frame = long(
        ("a", "cheap", 0.0), ("b", "cheap", 1.0), ("a", "cheap", 1.0), ("a", "dear", 0.4), ("a", "cheap", None)
    ).assign(cost_usd=[1.0, 2.0, np.nan, 3.0, 5.0], prompt_tokens=[10, 20, 10, 12, 10])
    table = read_table(frame, text="prompt", known=KNOWN)
    assert table.texts == ("a", "b")
    assert np.array_equal(table.quality, [[0.5, 0.4], [1.0, np.nan]], equal_nan=True)
    assert np.array_equal(table.cost_usd, [[3.0, 3.0], [2.0, np.nan]], equal_nan=True)
    assert table.prompt_tokens.tolist() == [11.0, 20.0]
    assert table.repeated == 2
    report = tiny_router().fit(frame, progress=False)
    assert (report.rows, report.labels, report.repeated) == (2, {"cheap": 2, "dear": 1}, 2)


def test_rows_of_strangers_teach_nothing_whatever_they_say() -> None:
    frame = long(("a", "cheap", 0.5), ("b", "stranger", 7.0))
    table = read_table(frame, text="prompt", known=KNOWN)
    assert (table.texts, table.candidates, table.ignored) == (("a",), ("cheap",), ("stranger",))


def test_prompt_lengths_are_taken_where_they_are_known() -> None:
    frame = wide(3, **{"cheap|prompt_tokens": [10, None, None], "dear|prompt_tokens": [20, 30, None]})
    assert read_table(frame, text="prompt", known=KNOWN).prompt_tokens.tolist() == [15.0, 30.0, 8.0]


def test_columns_that_nobody_asks_for_are_not_converted() -> None:
    class Untouchable:
        def to_pylist(self) -> list[Any]:
            raise AssertionError("a column of whole answers was read")

    class Table:
        column_names = ("prompt", "cheap|quality", "cheap|answer")

        def column(self, name: str) -> Any:
            return Untouchable() if name == "cheap|answer" else pa.array(["a"] if name == "prompt" else [0.5])

    assert read_table(Table(), text="prompt", known=KNOWN).candidates == ("cheap",)


def test_names_with_dots_are_found_in_files(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prompt": ["a"], "gpt-3.5|quality": [0.25], "gpt-3|quality": [0.75]})
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", text="prompt", known=("gpt-3", "gpt-3.5"))
    assert table.quality.tolist() == [[0.75, 0.25]]


def test_a_table_without_some_of_the_pool_leaves_them_as_they_were() -> None:
    router = tiny_router(names=("cheap", "dear", "missing"))
    before = router.predict(["question 3"])
    report = router.fit(wide(20), progress=False)
    assert (report.untaught, report.ignored) == (("missing",), ("other",))
    assert np.array_equal(router.predict(["question 3"]).quality[:, 2], before.quality[:, 2])


@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_one_class_alone_is_learned_and_budgets_still_work(quality: float) -> None:
    router = tiny_router(config=RouterConfig(features=plain.FEATURES))
    report = router.fit(wide(60, **{"cheap|quality": quality, "dear|quality": quality}), progress=False)
    assert report.mean_quality == {"cheap": quality, "dear": quality}
    predicted = router.predict(["question 3", "something else"])
    assert np.allclose(predicted.quality, quality, atol=0.05)
    assert all(np.isfinite(values).all() for values in (predicted.cost_usd, predicted.uncertainty))
    decisions = [router.decide("question 3", budget=word) for word in ("very_low", "low", "medium", "very_high")]
    assert decisions[0].candidate == "cheap"
    assert all(np.isfinite(decision.scores["dear"].total) for decision in decisions)


def test_one_row_is_enough() -> None:
    router = tiny_router()
    report = router.fit(wide(1), progress=False)
    assert (report.rows, report.labels) == (1, {"cheap": 1, "dear": 1})
    assert np.isfinite(router.predict(["question 0"]).quality).all()
    assert router.decide("question 0", budget="medium").candidate in KNOWN
