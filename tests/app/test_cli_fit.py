"""``mixllm fit``: the report, the progress bar beside it, and tables that can't be learned from."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from mixllm_engine import Router
from tests.app.running import ROOT, Command, command, process
from tests.app.test_cli_candidates import POOL

ROWS = 40


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "outcomes.csv", ROWS)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    (tmp_path / "pool.toml").write_text(POOL)
    return tmp_path / "pool.toml"


def write_table(path: Path, rows: int) -> Path:
    heading = "prompt,cheap|quality,cheap|cost_usd,dear|quality,dear|cost_usd,stranger|quality"
    lines = [f"Question number {row},{float(row % 4 > 0)},0.0001,1.0,0.002,0.0" for row in range(rows)]
    path.write_text("\n".join([heading, *lines, ""]))
    return path


def test_a_table_is_learned_and_what_was_learned_is_told(
    mixllm: Command, table: Path, pool: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    done = mixllm("fit", table, "--pool", pool, "--output", state)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"learned from {ROWS} queries; saved in {state}"
    assert lines[1].split() == ["candidate", "labels", "mean", "quality", "$", "a", "query"]
    assert [line.split()[:3] for line in lines[2:4]] == [["cheap", "40", "0.750"], ["dear", "40", "1.000"]]
    assert [line.split()[0] for line in lines[5:10]] == ["very_low", "low", "medium", "high", "very_high"]
    assert lines[10:] == ["not in the pool, ignored: stranger"]
    with Router.load(state) as router:
        assert router.stats()["candidates"]["cheap"]["mean_reward"] == pytest.approx(0.75)


def test_json_alone_is_on_standard_output(table: Path, pool: Path, tmp_path: Path) -> None:
    done = process("fit", table, "--pool", pool, "--output", tmp_path / "state", "--json")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert list(report) == [
        "rows", "labels", "mean_quality", "mean_cost_usd", "budgets_usd", "ignored", "untaught", "repeated",
    ]  # fmt: skip
    assert report["labels"] == {"cheap": ROWS, "dear": ROWS}
    assert (report["ignored"], report["untaught"], report["repeated"]) == (["stranger"], [], 0)


def test_a_person_sees_progress_and_the_output_stays_clean(pool: Path, tmp_path: Path) -> None:
    table, master_slave = write_table(tmp_path / "long.csv", 140), pty.openpty()
    done = subprocess.Popen(
        command("fit", table, "--pool", pool, "--output", tmp_path / "state", "--json"),
        stdout=subprocess.PIPE, stderr=master_slave[1], cwd=ROOT, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(master_slave[1])
    seen = b""
    with suppress(OSError), open(master_slave[0], "rb", buffering=0) as screen:  # EIO: the other side is closed
        while some := screen.read(4096):
            seen += some
    out, _ = done.communicate()
    assert done.returncode == 0
    assert b"encoding queries" in seen and b"100%" in seen
    assert json.loads(out)["rows"] == 140


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "outcomes.csv"),
        ("", "outcomes.csv"),
        ("text,cheap|quality\na,1.0\n", "prompt"),
        ("prompt,cheap|quality\na,2.0\n", "2.0"),
        ("prompt,cheap|quality\na,good\n", "good"),
        ("prompt,nobody|quality\na,1.0\n", "nobody"),
        ("prompt,cheap|quality\n,1.0\n", "must be text"),
    ],
)
def test_a_table_that_teaches_nothing_is_one_clear_line(
    content: str | None, message: str, mixllm: Command, pool: Path, tmp_path: Path
) -> None:
    table = tmp_path / "outcomes.csv"
    if content is not None:
        table.write_text(content)
    done = mixllm("fit", table, "--pool", pool, "--output", tmp_path / "state")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("mixllm: ") and message in done.err
    assert not (tmp_path / "state").exists()


def test_a_damaged_file_and_a_file_of_another_kind(mixllm: Command, pool: Path, tmp_path: Path) -> None:
    for name in ("damaged.parquet", "outcomes.xlsx"):
        (tmp_path / name).write_bytes(b"PAR1 and no more")
        done = mixllm("fit", tmp_path / name, "--pool", pool, "--output", tmp_path / "state")
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert name in done.err


def test_wrong_usage(mixllm: Command, table: Path, pool: Path) -> None:
    assert "name the candidates" in mixllm("fit", table, "--output", table.parent / "state").err
    assert mixllm("fit", table, "--pool", pool).code == 2
    in_the_way = mixllm("fit", table, "--pool", pool, "--output", table)  # known before anything is learned
    assert in_the_way.code == 2 and "is a file" in in_the_way.err
