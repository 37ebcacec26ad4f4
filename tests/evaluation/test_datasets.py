from __future__ import annotations

import json
import pickle
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine.errors import TableError
from mixllm_engine.evaluation.datasets import PACKAGED, load, packaged
from mixllm_engine.evaluation.datasets.lengths import estimated_tokens, implied_tokens
from mixllm_engine.evaluation.pools import FullFeedback, Source, read_pool
from mixllm_engine.evaluation.prices import candidates
from mixllm_engine.store import open_store

# The published order: qualities by name, answers and costs in another order, the oracle last.
BY_NAME = (
    "WizardLM/WizardLM-13B-V1.2",
    "claude-instant-v1",
    "claude-v1",
    "claude-v2",
    "gpt-3.5-turbo-1106",
    "gpt-4-1106-preview",
    "meta/code-llama-instruct-34b-chat",
    "meta/llama-2-70b-chat",
    "mistralai/mistral-7b-chat",
    "mistralai/mixtral-8x7b-chat",
    "zero-one-ai/Yi-34B-Chat",
)
AS_ASKED = tuple(BY_NAME[place] for place in (4, 1, 2, 3, 5, 7, 9, 10, 0, 6, 8))
PROMPTS = (
    ["Which planet is the largest?\nA) Mars\nB) Jupiter\nAnswer:"],
    ["Write a limerick.", 'Now in "Latin".'],
    ["谜语", "猜一个字"],
)
EVALS = ("mmlu-astronomy", "mtbench", "Chinese_character_riddles")


def routerbench() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {
        "sample_id": [f"{name}.dev.0" for name in EVALS],
        "prompt": [repr(turns) for turns in PROMPTS],
        "eval_name": list(EVALS),
    }
    table |= {model: pd.Series(rng.choice([0.0, 0.25, 1.0], size=3), dtype=object) for model in BY_NAME}
    table |= {f"{model}|model_response": ["['B)']", "['One', 'Duo']", "['字']"] for model in AS_ASKED}
    table |= {f"{model}|total_cost": rng.uniform(1e-5, 1e-2, size=3) for model in AS_ASKED}
    return pd.DataFrame({**table, "oracle_model_to_route_to": ["gpt-4-1106-preview", "claude-v1", "no_model_correct"]})


def check_routerbench(data: FullFeedback, frame: pd.DataFrame) -> None:
    assert data.names == tuple(sorted(BY_NAME))
    assert data.texts == ("\n".join(PROMPTS[0]), 'Write a limerick.\nNow in "Latin".', "谜语\n猜一个字")
    assert data.domains == EVALS
    assert data.quality.tolist() == frame[list(data.names)].astype(float).to_numpy().tolist()
    assert data.cost_usd.tolist() == frame[[f"{name}|total_cost" for name in data.names]].to_numpy().tolist()
    assert data.response_tokens.tolist() == [[1.0] * 11, [2.0] * 11, [1.0] * 11]
    assert data.prompt_tokens.tolist() == [14.0, 9.0, 5.0]
    assert data.dropped == 0
    assert data.source is not None
    assert data.source.licence is None
    assert "Licence: not known" in str(data.source)


def long_table() -> dict[str, list[Any]]:
    return {
        "query": ["p", "p", "q", "q", "q"],
        "candidate": ["a", "b", "b", "a", "a"],
        "quality": [0.1, 0.2, 0.3, 0.4, 0.6],
        "cost_usd": [1.0, 2.0, 3.0, 4.0, 4.0],
        "prompt_tokens": [7, 7, 9, 9, 9],
        "response_tokens": [10, 20, 30, 40, 60],
        "latency_s": [0.5, 0.25, 1.0, 2.0, 4.0],
    }


def wide_table() -> dict[str, list[Any]]:
    return {
        "prompt": ["p", "q", "p"],
        "domain": ["x", "y", "z"],
        "a|quality": [0.0, 1.0, 0.5],
        "a|cost_usd": [1.0, 1.0, 1.0],
        "a|latency_s": [3.0, None, 1.0],
        "b|quality": [1.0, 1.0, 1.0],
        "b|cost_usd": [9.0, 9.0, 9.0],
    }


# -- RouterBench -----------------------------------------------------------------------------------------------------


def test_routerbench_is_read_in_its_published_columns(tmp_path: Path) -> None:
    frame = routerbench()
    assert frame.shape == (3, 37)
    check_routerbench(load(frame), frame)
    frame.to_parquet(tmp_path / "rb.parquet")
    frame.to_csv(tmp_path / "rb.csv", index=False)
    for file in (tmp_path / "rb.parquet", str(tmp_path / "rb.csv")):
        data = load(file)
        assert data.name == "rb"
        check_routerbench(data, frame)


def test_a_pickle_needs_a_flag_and_the_refusal_says_why(tmp_path: Path) -> None:
    frame = routerbench()
    file = tmp_path / "routerbench_0shot.pkl"
    frame.to_pickle(file)
    with pytest.raises(TableError, match=r"loading a pickle runs whatever code .* say allow_pickle=True"):
        load(file)
    data = load(file, allow_pickle=True)
    assert data.name == "routerbench_0shot"
    check_routerbench(data, frame)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_a_refused_pickle_has_not_run(tmp_path: Path) -> None:
    file, mark = tmp_path / "bomb.PKL", tmp_path / "ran"
    file.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(TableError, match="is a pickle"):
        load(file)
    assert not mark.exists()
    with pytest.raises(TableError, match="holds NoneType, not a pandas data frame"):
        load(file, allow_pickle=True)
    assert mark.exists()


def test_a_broken_pickle_is_an_error_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "broken.pickle").write_bytes(b"not a pickle")
    with pytest.raises(TableError, match=r"'broken.pickle' can't be loaded as a pickle"):
        load(tmp_path / "broken.pickle", allow_pickle=True)


def test_rows_of_routerbench_without_a_model_are_dropped_and_counted() -> None:
    frame = routerbench()
    frame = pd.concat([frame, frame], ignore_index=True)
    frame.loc[0, "claude-v1"] = None
    frame.loc[0, "claude-v1|model_response"] = None
    frame.loc[1, "gpt-4-1106-preview|total_cost"] = np.nan
    frame.loc[2, "claude-v2|model_response"] = None
    data = load(frame)
    assert data.dropped == 3
    assert data.domains == EVALS


def test_a_model_of_routerbench_needs_no_answers() -> None:
    data = load(routerbench().drop(columns=["claude-v1|model_response"]))
    assert np.isnan(data.response_tokens[:, data.column("claude-v1")]).all()
    assert np.isfinite(data.response_tokens[:, data.column("claude-v2")]).all()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("claude-v1", 1.5, r"row 1: 'claude-v1' is 1.5, it must be in \[0, 1\] \(1 such values\)"),
        ("claude-v1", "wrong", "column 'claude-v1' must hold numbers"),
        ("claude-v1|total_cost", -1e-3, r"row 1: 'claude-v1\|total_cost' is -0.001, it must be finite and at least 0"),
        ("prompt", None, "row 1: the query in column 'prompt' is None, it must be text"),
        ("eval_name", " ", "row 1: the domain is empty"),
    ],
)
def test_bad_values_of_routerbench_are_named(column: str, value: Any, message: str) -> None:
    frame = routerbench().astype({column: object})
    frame.loc[1, column] = value
    with pytest.raises(TableError, match=message):
        load(frame)


def test_columns_that_routerbench_lacks_are_named() -> None:
    frame = routerbench().drop(columns=["claude-v1", "claude-v2|total_cost"])
    with pytest.raises(
        TableError, match=r"RouterBench's table, but it has no column 'claude-v1', 'claude-v2\|total_cost'"
    ):
        load(frame)
    with pytest.raises(TableError, match="it has no column 'question'"):
        load(routerbench(), text="question")


@pytest.mark.parametrize("prompt", ["[1, 2]", "['unfinished", "[x] or [y]?", "['']", "[]", "plain"])
def test_prompts_that_are_no_list_of_turns_stay_as_they_are(prompt: str) -> None:
    frame = routerbench()
    frame.loc[0, "prompt"] = prompt
    assert load(frame).texts[0] == prompt


# -- packaged rows ---------------------------------------------------------------------------------------------------


def test_the_packaged_rows_are_the_default_and_need_no_import_of_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pareto_bandit", raising=False)
    data = load()
    assert "pareto_bandit" not in sys.modules
    val, test = load("paretobandit:val"), load("paretobandit:test")
    assert (len(data), len(val), len(test)) == (3609, 1785, 1824)
    assert data.texts == val.texts + test.texts
    assert not set(val.texts) & set(test.texts)
    assert data.names == ("google/gemini-2.5-pro", "meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-large-2512")
    assert data.quality.mean(axis=0) == pytest.approx([0.9335, 0.7910, 0.9239], abs=1e-4)
    assert data.cost_usd.mean(axis=0) == pytest.approx([1.5097e-2, 2.893e-5, 5.149e-4], rel=1e-3)
    assert len(set(data.domains or ())) == 9
    assert data.dropped == 0
    assert data.source is not None
    assert data.source.licence == "Apache-2.0"
    assert val.joined(test).source == data.source


def test_packaged_lengths_and_prices_explain_packaged_costs() -> None:
    data = load("paretobandit:val")
    prices = [(c.input_usd_per_mtok, c.output_usd_per_mtok) for c in candidates(data)]
    assert np.array(prices) == pytest.approx(np.array([[1.25, 10.0], [0.1, 0.1], [0.5, 1.5]]), rel=0.02)
    assert data.response_tokens.min() >= 1.0


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "mixllm\[evaluate\]"'):
        load(PACKAGED[0])


@pytest.mark.parametrize(
    "rows", [[{"prompt": "p", "source": "mmlu"}], [{"prompt": "p", "source": "x", "arms": {"new": {}}}]]
)
def test_a_package_of_another_form_is_refused(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    with pytest.raises(TableError, match=r"in the form of version 0.1.1 \(FileNotFoundError"):
        load("paretobandit:val")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "models.json").write_text('{"models": []}')
    (tmp_path / "data" / "examples").mkdir(parents=True)
    (tmp_path / "data" / "examples" / "val.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(TableError, match=r"in the form of version 0.1.1 \(KeyError"):
        load("paretobandit:val")


def test_packaged_rows_have_no_other_column_of_queries() -> None:
    with pytest.raises(TableError, match="leave text='question' out"):
        load("paretobandit", text="question")


# -- tables of one's own ---------------------------------------------------------------------------------------------


def test_a_long_table_is_read_with_its_latencies(tmp_path: Path) -> None:
    pd.DataFrame(long_table()).to_csv(tmp_path / "mine.csv", index=False)
    for data in (load(long_table()), load(tmp_path / "mine.csv")):
        assert data.texts == ("p", "q")
        assert data.names == ("a", "b")
        assert data.quality.tolist() == [[0.1, 0.2], [0.5, 0.3]]
        assert data.prompt_tokens.tolist() == [7.0, 9.0]
        assert data.response_tokens.tolist() == [[10.0, 20.0], [50.0, 30.0]]
        assert data.latency_s is not None
        assert data.latency_s.tolist() == [[0.5, 0.25], [3.0, 1.0]]
    assert data.source == Source(name="mine", about="a table that was given, not a data set that MixLLM knows.")


def test_a_wide_table_is_read_with_its_latencies_and_its_repeated_queries() -> None:
    data = load(wide_table())
    assert data.texts == ("p", "p")  # the row without a latency is gone
    assert data.dropped == 1
    assert data.domains == ("x", "z")
    assert data.latency_s is not None
    assert data.latency_s[:, 0].tolist() == [3.0, 1.0]
    assert np.isnan(data.latency_s[:, 1]).all()


def test_latencies_follow_their_rows_and_candidates() -> None:
    data = load(long_table())
    assert data.latency_s is not None
    assert data.take([1]).latency_s == pytest.approx(data.latency_s[[1]])
    assert data.restrict({"b"}).latency_s == pytest.approx(data.latency_s[:, [1]])
    joined = data.joined(data.take([0]))
    assert joined.latency_s == pytest.approx(data.latency_s[[0, 1, 0]])
    without = {column: values for column, values in long_table().items() if column != "latency_s"}
    assert load(without).latency_s is None
    assert data.joined(load(without)).latency_s is None
    assert load(without).joined(data).latency_s is None


def test_pools_of_different_sources_have_none_when_joined() -> None:
    assert load(long_table()).joined(read_pool(long_table())).source is None


def test_a_missing_latency_of_a_long_table_drops_its_row() -> None:
    table = long_table()
    table["latency_s"][0] = None
    table = {column: values + values[2:4] for column, values in table.items()}
    table["query"][-2:] = ["r", "r"]
    data = load(table)
    assert data.texts == ("q", "r")
    assert data.dropped == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quality": [0.1, 0.2, 0.3, 0.4, 1.2]}, r"row 4: 'quality' is 1.2, it must be in \[0, 1\]"),
        ({"cost_usd": [-1.0, 2.0, 3.0, 4.0, 4.0]}, "row 0: 'cost_usd' is -1.0, it must be finite and at least 0"),
        ({"latency_s": [1.0, 2.0, -3.0, 4.0, 4.0]}, "row 2: 'latency_s' is -3.0"),
        ({"candidate": ["a"] * 5}, "'table' has one candidate only, 'a'"),
        ({"quality": [0.1, None, 0.3, 0.4, 0.6]}, r"one complete row only \(1 were dropped\)"),
        ({"cost_usd": [0.0] * 5}, "all answers of 'table' cost nothing: there is nothing to save"),
        ({"cost_usd": [None] * 5}, "no row of 'table' has the quality and the cost of every candidate"),
    ],
)
def test_tables_that_tell_too_little_are_refused(change: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(TableError, match=message):
        load(long_table() | change)


def test_an_empty_table_and_a_column_that_is_there_twice_are_refused() -> None:
    with pytest.raises(TableError, match="the table has no rows"):
        load({column: [] for column in long_table()})
    frame = pd.DataFrame(long_table())
    frame.columns = frame.columns.str.replace("latency_s", "cost_usd")
    with pytest.raises(TableError, match="more than one column of the name 'cost_usd'"):
        load(frame)
    with pytest.raises(TableError, match="neither wide .* nor long"):
        load({"prompt": ["p"], "answer": ["q"]})


# -- what is no table ------------------------------------------------------------------------------------------------


def test_a_log_is_sent_to_the_off_policy_estimate(tmp_path: Path) -> None:
    hidden = tmp_path / "log.parquet"  # known by its first bytes, whatever it is called
    with sqlite3.connect(hidden) as connection:
        connection.execute("create table t (x)")
    connection.close()
    open_store(tmp_path / "mixllm.db").close()
    for named in (hidden, tmp_path / "mixllm.db", "not-there.sqlite3"):
        with pytest.raises(TableError, match=r"outcome of the chosen candidate alone.*mixllm evaluate --log"):
            load(named)


def test_the_password_of_a_log_is_not_shown() -> None:
    with pytest.raises(TableError, match=r"'postgresql\+psycopg://...' is a database") as caught:
        load("postgresql+psycopg://me:secret@host/db")
    assert "secret" not in str(caught.value)


def test_nothing_is_downloaded() -> None:
    with pytest.raises(TableError, match="MixLLM downloads no data"):
        load("https://example.org/table.parquet")
    with pytest.raises(TableError, match="get RouterBench's table .* from https://huggingface.co/datasets/withmartian"):
        load("routerbench")
    with pytest.raises(TableError, match=r"no file 'mine.parquet'.*'paretobandit:test'"):
        load("mine.parquet")
    with pytest.raises(TableError, match="ends in .parquet or .csv"):
        load(__file__)


# -- lengths ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(min_size=1), min_size=1))
def test_estimated_lengths_bound_the_bytes(texts: list[str]) -> None:
    tokens = estimated_tokens(texts)
    sizes = np.array([len(text.encode()) for text in texts])
    assert (tokens >= 1).all()
    assert (4 * tokens >= sizes).all()
    assert (4 * (tokens - 1) <= np.maximum(sizes - 1, 0)).all()


def test_half_a_surrogate_pair_has_a_length() -> None:
    assert estimated_tokens(["\ud83d"]).tolist() == [1.0]


@given(st.floats(0, 1e4), st.floats(1, 1e4), st.floats(0, 100), st.floats(0.01, 100))
def test_implied_lengths_solve_the_bill(prompt: float, response: float, dear: float, cheap: float) -> None:
    cost_usd = np.array([(prompt * dear + response * cheap) / 1e6])
    found = implied_tokens(cost_usd, np.array([prompt]), (dear, cheap))
    assert found == pytest.approx([response], rel=1e-6, abs=1e-6 * max(prompt * dear / cheap, 1.0))
