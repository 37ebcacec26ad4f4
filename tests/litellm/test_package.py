"""What the package promises as a whole: layers, lazy imports, and tools where `mcp` is missing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import litellm_mixllm

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "litellm_mixllm"
FOREIGN = {"langchain_core", "langchain_mixllm", "llama_index", "llamaindex_mixllm", "fastapi", "smolagents", "agents"}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_it_imports_no_other_framework_and_nothing_private(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        assert not FOREIGN & {name.partition(".")[0] for name in names}
        assert not any(part.startswith("_") and part != "__future__" for name in names for part in name.split("."))


def test_every_public_name_can_be_imported() -> None:
    for name in litellm_mixllm.__all__:
        assert getattr(litellm_mixllm, name) is not None
    assert set(dir(litellm_mixllm)) == set(litellm_mixllm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'NoSuchThing'"):
        litellm_mixllm.NoSuchThing  # noqa: B018


def run(code: str) -> str:
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    return done.stdout.strip()


def test_the_import_does_not_load_litellm() -> None:
    assert run("import sys, litellm_mixllm; print({'litellm', 'openai'} & set(sys.modules))") == "set()"


WITHOUT_MCP = """
import sys, warnings
warnings.simplefilter("ignore")
sys.modules["mcp"] = None
import litellm_mixllm
from mixllm_engine.testing import Reply, ScriptedServer, ToolCall, tiny_router
tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
with ScriptedServer() as server:
    server.script("cheap", Reply(tool_calls=[ToolCall(name="add", arguments={})]))
    with litellm_mixllm.register(tiny_router(api_base=server.base_url)) as registered:
        import litellm
        call = dict(model=registered.model, messages=[{"role": "user", "content": "1 + 2?"}], tools=[tool])
        answer = litellm.completion(**call, force="cheap", _skip_mcp_handler=True)
        print(answer.choices[0].message.tool_calls[0].function.name)
"""


def test_tools_work_without_mcp_as_litellm_allows() -> None:
    """LiteLLM 1.106 imports `mcp` for tools, before any provider is asked, unless the caller says otherwise."""
    assert run(WITHOUT_MCP) == "add"
