"""Saved states and exported logs: of any bytes, damaged, and well-formed with something else inside."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mixllm_engine import Router
from mixllm_engine.store import open_store
from mixllm_engine.store.transfer import export_log, import_log
from mixllm_engine.testing import HashingEncoder, tiny_router
from tests.engine.fuzz.drawing import JSON, damaged, somewhere
from tests.engine.fuzz.routers import FULL, SMALL, Property, only_ours, taught, use

FILE = "state.safetensors"

# -- states ----------------------------------------------------------------------------------------------------------


def loads(folder: Path) -> Property:
    def target(data: bytes) -> None:
        (folder / FILE).write_bytes(data)
        router = None
        with only_ours():
            router = Router.load(folder, encoder=HashingEncoder())
        if router is not None:
            use(router)
            router.save(folder / "again")

    return target


@st.composite
def rewritten(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw a well-formed state some of whose content is something else."""
    length = int.from_bytes(whole[:8], "little")
    manifest = json.loads(json.loads(whole[8 : 8 + length])["__metadata__"]["manifest"])
    tensors = dict(load_tensors(whole))
    for _ in range(draw(st.integers(0, 2))):
        manifest = somewhere(draw, manifest, JSON)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(tensors)))
        array = np.array(tensors[name], dtype=np.float64)
        if array.size and draw(st.booleans()):
            array.flat[draw(st.integers(0, array.size - 1))] = draw(st.floats())
        elif draw(st.booleans()):
            with np.errstate(all="ignore"):
                array = array.astype(draw(st.sampled_from(["f4", "i8", "u1", "bool"])))
        else:
            array = np.zeros(draw(st.lists(st.integers(0, 5), max_size=3)))
        tensors[name] = array
    return save_tensors(tensors, metadata={"manifest": json.dumps(manifest)})


def state_targets(folder: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    with taught(FULL) as router:
        router.save(folder)
    whole = (folder / FILE).read_bytes()
    headers = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=64)
    made = st.tuples(headers, st.binary(max_size=64)).map(lambda two: len(two[0]).to_bytes(8, "little") + b"".join(two))
    return {
        "states of any bytes": (st.binary(max_size=200) | made, loads(folder)),
        "states that were damaged": (damaged(whole), loads(folder)),
        "states that were rewritten": (rewritten(whole), loads(folder)),
    }


# -- logs ------------------------------------------------------------------------------------------------------------


@st.composite
def logs(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw a file whose digest is right but whose lines may not be."""
    if not draw(st.integers(0, 4)):
        return draw(damaged(whole))
    lines = [json.loads(line) for line in whole.splitlines()[:-1]]
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] = somewhere(draw, lines[at], JSON | st.binary(max_size=9).map(lambda b: base64.b64encode(b).decode()))
    body = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    end = {"lines": len(lines), "sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(end, separators=(",", ":")).encode() + b"\n"


def log_targets(folder: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    with taught(SMALL, store=folder / "source.db") as router:
        export_log(router._store, folder / "log.jsonl")
    whole = (folder / "log.jsonl").read_bytes()
    numbers = iter(range(10**9))

    def target(data: bytes) -> None:
        path = folder / f"{next(numbers)}.db"
        (folder / "drawn.jsonl").write_bytes(data)
        store = open_store(path)
        try:
            with only_ours():
                import_log(folder / "drawn.jsonl", store)
                use(tiny_router(store=store, config=SMALL))
        finally:
            store.close()
            for left in folder.glob(f"{path.name}*"):
                left.unlink()

    return {"exported logs": (logs(whole), target)}
