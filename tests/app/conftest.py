from __future__ import annotations

from pathlib import Path

import pytest

from mixllm_engine.app.cli import app
from mixllm_engine.app.ending import run
from tests.app.running import Command, Done


@pytest.fixture
def mixllm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process."""
    monkeypatch.delenv("MIXLLM_STORE", raising=False)

    def call(*arguments: str | Path) -> Done:
        capsys.readouterr()
        code = run(app, [str(one) for one in arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return call


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "log.db"
