"""A report that was written once, for all tests of this folder to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixllm_engine.evaluation.report import write_report
from tests.evaluation.report.made import full


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(full(), tmp_path_factory.mktemp("report") / "new" / "folder").parent


@pytest.fixture(scope="package")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")
