"""Whatever is given, the error is ours, and it comes soon: loaders, references, tables, messages, queries.

Takes about a minute in all, or as many seconds as ``MIXLLM_TEST_FUZZ_S`` says, shared by the targets. Each target draws
examples, batch by batch with a new seed, until its share is used up.
"""

from __future__ import annotations

import base64
import decimal
import fractions
import hashlib
import json
import os
import resource
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mixllm_engine import EncoderError, MixLLMError, Outcome, Query, Router
from mixllm_engine.app.pool import read_candidates
from mixllm_engine.calling.messages import query_from_messages
from mixllm_engine.candidates import Pool
from mixllm_engine.config import FeatureConfig, LearningConfig, PredictionConfig, RouterConfig
from mixllm_engine.encoding.domains import Domains
from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.encoding.features import stored_map
from mixllm_engine.encoding.weights import Weights
from mixllm_engine.store import open_store
from mixllm_engine.store.transfer import export_log, import_log
from mixllm_engine.testing import HashingEncoder, tiny_router

TOTAL_S = float(os.environ.get("MIXLLM_TEST_FUZZ_S", "60"))
SLOWEST_S = 20.0
MOST_MORE_MIB = 600.0

NONE = FeatureConfig(domains="none", components=3)
SMALL = RouterConfig(features=NONE)
FULL = RouterConfig(
    features=NONE, prediction=PredictionConfig(heads="neural"), learning=LearningConfig(binary="both")
)  # fmt: skip
FILE = "state.safetensors"

Property = Callable[[Any], None]


@contextmanager
def only_ours(*documented: type[Exception]) -> Iterator[None]:
    with suppress(MixLLMError, *documented):
        yield


# -- what is drawn ---------------------------------------------------------------------------------------------------

# With halves of characters, NUL, signs of all planes, and what means something to a parser.
WORDS = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ["", " ", "\0", "\ud800", "a\ud83d", "nan", "-1", "1e999", "../../etc/passwd", "cheap", "dear", "*", "[", "%s"]
)  # fmt: skip
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, 1, -1, 2**63, -(2**63) - 1, 10**400, 1e308, 5e-324, float("nan"), float("inf"), -0.0, True])
)
PLAIN = st.none() | st.booleans() | NUMBERS | WORDS
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
ODD = st.sampled_from(
    [
        object(),
        b"bytes",
        bytearray(b"\xff"),
        1j,
        decimal.Decimal("NaN"),
        decimal.Decimal("0.5"),
        fractions.Fraction(1, 3),
        np.float32(0.5),
        np.int64(-1),
        np.float64("nan"),
        np.bool_(True),
        np.str_("cheap"),
        np.array(0.5),
        np.zeros(0),
        np.array(["a", None], dtype=object),
        uuid.UUID(int=5),
        {1, 2},
        ("cheap",),
        range(3),
        len,
        int,
        Ellipsis,
    ]
)
ANYTHING = JSON | ODD


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw what is meant more often than anything else, so that several things are right at the same time."""
    return st.one_of(usual, usual, usual, ANYTHING)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw bytes that are a few edits away from a file that is right."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[at:]
            case 2:
                del data[at : at + draw(st.integers(1, 40))]
            case 3:
                data[at:at] = draw(st.binary(max_size=20))
            case _:
                data[at : at + 8] = draw(st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\0\0\0\0\0\0\xf0\x7f"]))
    return bytes(data)


def somewhere(draw: st.DrawFn, value: Any, replacement: st.SearchStrategy[Any]) -> Any:
    """Return a copy of nested lists and mappings with something else at one place."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: somewhere(draw, value[key], replacement)}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], somewhere(draw, value[at], replacement), *value[at + 1 :]]
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, draw(WORDS): draw(replacement)}
    return draw(replacement)


# -- states ----------------------------------------------------------------------------------------------------------


def taught(config: RouterConfig, **more: Any) -> Router:
    router = tiny_router(config=config, **more)
    table = {
        "prompt": ["one", "two"],
        "cheap|quality": [0.0, 1.0],
        "dear|quality": [1.0, 0.5],
        "cheap|cost_usd": [1, 2],
    }
    router.fit(table, progress=False)
    router.add_candidate("gpt-4o-mini", like="dear", labelled={"prompt": ["five"], "quality": [1.0]})
    for step in range(4):
        decision = router.decide(f"question {step}", force=("cheap", "dear")[step % 2])
        router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=10))
        router.feedback(decision, 1.0)
        router.link(decision.decision_id, "run")
    return router


def use(router: Router) -> None:
    """Do with a router what a program does; nothing at all may go wrong."""
    decision = router.decide("What is it?", willingness_to_pay=2.0)
    assert decision.candidate in decision.ranking
    router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=3))
    router.feedback(decision, 0.5)
    json.dumps(router.stats(), default=str)


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


# -- files that people write -----------------------------------------------------------------------------------------

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


# -- encoders --------------------------------------------------------------------------------------------------------

TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "what": 1}, "unk_token": "[UNK]"},
}


def encoder_targets(folder: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    beginning = (Weights.packaged().folder / "model.onnx").read_bytes()[:3000]
    encoder = HashingEncoder(8)
    arrays = {"mean": np.zeros(8), "components": np.eye(8)[:, :2], "domains": np.ones((3, 8)), "bias": np.zeros(3)}
    maps = save_tensors(arrays, metadata={"fingerprint": encoder.fingerprint})

    @st.composite
    def folders(draw: st.DrawFn) -> tuple[bytes, bytes]:
        tokenizer = json.dumps(somewhere(draw, TOKENIZER, JSON)).encode()
        return draw(st.binary(max_size=100) | damaged(beginning)), draw(st.binary(max_size=50) | st.just(tokenizer))

    def folder_of_an_encoder(files: tuple[bytes, bytes]) -> None:
        for name, data in zip(("model.onnx", "tokenizer.json"), files, strict=True):
            (folder / name).write_bytes(data)
        made = OnnxEncoder.from_folder(folder)
        with only_ours():
            made.count_tokens("What is it?")
        with pytest.raises(EncoderError):  # no such bytes are a whole model
            made.encode(["What is it?"])

    def feature_map(data: bytes) -> None:
        (folder / "general_map.safetensors").write_bytes(data)
        with only_ours():
            found = stored_map(folder, encoder)
            assert found is None or found(np.ones(8)).shape == (found.dimension,)

    return {
        "encoders": (folders(), folder_of_an_encoder),
        "feature maps": (damaged(maps) | st.binary(max_size=100), feature_map),
    }


# -- feedback --------------------------------------------------------------------------------------------------------


def feedback_targets(folder: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    routers = [taught(SMALL, store=where) for where in (None, folder / "feedback.db")]
    known = [router.decide("question").decision_id for router in routers]
    refs = st.sampled_from([*known, *(f"mixllm-{one}" for one in known), "run", "0" * 32, known[0].upper()]) | WORDS
    call = st.fixed_dictionaries(
        {
            "router": st.sampled_from(routers),
            "ref": mostly(refs | st.lists(refs, max_size=3)) | st.lists(ANYTHING, max_size=3),
            "reward": mostly(st.floats(0, 1)),
            "key": mostly(WORDS | st.text(min_size=1, max_size=200)),
            "weight": mostly(st.floats(0, 1)),
            "credit": mostly(st.sampled_from(["last", "all", "discounted"])),
        }
    )
    outcome = st.fixed_dictionaries(
        {"candidate": mostly(st.sampled_from(["cheap", "dear", "gpt-4o-mini", "gone"]))},
        optional={
            **dict.fromkeys(("latency_s", "first_token_s", "cost_usd"), mostly(st.floats())),
            **dict.fromkeys(("prompt_tokens", "response_tokens", "cached_tokens"), mostly(NUMBERS)),
            "error": mostly(st.sampled_from(["timeout", "other"])),
        },
    )

    def judged(call: dict[str, Any]) -> None:
        router = call.pop("router")
        with only_ours():
            router.feedback(**call)
        assert np.isfinite([row["labels"] for row in router.stats()["candidates"].values()]).all()

    def observed(call: tuple[Router, Any, dict[str, Any]]) -> None:
        router, ref, fields = call
        try:
            outcome = Outcome(**fields)
        except (TypeError, ValueError):  # of the values themselves
            return
        with only_ours():
            router.observe(ref, outcome)
        use(router)

    def linked(call: tuple[Router, Any, list[Any]]) -> None:
        router, ref, names = call
        with only_ours():
            router.link(ref, *names)

    one = st.sampled_from(routers)
    return {
        "feedback": (call, judged),
        "outcomes": (st.tuples(one, mostly(refs), outcome), observed),
        "links": (st.tuples(one, mostly(refs), st.lists(mostly(WORDS), max_size=3)), linked),
    }


# -- tables ----------------------------------------------------------------------------------------------------------

KINDS = ["quality", "cost_usd", "prompt_tokens", "response_tokens", "response_tokens_o200k", "", "|quality"]
COLUMN = (
    st.sampled_from(["prompt", "candidate", *KINDS])
    | st.tuples(st.sampled_from(["cheap", "dear", "nobody", ""]), st.sampled_from(KINDS)).map("|".join)
    | WORDS
)


@st.composite
def tables(draw: st.DrawFn) -> Any:
    """Draw a table: columns of one length, mostly, and of one type each, mostly; in any holder."""
    import pandas as pd
    import pyarrow as pa

    rows = draw(st.integers(0, 5))
    cells = {
        "prompt": st.sampled_from(["one", "two", "three"]) | WORDS,
        "candidate": st.sampled_from(["cheap", "dear", "nobody"]),
        "quality": st.floats(0, 1),
    }
    columns: dict[Any, Any] = {}
    for name in draw(st.lists(COLUMN, max_size=6)) + draw(st.sampled_from([[], ["prompt", "cheap|quality"], [*cells]])):
        usual = cells.get(name.rpartition("|")[2], st.floats(0) | st.integers(0, 2**70))
        cell = draw(st.sampled_from([usual, usual, usual, st.none() | usual, ANYTHING]))
        length = rows if draw(st.integers(0, 9)) else draw(st.integers(0, 5))
        columns[name] = draw(st.lists(cell, min_size=length, max_size=length))
    with suppress(Exception):  # what these libraries can't hold is no table of theirs
        match draw(st.integers(0, 5)):
            case 0:
                return pd.DataFrame(columns)
            case 1:
                return pa.table(columns)
            case 2:
                return pd.DataFrame(list(zip(*columns.values(), strict=False)), columns=[*columns])
            case 3:
                return draw(ANYTHING)
    return columns


def table_targets(_: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    numbers = iter(range(10**9))

    def fitted(drawn: tuple[Any, Any]) -> None:
        table, text = drawn
        if isinstance(table, str):  # the name of a file
            table = f"{table}.csv"
        router = tiny_router(config=SMALL)
        with only_ours():
            router.fit(table, text=text, progress=False)
        use(router)

    def joined(drawn: tuple[Any, Any]) -> None:
        router = tiny_router(config=SMALL)
        with only_ours():
            router.add_candidate(
                "gpt-4o-mini", labelled=drawn[0], text=drawn[1], like=("cheap", None)[next(numbers) % 2]
            )
        use(router)

    drawn = st.tuples(tables(), mostly(st.just("prompt")))
    return {"tables": (drawn, fitted), "labelled prompts": (drawn, joined)}


def table_file_targets(folder: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    import pyarrow as pa
    from pyarrow import parquet

    right = pa.table({"prompt": ["one", "two"], "cheap|quality": [0.5, 1.0], "dear|quality": [1.0, 1.0]})
    parquet.write_table(right, folder / "right.parquet")
    whole = (folder / "right.parquet").read_bytes()
    text = b'prompt,cheap|quality,dear|quality\n"one, or two",0.5,1\nthree,1,\n'

    def fitted(drawn: tuple[str, bytes]) -> None:
        path = folder / drawn[0]
        path.write_bytes(drawn[1])
        router = tiny_router(config=SMALL)
        with only_ours():
            router.fit(path, progress=False)
        use(router)

    files = st.tuples(st.just("table.csv"), damaged(text) | st.binary(max_size=80)) | st.tuples(
        st.just("table.parquet"), damaged(whole) | st.binary(max_size=80)
    )
    return {"files of tables": (files, fitted)}


# -- messages and queries --------------------------------------------------------------------------------------------

TYPES = ["text", "image_url", "input_audio", "file", "tool_result", "tool_use", "document", "media", "thinking"]
BLOCK = mostly(
    WORDS
    | st.fixed_dictionaries(
        {"type": mostly(st.sampled_from(TYPES))},
        optional={"text": mostly(WORDS), "content": JSON, "source": JSON, "mime_type": JSON, "image_url": JSON},
    )
)
CONTENT = mostly(WORDS | st.lists(BLOCK, max_size=4))
MESSAGE = mostly(
    st.fixed_dictionaries(
        {"role": mostly(st.sampled_from(["user", "assistant", "system", "tool"])), "content": CONTENT},
        optional={"tool_calls": JSON, "name": JSON},
    )
)


def message_targets(_: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    router = tiny_router(config=SMALL)
    calls = st.fixed_dictionaries(
        {"messages": mostly(st.lists(MESSAGE, max_size=4))},
        optional={
            "tools": mostly(st.lists(JSON, max_size=2)),
            "response_format": mostly(st.just({"type": "json_object"})),
            "max_output_tokens": mostly(st.integers(1, 100)),
        },
    )

    def routed(call: dict[str, Any]) -> None:
        with only_ours():
            router.decide(query_from_messages(**call))

    return {"messages": (calls, routed)}


def langchain_targets(_: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    messages = pytest.importorskip("langchain_core.messages")
    from langchain_mixllm._messages import for_litellm, outlines

    router = tiny_router(config=SMALL)
    kinds = st.sampled_from(["HumanMessage", "AIMessage", "SystemMessage", "ToolMessage", "ChatMessage"])
    fields = st.fixed_dictionaries(
        {"content": CONTENT},
        optional={
            "name": WORDS,
            "role": WORDS,
            "tool_call_id": WORDS,
            "additional_kwargs": st.dictionaries(WORDS, JSON, max_size=2),
            "response_metadata": st.dictionaries(WORDS | st.just("model_provider"), JSON, max_size=2),
        },
    )

    def routed(drawn: list[tuple[str, dict[str, Any]]]) -> None:
        made = []
        for kind, fields in drawn:
            with suppress(TypeError, ValueError, KeyError):  # no message for LangChain
                made.append(getattr(messages, kind)(**fields))
        with only_ours():
            router.decide(query_from_messages(outlines(made)))
        for_litellm(made)

    return {"messages of LangChain": (st.lists(st.tuples(kinds, fields), max_size=4), routed)}


def llamaindex_targets(_: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    types = pytest.importorskip("llama_index.core.base.llms.types")
    from llamaindex_mixllm._messages import to_openai

    router = tiny_router(config=SMALL)
    blocks: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "TextBlock": {"text": WORDS},
        "ImageBlock": {"image": st.binary(max_size=20), "image_mimetype": WORDS, "detail": WORDS},
        "AudioBlock": {"audio": st.binary(max_size=20), "format": WORDS},
        "DocumentBlock": {"data": st.binary(max_size=20), "document_mimetype": WORDS, "title": WORDS},
        "ThinkingBlock": {"content": WORDS},
        "ToolCallBlock": {"tool_call_id": WORDS, "tool_name": WORDS, "tool_kwargs": JSON},
    }
    block = st.sampled_from(sorted(blocks)).flatmap(
        lambda kind: st.tuples(st.just(kind), st.fixed_dictionaries(blocks[kind]))
    )
    message = st.tuples(
        st.sampled_from([role.value for role in types.MessageRole]),
        st.lists(block, max_size=3),
        st.dictionaries(WORDS | st.sampled_from(["tool_calls", "tool_call_id"]), JSON, max_size=2),
    )

    def routed(drawn: list[Any]) -> None:
        made = []
        for role, parts, more in drawn:
            with suppress(TypeError, ValueError):  # no message for LlamaIndex
                built = [getattr(types, kind)(**fields) for kind, fields in parts]
                made.append(types.ChatMessage(role=role, blocks=built, additional_kwargs=more))
        with only_ours():
            router.decide(query_from_messages(to_openai(made)))

    return {"messages of LlamaIndex": (st.lists(message, max_size=3), routed)}


def query_targets(_: Path) -> dict[str, tuple[st.SearchStrategy[Any], Property]]:
    routers = [
        taught(SMALL),
        taught(FULL),
        tiny_router(config=RouterConfig.paper().model_copy(update={"features": NONE})),
    ]
    unit = np.eye(64)[0]
    fields = {
        "text": mostly(WORDS),
        "embedding": mostly(st.sampled_from([None, unit, unit.tolist(), unit * 1e300, unit * 0, unit[:5]])),
        "needs": mostly(st.lists(st.sampled_from(["tools", "json_schema", "images"]), max_size=2)),
        "prompt_tokens": mostly(NUMBERS),
        "max_output_tokens": mostly(NUMBERS),
        "in_tool_loop": mostly(st.booleans()),
    }
    names = st.sampled_from(["cheap", "dear", "*", "nobody", "c[", "gpt*"]) | WORDS
    options = {
        "budget": mostly(st.sampled_from(["low", "medium", "lots"]) | NUMBERS),
        "willingness_to_pay": mostly(NUMBERS),
        "max_wait_s": mostly(NUMBERS),
        "allow": mostly(st.lists(names, max_size=2)),
        "deny": mostly(st.lists(names, max_size=2)),
        "force": mostly(names),
        "session": mostly(WORDS),
    }

    def decided(drawn: tuple[Router, Any, dict[str, Any]]) -> None:
        router, query, chosen = drawn
        decision = None
        with only_ours():
            decision = router.decide(Query(**query) if isinstance(query, dict) else query, **chosen)
        if decision is not None:
            assert decision.candidate in decision.ranking and 0.0 <= decision.propensity <= 1.0
            assert np.isfinite([score.quality for score in decision.scores.values()]).all()

    query = st.fixed_dictionaries({}, optional=fields) | mostly(WORDS).filter(lambda one: not isinstance(one, dict))
    drawn = st.tuples(st.sampled_from(routers), query, st.fixed_dictionaries({}, optional=options))
    return {"queries and options": (drawn, decided)}


# -- the run ---------------------------------------------------------------------------------------------------------

GROUPS = [
    state_targets,
    log_targets,
    people_targets,
    encoder_targets,
    feedback_targets,
    table_targets,
    table_file_targets,
    message_targets,
    langchain_targets,
    llamaindex_targets,
    query_targets,
]
_WEIGHT = {state_targets: 3, people_targets: 2, encoder_targets: 2, feedback_targets: 3, table_targets: 2}
_TARGETS = sum(_WEIGHT.get(group, 1) for group in GROUPS)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_nothing_but_our_own_errors_comes_out(
    group: Callable[[Path], dict[str, tuple[st.SearchStrategy[Any], Property]]], tmp_path: Path
) -> None:
    targets = group(tmp_path)
    assert len(targets) == _WEIGHT.get(group, 1)
    for name, (strategy, target) in targets.items():
        fuzz(name, strategy, target, TOTAL_S / _TARGETS)


def fuzz(name: str, strategy: st.SearchStrategy[Any], target: Property, share_s: float) -> None:
    """Draw examples until the time is over, and say how many there were."""
    before_kib, start, examples, batches = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), 0, 0

    def counted(value: Any) -> None:
        nonlocal examples
        examples += 1
        target(value)

    while time.monotonic() - start < share_s:
        run = settings(
            max_examples=20 if share_s < 10 else 200,
            deadline=SLOWEST_S * 1000.0,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )(given(strategy)(counted))
        seed(batches)(run)()
        batches += 1
    more_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024.0
    print(f"{name}: {examples} examples in {time.monotonic() - start:.0f} s")  # noqa: T201
    assert examples > 10
    assert more_mib < MOST_MORE_MIB, f"{name} took {more_mib:.0f} MiB more than before"
