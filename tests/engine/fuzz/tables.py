"""Tables of outcomes, in memory and in files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mixllm_engine.testing import tiny_router
from tests.engine.fuzz.drawing import ANYTHING, WORDS, damaged, mostly
from tests.engine.fuzz.routers import SMALL, Property, only_ours, use

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
