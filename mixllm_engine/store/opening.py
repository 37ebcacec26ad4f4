"""What a user names -> a store."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mixllm_engine.config import StorageConfig
from mixllm_engine.errors import StoreError
from mixllm_engine.store.base import Store
from mixllm_engine.store.memory import MemoryStore

if TYPE_CHECKING:
    from sqlalchemy import URL

# As SQLAlchemy names what SQLite keeps in memory: anew for each connection, so that threads would not share it.
_IN_MEMORY: Final = tuple(
    f"sqlite{driver}://{database}" for driver in ("", "+pysqlite") for database in ("", "/", "/:memory:")
)


def open_store(where: str | PathLike[str] | URL | Store | None, config: StorageConfig | None = None) -> Store:
    """Open a store.

    Parameters
    ----------
    where : None, path, URL or Store
        ``None`` keeps everything in memory; a path is a SQLite file, made if it isn't there; anything with ``://`` is
        a SQLAlchemy URL, of SQLite (``sqlite://`` is as ``None``) or of PostgreSQL (``postgresql+psycopg://``); a
        store is returned as it is.
    config : StorageConfig, optional
        How a database is written to; a store that is given has its own.

    Raises
    ------
    StoreError
        If the database is damaged, belongs to something else, or can't be reached, or this is none of the above.
    """
    if where is not None and hasattr(where, "render_as_string"):
        where = where.render_as_string(hide_password=False)
    if where is None or where in _IN_MEMORY:
        return MemoryStore()
    if isinstance(where, str | PathLike):
        # SQLAlchemy takes a quarter of a second to import.
        from mixllm_engine.store.engines import file_url
        from mixllm_engine.store.sql import SqlStore

        name = fspath(where)
        return SqlStore(name if "://" in name else file_url(Path(name)), config)
    if not hasattr(where, "add_decision"):
        raise StoreError(f"a store is None, a file path, a SQLAlchemy URL or a Store, not {type(where).__name__}")
    return where
