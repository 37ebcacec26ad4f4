"""The command line: text, JSON, error paths, and a store that another process writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mixllm_engine.testing import tiny_router
from tests.evaluation.test_datasets import routerbench

ROOT = Path(__file__).parents[2]


def mixllm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mixllm_engine.app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def test_a_late_feedback_from_a_second_process_is_learned(store: Path) -> None:
    with tiny_router(store=store) as router:
        decision = router.decide("What is two and two?")
        before = router.predict(["What is two and two?"])
        done = mixllm("feedback", decision.decision_id, "1.0", "--store", str(store))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"applied: {decision.candidate} got 1 from 'user'\n"
        again = mixllm("feedback", decision.decision_id, "1.0", "--store", str(store), "--json")
        assert json.loads(again.stdout)["status"] == "duplicate"
        stats = router.stats()
        assert (stats["feedback_applied"], stats["feedback_duplicate"]) == (1, 1)
        after = router.predict(["What is two and two?"])
        column = after.candidates.index(decision.candidate)
        assert after.quality[0, column] > before.quality[0, column]


def test_explain_and_stats(store: Path) -> None:
    with tiny_router(store=store) as router:
        decision = router.decide("hello")
    shown = mixllm("explain", decision.decision_id, "--store", str(store))
    assert decision.candidate in shown.stdout and "quality" in shown.stdout
    data = json.loads(mixllm("explain", decision.decision_id, "--store", str(store), "--json").stdout)
    assert data["candidate"] == decision.candidate
    assert data["scores"]["dear"]["total"] == pytest.approx(decision.scores["dear"].total)
    assert "decisions            1" in mixllm("stats", "--store", str(store)).stdout
    assert json.loads(mixllm("stats", "--store", str(store), "--json").stdout)["decisions"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["feedback", "abc", "1.0"], "no decision 'abc' in this store"),
        (["feedback", "abc", "7"], "reward=7.0 must be a number in [0, 1]"),
        (["explain", "abc"], "no decision 'abc'"),
    ],
)
def test_errors_are_one_line_and_exit_code_one(arguments: list[str], message: str, store: Path) -> None:
    tiny_router(store=store).close()
    done = mixllm(*arguments, "--store", str(store))
    assert done.returncode == 1
    assert done.stderr.startswith("mixllm: ") and message in done.stderr and done.stderr.count("\n") == 1


def test_a_mistyped_store_is_not_made(tmp_path: Path) -> None:
    done = mixllm("stats", "--store", str(tmp_path / "typo.db"))
    assert done.returncode == 1 and "there is no store" in done.stderr
    assert not (tmp_path / "typo.db").exists()


def test_wrong_usage_is_exit_code_two() -> None:
    assert mixllm("feedback", "abc").returncode == 2


def long_table(path: Path) -> Path:
    """Write outcomes in which the domain word decides who is good."""
    rows = ["query,candidate,quality,cost_usd,prompt_tokens,response_tokens,domain"]
    for number in range(60):
        topic = ("poem", "sum")[number % 2]
        for name, price in (("cheap", 0.001), ("dear", 0.01)):
            good = topic == "sum" or name == "dear"
            rows.append(f"{topic} {topic} number {number},{name},{int(good)},{price},10,{20 + number},{topic}")
    path.write_text("\n".join(rows) + "\n")
    return path


def routerbench_table(path: Path) -> Path:
    """Write a table in RouterBench's published columns."""
    frame = pd.concat([routerbench()] * 12, ignore_index=True)
    frame["sample_id"] = [f"{name}.dev.{row}" for row, name in enumerate(frame["eval_name"])]
    frame["prompt"] = [repr([f"poem number {row}"]) for row in range(len(frame))]
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(("made", "llm"), [(long_table, "dear"), (routerbench_table, "mixtral-8x7b-chat")])
def test_evaluate_writes_a_report(made: Callable[[Path], Path], llm: str, tmp_path: Path) -> None:
    table, out = made(tmp_path / "outcomes.csv"), tmp_path / "report"
    some = [part for name in ("MixLLM", "oracle", "Zero mix", "best single") for part in ("--system", name)]
    done = mixllm("evaluate", str(table), "--splits", "2", "--jobs", "1", "--output", str(out), "--json", *some)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads((out / "report.json").read_text())
    page = (out / "report.html").read_text()
    assert llm in page
    assert "10 s under load" in page
    assert "poem number" not in page  # no query is part of a report
    assert list(out.glob("*.png"))
    assert "| **MixLLM** |" in (out / "report.md").read_text()


def test_evaluate_judges_a_log(store: Path, tmp_path: Path) -> None:
    with tiny_router(store=store) as router:
        for step in range(60):
            decision = router.decide(f"question {step}", willingness_to_pay=30.0)
            router.feedback(decision, float(decision.candidate == "dear"))
    done = mixllm("evaluate", "--log", str(store), "--output", str(tmp_path / "report"))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "report.html").read_text()
    assert "always dear" in page
    assert "budget: low" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere.parquet"], "there is no file 'nowhere.parquet'"),
        (["evaluate", "--log", "nowhere.db"], "there is no store 'nowhere.db'"),
        (["evaluate", "paretobandit:test", "--system", "GPT"], "there is no system 'GPT'"),
    ],
)
def test_evaluate_says_what_is_wrong(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = mixllm(*arguments, "--output", str(tmp_path / "report"))
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "report").exists()


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


def test_a_table_is_learned_and_what_was_learned_is_listed(tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text(POOL)
    rows = 40
    outcomes = {
        "prompt": [f"Question number {row}" for row in range(rows)],
        "cheap|quality": [float(row % 4 > 0) for row in range(rows)],
        "cheap|cost_usd": [0.0001] * rows,
        "dear|quality": [1.0] * rows,
        "dear|cost_usd": [0.002] * rows,
        "stranger|quality": [0.0] * rows,
    }
    pd.DataFrame(outcomes).to_csv(tmp_path / "outcomes.csv")
    pool, state = ("--pool", str(tmp_path / "pool.toml")), str(tmp_path / "state")
    done = mixllm("fit", str(tmp_path / "outcomes.csv"), *pool, "--output", state, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["labels"] == {"cheap": rows, "dear": rows}
    assert report["ignored"] == ["stranger"]

    listed = json.loads(mixllm("candidates", "--state", state, "--json").stdout)
    assert [row["name"] for row in listed] == ["cheap", "dear"]
    assert listed[0]["supports"] == ["tools"]
    assert listed[0]["mean_quality"] == pytest.approx(0.75)
    low, high = listed[0]["interval_95"]
    assert 0.59 < low < 0.75 < high < 0.87
    text = mixllm("candidates", "--state", state).stdout
    assert "0.750" in text
    text = mixllm("fit", str(tmp_path / "outcomes.csv"), *pool, "--output", state).stdout
    assert "learned from 40 queries" in text
    assert "ignored: stranger" in text


def test_models_by_name_have_their_prices_from_the_map() -> None:
    (row,) = json.loads(mixllm("candidates", "openai/gpt-4o-mini", "--json").stdout)
    assert row["input_usd_per_mtok"] == pytest.approx(0.15)
    assert (row["labels"], "mean_quality" in row) == (0, False)
    assert "unknown" in mixllm("candidates", "openai/gpt-4o-mini").stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("candidate = 3", "has no [[candidate]] tables"),
        ("[[candidate]]\nname = 'a'", "has no model"),
        ("[[candidate]]\nname = 'a'\nmodel = 'openai/a'\nprice = 1", "says price of a candidate; allowed: name"),
        ("[[candidate]]\nname = 'a'\nmodel = 'openai/a'\napi_key = 'sk'", "keys belong into the environment"),
        ("[[candidate", "can't be read"),
        ("[[candidate]]\nname = 'a'\nmodel = 'openai/a'", "price"),
    ],
)
def test_a_pool_that_makes_no_sense_is_one_clear_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "pool.toml").write_text(content)
    done = mixllm("candidates", "--pool", str(tmp_path / "pool.toml"))
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_nobody_is_no_pool(tmp_path: Path) -> None:
    assert "name some models" in mixllm("candidates").stderr
    assert "name the candidates" in mixllm("fit", str(tmp_path / "t.csv"), "--output", str(tmp_path)).stderr


def test_a_store_goes_through_a_file(store: Path, tmp_path: Path) -> None:
    with tiny_router(store=store) as router:
        decision = router.decide("What is two and two?")
        router.feedback(decision, 1.0)
    done = mixllm("export", str(tmp_path / "log.jsonl"), "--store", str(store), "--json")
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout).values()) >= 3
    copy = tmp_path / "copy.db"
    assert "rows read from" in mixllm("import", str(tmp_path / "log.jsonl"), "--store", str(copy)).stdout
    with tiny_router(store=copy) as router:
        assert router.stats()["feedback_applied"] == 1
        assert router.feedback(decision.decision_id, 1.0).status == "duplicate"
    again = mixllm("import", str(tmp_path / "log.jsonl"), "--store", str(copy))
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
