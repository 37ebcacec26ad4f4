"""The order of the layers holds, and importing the engine costs nothing that is not needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "mixllm_engine"
# Each may import itself and what stands before it.
ORDER = [
    "redaction", "types", "errors", "loading", "config", "candidates", "encoding", "prediction", "waiting",
    "decision", "store", "learning", "following", "workers", "observing", "crediting", "signing", "tracking", "signals",
    "counterfactual", "explanation", "summary", "saving", "retention", "router", "holders",
    "calling", "testing", "evaluation", "app",
]  # fmt: skip


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", sorted(ENGINE.rglob("*.py")), ids=lambda path: str(path.relative_to(ENGINE)))
def test_engine_imports_point_downwards(path: Path) -> None:
    layer = path.relative_to(ENGINE).parts[0].removesuffix(".py")
    if layer == "__init__":
        return
    allowed = ORDER[: ORDER.index(layer) + 1]
    # calling is used by the facade's users, not by the facade; its drivers need only a protocol of the router
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in {"langchain_core", "langchain_mixllm", "llama_index", "llamaindex_mixllm", "langchain"}
        if parts[0] == "mixllm_engine" and len(parts) > 1 and parts[1] in ORDER:
            assert parts[1] in allowed, f"{layer} imports {name}"


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, json, mixllm_engine; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    heavy = {"torch", "litellm", "langchain_core", "llama_index", "sqlalchemy", "onnxruntime", "pandas", "gradio"}
    assert heavy.isdisjoint(json.loads(printed))


def test_a_router_is_made_and_decides_without_torch_or_litellm() -> None:
    code = (
        "import sys; from mixllm_engine import Candidate, Router\n"
        "p = {'input_usd_per_mtok': 1.0, 'output_usd_per_mtok': 2.0}\n"
        "c = [Candidate(name=n, model=n, **p) for n in ('a', 'b')]\n"
        "Router(c).decide('What is the capital of France?')\n"
        "print(sorted({'torch', 'litellm', 'langchain_core', 'llama_index'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed.strip() == "[]"


def test_every_public_name_can_be_imported() -> None:
    import mixllm_engine

    for name in mixllm_engine.__all__:
        assert getattr(mixllm_engine, name) is not None
    assert set(dir(mixllm_engine)) == set(mixllm_engine.__all__)
    with pytest.raises(AttributeError, match="no attribute 'NoSuchThing'"):
        mixllm_engine.NoSuchThing  # noqa: B018
