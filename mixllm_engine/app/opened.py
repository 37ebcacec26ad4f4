"""A store that must be there already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixllm_engine.errors import StoreError
from mixllm_engine.store import open_store
from mixllm_engine.store.base import Store


@contextmanager
def opened(where: str) -> Iterator[Store]:
    """Open a store by its file or URL and close it again; a mistyped path must not make an empty one."""
    if "://" not in where and not Path(where).is_file():
        raise StoreError(f"there is no store {where!r}; give the path or URL that the router was made with")
    store = open_store(where)
    try:
        yield store
    finally:
        store.close()
