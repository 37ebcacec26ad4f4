"""``mixllm demo``: what it says, what it refuses, and that Ctrl-C ends it."""

from __future__ import annotations

import builtins
import sys
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from mixllm_engine.app.cli import app
from mixllm_engine.app.demo import command, serving, stage
from mixllm_engine.app.demo.command import rehearse
from mixllm_engine.app.demo.serving import bound
from mixllm_engine.app.demo.stage import Stage, prepare
from mixllm_engine.app.demo.standin import StandIn
from mixllm_engine.app.demo.visits import Visits
from mixllm_engine.errors import ConfigError
from tests.app.demo_stage import make_stage

runner = CliRunner()


class Served:
    """Stands in for the server: says that it is ready, then gets Ctrl-C."""

    def __init__(self, ready: Any) -> None:
        self.ready = ready

    def run(self, sockets: list[Any]) -> None:
        assert sockets[0].getsockname()[1] > 0
        self.ready()
        raise KeyboardInterrupt


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> list[Stage]:
    """Serve nothing, from a small stage."""
    made: list[Stage] = []

    def small(say: Any) -> Stage:
        say("learning ...")
        made.append(make_stage())
        return made[-1]

    monkeypatch.setattr(command, "need_packages", lambda: None)
    monkeypatch.setattr(stage, "prepare", small)
    monkeypatch.setattr(serving, "application", lambda visits, access: None)
    monkeypatch.setattr(serving, "server", lambda application, ready: Served(ready))
    return made


def test_it_learns_says_where_it_is_and_ends_with_ctrl_c(staged: list[Stage]) -> None:
    done = runner.invoke(app, ["demo", "--port", "0"])
    assert done.exit_code == 0
    said = done.output.splitlines()
    assert said[0] == "learning ..." and said[-1] == "ended"
    assert "MixLLM demo: http://127.0.0.1:" in said[-2] and "token" not in said[-2]
    with pytest.raises(Exception, match="there is no saved router|state"):
        staged[0].router(0)  # the fitted state is gone


def test_beyond_this_machine_the_link_has_a_token(staged: list[Stage]) -> None:
    done = runner.invoke(app, ["demo", "--port", "0", "--host", "0.0.0.0"])
    assert done.exit_code == 0 and done.output.count("?token=") == 1
    given = runner.invoke(app, ["demo", "--port", "0", "--host", "0.0.0.0"], env={"MIXLLM_DEMO_TOKEN": "given-token"})
    assert "?token=given-token " in given.output


def test_the_page_is_opened_on_request(staged: list[Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("typer.launch", seen.append)
    runner.invoke(app, ["demo", "--port", "0"])
    assert seen == []
    runner.invoke(app, ["demo", "--port", "0", "--open"])
    assert len(seen) == 1 and seen[0].startswith("http://127.0.0.1:")


def test_what_is_wrong_is_said_before_anything_is_learned(staged: list[Stage]) -> None:
    short = runner.invoke(app, ["demo", "--port", "0", "--token", "short"])
    assert isinstance(short.exception, ConfigError) and "at least 8" in str(short.exception)
    with closing(bound("127.0.0.1", 0)) as taken:
        taken.listen()
        busy = runner.invoke(app, ["demo", "--port", str(taken.getsockname()[1])])
    assert isinstance(busy.exception, ConfigError) and "--port" in str(busy.exception)
    assert runner.invoke(app, ["demo", "--port", "70000"]).exit_code == 2
    assert staged == []


@pytest.mark.parametrize("missing", ["gradio", "matplotlib"])
def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    real = builtins.__import__

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name == missing:
            raise ImportError(name)
        return SimpleNamespace() if name in ("gradio", "matplotlib") else real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(ImportError, match=r'pip install "mixllm\[demo\]"'):
        command.need_packages()


def test_the_command_line_loads_nothing_heavy_for_its_help() -> None:
    before = set(sys.modules)
    assert "--token" in runner.invoke(app, ["demo", "--help"]).output
    assert not {"gradio", "uvicorn", "fastapi"} & (set(sys.modules) - before)


def test_the_rehearsal_leaves_no_visit() -> None:
    with closing(make_stage()) as made, closing(Visits(made)) as visits:
        rehearse(visits)
        assert len(visits) == 0


@pytest.mark.slow
def test_the_real_rows_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pareto_bandit")
    monkeypatch.setattr(StandIn, "start", lambda self: None)
    said: list[str] = []
    with closing(prepare(said.append)) as made:
        assert said[0].startswith("learning from the recorded outcomes of 3 LLMs") and made.stand_in.missing in said
        assert len(made.samples.offered) == 36 and len(made.held_out) == 240
        assert set(made.samples.offered[0].outcomes) == {one.name for one in made.router(0).candidates}
