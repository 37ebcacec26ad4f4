"""``mixllm evaluate``, ``shadow`` and ``bench``: what they print, and what they say when they can't."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mixllm_engine import Outcome, RolloutConfig, RouterConfig
from mixllm_engine.evaluation.bench import suite
from mixllm_engine.evaluation.bench.report import BenchReport, Budget, compared
from mixllm_engine.evaluation.bench.timing import Contender, Effort, alternate
from mixllm_engine.testing import tiny_router
from tests.app.running import Command, process
from tests.evaluation.test_datasets import routerbench


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
    done = process("evaluate", table, "--splits", "2", "--jobs", "1", "--output", out, "--json", *some)
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert told == json.loads((out / "report.json").read_text())
    page = (out / "report.html").read_text()
    assert llm in page
    assert "10 s under load" in page
    assert "poem number" not in page  # no query is part of a report
    assert list(out.glob("*.png"))
    assert "| **MixLLM** |" in (out / "report.md").read_text()


def test_evaluate_prints_a_table(mixllm: Command, tmp_path: Path) -> None:
    table, out = long_table(tmp_path / "outcomes.csv"), tmp_path / "report"
    some = [part for name in ("MixLLM", "oracle", "best single") for part in ("--system", name)]
    done = mixllm("evaluate", table, "--splits", "1", "--jobs", "1", "--max-wait-s", "0", "--output", out, *some)
    assert (done.code, done.err) == (0, "")
    assert "Routing outcomes" in done.out and "\x1b" not in done.out
    assert all(any(line.strip().startswith(name) for line in done.out.splitlines()) for name in ("MixLLM", "oracle"))
    assert done.out.endswith(f"written to {out / 'report.html'}\n")


def test_evaluate_copes_with_a_best_llm_that_is_free(mixllm: Command, tmp_path: Path) -> None:
    table, out = long_table(tmp_path / "outcomes.csv"), tmp_path / "report"
    table.write_text(table.read_text().replace("dear,1,0.01,", "dear,1,0,"))
    some = [part for name in ("MixLLM", "oracle", "best single") for part in ("--system", name)]
    done = mixllm("evaluate", table, "--splits", "1", "--jobs", "1", "--max-wait-s", "0", "--output", out, *some)
    assert (done.code, done.err) == (0, "")
    assert "The same quality as always" not in done.out  # there is nothing to save
    assert "The best single LLM of 1 of 1 splits is free." in (out / "report.html").read_text()


def test_evaluate_judges_a_log(mixllm: Command, store: Path, tmp_path: Path) -> None:
    with tiny_router(store=store) as router:
        for step in range(60):
            decision = router.decide(f"question {step}", willingness_to_pay=30.0)
            router.feedback(decision, float(decision.candidate == "dear"))
    done = mixllm("evaluate", "--log", store, "--output", tmp_path / "report")
    assert (done.code, done.err) == (0, "")
    assert "always dear" in done.out and "budget: low" in done.out
    page = (tmp_path / "report" / "report.html").read_text()
    assert "always dear" in page and "budget: low" in page
    told = json.loads(mixllm("evaluate", "--log", store, "--output", tmp_path / "report", "--json").out)
    assert {"about", "counterfactuals", "savings"} <= told.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.parquet"], "there is no file 'nowhere.parquet'"),
        (["--log", "nowhere.db"], "there is no store 'nowhere.db'"),
        (["paretobandit:test", "--system", "GPT"], "there is no system 'GPT'"),
        (["DAMAGED"], "damaged.parquet"),
        (["EMPTY"], ""),
    ],
)
def test_evaluate_says_what_is_wrong(arguments: list[str], message: str, mixllm: Command, tmp_path: Path) -> None:
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "empty.csv").write_text("query,candidate,quality,cost_usd\n")
    named = {"DAMAGED": tmp_path / "damaged.parquet", "EMPTY": tmp_path / "empty.csv"}
    done = mixllm("evaluate", *(named.get(one, one) for one in arguments), "--output", tmp_path / "report")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("mixllm: ") and message in done.err
    assert not (tmp_path / "report").exists()


def test_evaluate_refuses_a_file_in_the_place_of_its_folder(mixllm: Command, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("")
    done = mixllm("evaluate", "--output", tmp_path / "report")
    assert done.code == 2 and "is a file" in done.err


# -- shadow ----------------------------------------------------------------------------------------------------------


def test_shadow_tells_what_would_be_saved(mixllm: Command, store: Path) -> None:
    config = RouterConfig(rollout=RolloutConfig.shadow("dear"))
    with tiny_router(store=store, config=config) as router:
        for step in range(40):
            decision = router.decide(f"question {step}", willingness_to_pay=0.5)
            router.observe(decision.decision_id, Outcome(candidate="dear", prompt_tokens=2, response_tokens=300))
    done = mixllm("shadow", "--store", store)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("answered by") and "dear, 40 queries" in done.out and "share of cheap" in done.out
    told = json.loads(mixllm("shadow", "--store", store, "--json").out)
    assert list(told) == [
        "baseline", "queries", "spent_usd", "would_spend_usd", "saved_percent", "quality_change", "baseline_quality",
        "waiting_s", "would_wait_s", "shares", "warnings",
    ]  # fmt: skip
    assert (told["baseline"], told["queries"]) == ("dear", 40)
    wrong = mixllm("shadow", "--store", store, "--baseline", "cheap")
    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (1, "", 1)
    assert "no answers of 'cheap' in shadow mode" in wrong.err


def test_shadow_needs_a_log(mixllm: Command, store: Path) -> None:
    assert "there is no store" in mixllm("shadow", "--store", store).err
    assert mixllm("shadow").code == 2


# -- bench -----------------------------------------------------------------------------------------------------------


def measured(**settings: Any) -> BenchReport:
    """Measure a router's decisions in a moment, in place of all that `bench` measures in minutes."""
    router = tiny_router()
    contenders = [
        Contender(name="MixLLM", step=lambda serial: void(router.decide(f"question {serial}"))),
        Contender(name="[missing]", step=None, note="not installed: pip install missing"),
    ]
    effort = Effort(blocks=2, calls=3, warm_up=2, most_s=0.5)
    timed = alternate(contenders, effort, time.perf_counter_ns)
    budgets = {"MixLLM": Budget(of="p50", limit=1e9)}
    rows = compared(timed, part="decisions", setting="2 candidates", unit="us", against="MixLLM", budgets=budgets)
    return BenchReport(rows=tuple(rows), about={"settings": dict(settings)})


def void(_: object) -> None:
    """Drop a decision."""


def test_bench_prints_what_was_measured(mixllm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "run", measured)
    done = mixllm("bench", "--quick")
    assert (done.code, done.err) == (0, "")
    assert "2 candidates" in done.out and "p50 <= 1e+09: kept" in done.out and "pip install missing" in done.out
    assert done.out.isascii() and not any(line.endswith(" ") for line in done.out.splitlines())
    told = json.loads(mixllm("bench", "--quick", "--postgresql", "postgresql+psycopg://host/db", "--json").out)
    assert told["settings"] == {"quick": True, "postgresql": "postgresql+psycopg://host/db", "progress": False}
    report = BenchReport.from_dict(told)
    assert [row.system for row in report.rows] == ["MixLLM", "[missing]"]
    assert report.rows[0].p50 and report.rows[0].holds


def test_bench_knows_a_wrong_database_before_it_measures_for_minutes(mixllm: Command) -> None:
    done = mixllm("bench", "--postgresql", "log.db")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "no URL of PostgreSQL" in done.err
    assert mixllm("bench", "--blocks", "3").code == 2
