"""Exit codes, pipes, terminals, secrets, missing extras, completion, and how long it takes to begin."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

import mixllm_engine
from mixllm_engine.app.ending import EXIT_CODES, run
from mixllm_engine.errors import ConfigError
from tests.app.running import ROOT, Command, command, process, router, terminal

COMMANDS = ("fit", "candidates", "stats", "explain", "feedback", "export", "import", "evaluate", "shadow", "bench")
PASSWORD = "hunter2hunter2"
URL = f"postgresql+psycopg://ada:{PASSWORD}@127.0.0.1:1/db"


def test_help_and_version() -> None:
    shown = process("--help")
    assert (shown.code, shown.err) == (0, "")
    assert all(re.search(rf"^  {name} ", shown.out, re.MULTILINE) for name in COMMANDS)
    assert EXIT_CODES in " ".join(shown.out.split())
    assert not re.search(r"^  .*\.\.\.$", shown.out, re.MULTILINE)  # each command is said in one line
    assert shown.out.isascii() and max(map(len, shown.out.splitlines())) <= 80
    assert process("--version") == (0, f"mixllm {mixllm_engine.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name: str, mixllm: Command) -> None:
    shown = mixllm(name, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert f"Usage: mixllm {name}" in shown.out and "--json" in shown.out


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["stats", "--nonsense"], ["stats"], ["evaluate", "--jobs", "0"]]
)
def test_wrong_usage_is_two(arguments: list[str], mixllm: Command) -> None:
    done = mixllm(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage: mixllm" in done.err


def test_errors_are_one_line_whatever_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise ConfigError(f"no\n  way to {URL},\nnor to {URL}?password=x")

    assert run(app, []) == 1
    assert capsys.readouterr().err == (
        "mixllm: no way to postgresql+psycopg://***@127.0.0.1:1/db, nor to "
        "postgresql+psycopg://***@127.0.0.1:1/db?password=x\n"
    )


def test_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.command()
    def wait() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)

    assert run(app, []) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_of_the_program_is_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        import mixllm_engine.no_such_module  # type: ignore[import-not-found]  # noqa: F401

    with pytest.raises(ImportError, match="no_such_module"):
        run(app, [])


# -- pipes and terminals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_leaves_is_no_reason_for_a_traceback(more: list[str], store: Path) -> None:
    router(store).close()
    running = subprocess.Popen(
        command("stats", "--store", store, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()  # long before anything is written
    said = running.stderr.read()
    running.stderr.close()
    assert (running.wait(), said) == (1, b"")


def test_a_pipe_gets_plain_text_of_any_width_and_a_terminal_a_table(store: Path) -> None:
    long = "a-candidate-with-a-very-long-name-" * 4
    with router(
        store, candidates=[mixllm_engine.Candidate(name=long, model="m", input_usd_per_mtok=1, output_usd_per_mtok=1)]
    ) as made:
        decision = made.decide("hello")
    for arguments in (["stats"], ["candidates"], ["explain", decision.decision_id]):
        piped = process(*arguments, "--store", store, env={"COLUMNS": "40", "TERM": "xterm-256color"})
        assert (piped.code, piped.err) == (0, "")
        assert long in piped.out and piped.out.isascii() and "\x1b" not in piped.out
        assert not any(line.endswith(" ") for line in piped.out.splitlines())
        seen = terminal(*arguments, "--store", store, env={"NO_COLOR": "1"})
        assert "───" in seen and not re.search("\x1b\\[[0-9;]*3[0-9]", seen)  # the table, and no colour
        first = [line.split()[0] for line in seen[seen.index("───") :].splitlines() if line.split()]
        assert "".join(first).count(long) == 1  # folded, and not a sign is lost


# -- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["stats"], ["candidates"], ["explain", "a"], ["feedback", "a", "1"], ["shadow"]])
@pytest.mark.parametrize("where", [URL, URL.replace("://", ":/"), f"mysql://ada:{PASSWORD}@host/db", f"{URL}:x"])
def test_no_password_of_a_store_is_shown(arguments: list[str], where: str, mixllm: Command) -> None:
    done = mixllm(*arguments, "--store", where)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert PASSWORD not in done.err and "ada" not in done.err


def test_no_password_is_shown_where_nobody_expects_one(
    mixllm: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = tmp_path / "log.jsonl"
    table.write_text("")
    for arguments in (
        ["stats", URL],
        ["stats", "--store", "none.db", URL],
        ["evaluate", URL],
        ["evaluate", "--log", URL],
        ["feedback", "a", URL, "--store", "none.db"],
        ["export", str(tmp_path / "out"), "--store", URL],
        ["import", str(table), "--store", URL],
        ["bench", "--postgresql", f"mysql://ada:{PASSWORD}@host/db"],
        [f"--store={URL}", "stats"],
    ):
        done = mixllm(*arguments)
        assert done.code in (1, 2)
        assert PASSWORD not in done.out + done.err
    monkeypatch.setenv("MIXLLM_STORE", URL)
    for arguments in (["stats"], ["stats", "--help"], ["stats", "more"]):
        done = mixllm(*arguments)
        assert PASSWORD not in done.out + done.err


def test_no_password_gets_into_a_report(
    mixllm: Command, monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path
) -> None:
    with router(store) as made:
        for step in range(40):
            made.feedback(made.decide(f"question {step}", willingness_to_pay=30.0), float(step % 2))
    monkeypatch.setattr(sys, "argv", ["mixllm", "evaluate", "--log", URL])
    assert mixllm("evaluate", "--log", store, "--output", tmp_path / "report").code == 0
    for file in (tmp_path / "report").iterdir():
        assert PASSWORD.encode() not in file.read_bytes()
    told = json.loads((tmp_path / "report" / "report.json").read_text())
    assert told["about"]["command"] == "mixllm evaluate --log postgresql+psycopg://127.0.0.1:1/db"


# -- extras, completion, start ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("without", "arguments", "extra"),
    [
        ("pyarrow", ["fit", "TABLE", "--candidate", "openai/gpt-4o-mini", "--output", "OUT"], "evaluate"),
        ("pyarrow", ["evaluate", "TABLE", "--output", "OUT"], "evaluate"),
        ("matplotlib", ["evaluate", "--log", "STORE", "--output", "OUT"], "evaluate"),
        ("matplotlib", ["evaluate", "TABLE", "--output", "OUT"], "evaluate"),  # before minutes of work
        ("psycopg", ["stats", "--store", URL], "postgres"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(
    without: str, arguments: list[str], extra: str, store: Path, tmp_path: Path
) -> None:
    with router(store) as made:
        for step in range(30):
            made.feedback(made.decide(f"question {step}", willingness_to_pay=30.0), float(step % 2))
    (tmp_path / "table.csv").write_text("prompt,openai/gpt-4o-mini|quality\nhello,1.0\n")
    named = {"TABLE": str(tmp_path / "table.csv"), "STORE": str(store), "OUT": str(tmp_path / "out")}
    typed = ["mixllm", *(named.get(one, one) for one in arguments)]
    code = (
        f"import sys; sys.modules[{without!r}] = None; sys.argv = {typed!r}\n"
        "from mixllm_engine.app.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mixllm: ") and done.stderr.count("\n") == 1, done.stderr
    assert re.search(rf"pip install ['\"]mixllm\[{extra}\]['\"]", done.stderr)
    assert not (tmp_path / "out").exists()


def test_a_bare_import_error_is_told_by_what_brings_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()

    @app.command()
    def draw() -> None:
        raise ModuleNotFoundError("No module named 'gradio.themes'", name="gradio.themes")

    assert run(app, []) == 1
    assert capsys.readouterr().err == "mixllm: No module named 'gradio.themes': pip install \"mixllm[demo]\"\n"


def test_shells_complete_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        asked = {"_MIXLLM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        return process(env=asked).out.split()

    assert completed("mixllm st") == ["stats"]
    assert set(completed("mixllm feedback --")) >= {"--store", "--key", "--weight", "--credit", "--json"}
    script = f"{' '.join(command('--show-completion'))}; true"  # bash is the shell that is found
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "complete -o default -F" in shown.stdout and "_MIXLLM_COMPLETE=complete_bash" in shown.stdout


def test_nothing_heavy_is_loaded_before_a_command_needs_it() -> None:
    code = "import sys; import mixllm_engine.app.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    heavy = {"numpy", "pandas", "sqlalchemy", "pydantic", "onnxruntime", "litellm", "torch", "matplotlib", "gradio"}
    assert heavy.isdisjoint(loaded.stdout.split())
