"""``mixllm candidates``: prices, abilities and what was learned, of names, of files, of saved routers and of stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from mixllm_engine import Candidate, RouterConfig
from mixllm_engine.app.learned import interval
from mixllm_engine.config import LearningConfig
from tests.app.running import Command, router

KEYS = [
    "name",
    "model",
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "context_window",
    "supports",
    "labels",
    "mean_quality",
    "interval_95",
]


def listed(mixllm: Command, *arguments: str | Path) -> dict[str, dict[str, Any]]:
    done = mixllm("candidates", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)
    assert all(list(row) == KEYS for row in rows)
    return {row["name"]: row for row in rows}


def test_models_by_name_have_their_prices_from_the_map(mixllm: Command) -> None:
    row = listed(mixllm, "openai/gpt-4o-mini")["openai/gpt-4o-mini"]
    assert row["input_usd_per_mtok"] == pytest.approx(0.15)
    assert {"tools", "images"} <= set(row["supports"])
    assert (row["labels"], row["mean_quality"], row["interval_95"]) == (0, None, None)
    heading, line = mixllm("candidates", "openai/gpt-4o-mini").out.splitlines()
    assert heading.split()[:2] == ["candidate", "model"] and line.endswith("unknown") and " 0.15 " in line


def test_a_running_pool_by_its_store_alone(mixllm: Command, store: Path) -> None:
    mini = "openai/gpt-4o-mini"
    own = Candidate(name="local", model="openai/smollm2", input_usd_per_mtok=0.02, output_usd_per_mtok=0.04)
    with router(store, candidates=[mini, own]) as made:
        for step in range(10):
            made.feedback(made.decide(f"question {step}", force=mini), float(step > 1))
        stats = made.stats()["candidates"]
    rows = listed(mixllm, "--store", store)
    assert (rows[mini]["labels"], rows[mini]["mean_quality"]) == (10, pytest.approx(stats[mini]["mean_reward"]))
    low, high = rows[mini]["interval_95"]
    assert 0.4 < low < 0.8 < high < 0.96
    assert rows[mini]["output_usd_per_mtok"] == pytest.approx(0.6)
    # Nobody has told the store what this one costs.
    assert (rows["local"]["model"], rows["local"]["input_usd_per_mtok"], rows["local"]["supports"]) == (None,) * 3
    text = mixllm("candidates", "--store", store).out
    assert f"0.800 ({low:.3f} to {high:.3f})" in text
    assert next(line for line in text.splitlines() if line.startswith("local")).count("unknown") == 6


def test_a_pool_that_is_given_has_its_own_prices_beside_what_the_store_knows(
    mixllm: Command, store: Path, tmp_path: Path
) -> None:
    with router(store) as made:
        made.feedback(made.decide("hello", force="cheap"), 1.0)
    (tmp_path / "pool.toml").write_text(POOL)
    rows = listed(mixllm, "--pool", tmp_path / "pool.toml", "--store", store)
    assert (rows["cheap"]["input_usd_per_mtok"], rows["cheap"]["labels"]) == (0.1, 1)
    assert (rows["dear"]["labels"], rows["dear"]["mean_quality"]) == (0, None)


def test_a_saved_router_with_and_without_a_store(mixllm: Command, store: Path, tmp_path: Path) -> None:
    with router(store) as made:
        made.feedback(made.decide("hello", force="cheap"), 1.0)
        made.save(tmp_path / "state")
        made.feedback(made.decide("hello again", force="cheap"), 0.0)
    alone = listed(mixllm, "--state", tmp_path / "state")
    assert (alone["cheap"]["labels"], alone["cheap"]["mean_quality"]) == (1, 1.0)
    both = listed(mixllm, "--state", tmp_path / "state", "--store", store)
    assert (both["cheap"]["labels"], both["cheap"]["mean_quality"]) == (2, 0.5)
    assert both["dear"]["supports"] == ["tools"] and both["cheap"]["model"] == "openai/cheap"


@pytest.mark.parametrize("binary", ["policy_gradient", "both"])
def test_labels_that_the_policy_learned_count_once(
    binary: Literal["policy_gradient", "both"], mixllm: Command, tmp_path: Path
) -> None:
    with router(None, config=RouterConfig(learning=LearningConfig(binary=binary))) as made:
        for step in range(4):
            made.feedback(made.decide(f"question {step}", force="cheap"), float(step > 0))
        made.save(tmp_path / "state")
    row = listed(mixllm, "--state", tmp_path / "state")["cheap"]
    assert (row["labels"], row["mean_quality"]) == (4, 0.75)
    assert row["interval_95"] == pytest.approx(interval(0.75, 4))


def test_what_a_table_taught_in_a_store_brings_the_prices_along(mixllm: Command, store: Path) -> None:
    with router(store) as made:
        made.fit({"prompt": ["a", "b"], "cheap|quality": [0.0, 1.0], "dear|quality": [1.0, 1.0]}, progress=False)
        made.decide("hello")
    rows = listed(mixllm, "--store", store)
    assert (rows["dear"]["input_usd_per_mtok"], rows["dear"]["model"]) == (2.0, "openai/dear")
    assert (rows["cheap"]["labels"], rows["cheap"]["mean_quality"]) == (2, 0.5)


POOL = """
[[candidate]]
name = "cheap"
model = "openai/cheap"
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
supports_tools = true

[[candidate]]
name = "dear"
model = "openai/dear"
input_usd_per_mtok = 2.0
output_usd_per_mtok = 8.0
params = { temperature = 0.2 }
"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("candidate = 3", "has no [[candidate]] tables"),
        ("[[candidate]]\nname = 'a'", "has no model"),
        ("[[candidate]]\nname = 'a'\nmodel = 'openai/a'\nprice = 1", "says price of a candidate; allowed: name"),
        ("[[candidate]]\nname = 'a'\nmodel = 'openai/a'\napi_key = 'sk'", "keys belong into the environment"),
        ("[[candidate", "can't be read"),
        ("[[candidate]]\nname = 'a'\nmodel = 'openai/a'", "no price is known for candidate 'a'"),
    ],
)
def test_a_pool_that_makes_no_sense_is_one_clear_line(
    content: str, message: str, mixllm: Command, tmp_path: Path
) -> None:
    (tmp_path / "pool.toml").write_text(content)
    done = mixllm("candidates", "--pool", tmp_path / "pool.toml")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert message in done.err


def test_what_is_missing_is_said(mixllm: Command, tmp_path: Path) -> None:
    for arguments, message in (
        ([], "name some models"),
        (["--pool", tmp_path / "none.toml"], "can't be read"),
        (["--state", tmp_path / "none"], "none"),
        (["--store", tmp_path / "none.db"], "there is no store"),
        (["no/such-model"], "no price is known for candidate 'no/such-model'"),
    ):
        done = mixllm("candidates", *arguments)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert message in done.err
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.safetensors").write_bytes(b"damaged")
    assert mixllm("candidates", "--state", tmp_path / "state").code == 1
    assert mixllm("candidates", "--nonsense").code == 2
