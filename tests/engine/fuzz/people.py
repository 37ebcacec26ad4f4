"""Files that people write: pools and domains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mixllm_engine.app.pool import read_candidates
from mixllm_engine.candidates import Pool
from mixllm_engine.encoding.domains import Domains
from tests.engine.fuzz.drawing import JSON, NUMBERS, WORDS, mostly
from tests.engine.fuzz.routers import Property, only_ours

CANDIDATE = {
    "name": mostly(WORDS),
    "model": mostly(WORDS | st.just("openai/gpt-4o-mini")),
    "api_base": WORDS,
    "input_usd_per_mtok": mostly(st.floats(0, 100)),
    "output_usd_per_mtok": mostly(st.floats(0, 100)),
    "context_window": NUMBERS,
    "tokens_per_s": NUMBERS,
    "supports_tools": mostly(st.booleans()),
    "params": JSON,
}


def toml(value: Any) -> str:
    """Write a value as TOML does, as far as it can."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(str(value), ensure_ascii=False)


def tables_of(fields: dict[str, Any]) -> str:
    return "[[candidate]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in fields.items())


def people_targets(folder: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    described = st.fixed_dictionaries({}, optional=CANDIDATE).map(tables_of)
    pools = st.lists(described, max_size=3).map("".join) | WORDS | JSON.map(toml)
    groups = JSON.map(json.dumps) | st.dictionaries(WORDS, st.lists(WORDS)).map(json.dumps) | WORDS

    def encoded(text: str) -> bytes:
        return text.encode("utf-8", "surrogatepass")

    def pool(data: bytes) -> None:
        (folder / "pool.toml").write_bytes(data)
        with only_ours():
            given = read_candidates([], folder / "pool.toml")
            Pool(given)

    def domains(data: bytes) -> None:
        (folder / "domains.json").write_bytes(data)
        with only_ours():
            found = Domains.load(folder / "domains.json")
            found.save(folder / "again.json")
            assert Domains.load(folder / "again.json") == found

    return {
        "pools": (pools.map(encoded) | st.binary(max_size=100), pool),
        "domains": (groups.map(encoded) | st.binary(max_size=100), domains),
    }
