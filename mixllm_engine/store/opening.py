"""What a user names -> a store."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from mixllm_engine.config import StorageConfig
from mixllm_engine.store.base import Store
from mixllm_engine.store.memory import MemoryStore


def open_store(where: str | PathLike[str] | Store | None, config: StorageConfig | None = None) -> Store:
    """Open a store.

    Parameters
    ----------
    where : None, path, URL or Store
        ``None`` keeps everything in memory; a path is a SQLite file, made if it isn't there; anything with ``://`` is
        a SQLAlchemy URL, of SQLite or of PostgreSQL (``postgresql+psycopg://``); a store is returned as it is.
    config : StorageConfig, optional
        How a database is written to; a store that is given has its own.

    Raises
    ------
    StoreError
        If the database is damaged, belongs to something else, or can't be reached.
    """
    if where is None:
        return MemoryStore()
    if isinstance(where, str | PathLike):
        # SQLAlchemy takes a quarter of a second to import.
        from mixllm_engine.store.engines import file_url
        from mixllm_engine.store.sql import SqlStore

        name = fspath(where)
        return SqlStore(name if "://" in name else file_url(Path(name)), config)
    return where
