"""Every Python block of the README and the docs runs as it stands, against a scripted server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixllm_engine.testing import Reply, ScriptedServer

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
ALL_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in ALL_PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)")


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ScriptedServer]:
    """Answer in the name of the models that the pages use."""
    with ScriptedServer() as server:
        for model in ("gpt-4o-mini", "gpt-4o", "smollm2"):
            server.script(model, Reply(text="A scripted answer."))
        monkeypatch.setenv("OPENAI_API_KEY", "sk-scripted")
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.chdir(tmp_path)  # stores that the pages name
        yield server


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(page: Path, provider: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page.name}:block {number}", "exec"), names)
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_begins_with_what_a_user_wants() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first = BLOCK.search(text)
    assert first and len(first[1].strip().splitlines()) <= 10
    assert text.index("```python") < text.index("scripts/quickstart") < text.index("scripts/test") < text.index("## ")
