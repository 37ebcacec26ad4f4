"""A store that must be there already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mixllm_engine.errors import StoreError
from mixllm_engine.redaction import HIDDEN

if TYPE_CHECKING:
    from mixllm_engine.store.sql import SqlStore


@contextmanager
def opened(where: str) -> Iterator[SqlStore]:
    """Open a store by its file or URL and close it again; a mistyped path must not make an empty one."""
    from mixllm_engine.store import open_store

    if "://" not in where and not Path(where).is_file():
        user, at, place = where.rpartition("@")  # of a mistyped URL
        named = f"{HIDDEN}@{place}" if at and ":" in user else where
        raise StoreError(f"there is no store {named!r}; give the path or URL that the router was made with")
    store = cast("SqlStore", open_store(where))  # whatever has a name is a database
    try:
        yield store
    finally:
        store.close()
