"""``mixllm export`` and ``mixllm import``: a store <-> a file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from mixllm_engine.app.opened import opened
from mixllm_engine.app.options import JsonOption, StoreOption
from mixllm_engine.app.printing import print_json
from mixllm_engine.errors import StoreError


def export_(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Write all that a store holds to one file. It is of JSON lines, and has no prompts."""
    from mixllm_engine.store.transfer import export_log

    with opened(store) as log:
        rows = export_log(log, path)
    if as_json:
        print_json(rows)
    else:
        typer.echo(f"{sum(rows.values())} rows written to {path}")


def import_(
    path: Annotated[Path, typer.Argument(help="A file that `mixllm export` wrote.")],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Fill an empty store from an exported file."""
    from mixllm_engine.store import open_store
    from mixllm_engine.store.transfer import import_log

    if not path.exists():  # else a mistyped name would leave an empty store behind
        raise StoreError(f"there is no file {str(path)!r}; give one that `mixllm export` wrote")
    with closing(open_store(store)) as log:
        rows = import_log(path, log)
    if as_json:
        print_json(rows)
    else:
        typer.echo(f"{sum(rows.values())} rows read from {path}")
