"""What several commands are given in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_STORE = "SQLite file or SQLAlchemy URL of the store."

StoreOption = Annotated[str, typer.Option("--store", help=_STORE, envvar="MIXLLM_STORE")]
MaybeStoreOption = Annotated[str | None, typer.Option("--store", help=_STORE, envvar="MIXLLM_STORE")]
PoolOption = Annotated[Path | None, typer.Option("--pool", help="TOML file with [[candidate]] tables.")]
StateOption = Annotated[Path | None, typer.Option("--state", help="Folder of a router that was saved or fitted.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
