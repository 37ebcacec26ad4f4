"""What a user names -> a pool of full feedback."""

from __future__ import annotations

import dataclasses
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from mixllm_engine.errors import TableError
from mixllm_engine.evaluation.datasets.packaged import PACKAGED, load_packaged
from mixllm_engine.evaluation.datasets.pickles import SUFFIXES as PICKLES
from mixllm_engine.evaluation.datasets.pickles import read_pickled_frame
from mixllm_engine.evaluation.datasets.routerbench import WHERE, is_routerbench, read_routerbench
from mixllm_engine.evaluation.pools import FullFeedback, Source, read_pool
from mixllm_engine.learning.columns import Columns, some

_DATABASES = frozenset({".db", ".sqlite", ".sqlite3"})
_SQLITE = b"SQLite format 3\x00"  # https://www.sqlite.org/fileformat.html, section 1.3
_REMOTE = frozenset({"ftp", "gs", "hf", "http", "https", "s3"})


def load(source: Any = PACKAGED[0], *, text: str | None = None, allow_pickle: bool = False) -> FullFeedback:
    """Load a data set in which every candidate answered every query; its form is recognised. Nothing is downloaded.

    Parameters
    ----------
    source : str, path, data frame, Arrow table, or mapping of columns
        The name of packaged rows (``paretobandit``, ``paretobandit:val``, ``paretobandit:test``); or a table, in memory
        or as a parquet or CSV file: RouterBench's, a wide one as for `Router.fit`, or a long one with the columns
        ``query``, ``candidate``, ``quality``, ``cost_usd`` and, where known, ``prompt_tokens``, ``response_tokens``,
        ``latency_s`` and ``domain``.
    text : str, optional
        Column with the queries; where not given, the first that the table has of ``question``, ``query``, ``prompt``.
    allow_pickle : bool
        Load a pickled data frame too. A pickle runs code: never allow one that you don't trust.

    Returns
    -------
    FullFeedback
        With its `Source`. Rows in which something is missing are left out and counted in ``dropped``.

    Raises
    ------
    TableError
        If the data set is unknown, can't be read or can't be right; has fewer than two candidates or two complete
        rows, or costs nothing at all; is a pickle that was not allowed; or is the log of a router, which is no full
        feedback.
    ImportError
        If a package is missing that is needed to read it.

    Examples
    --------
    >>> table = {
    ...     "query": ["1 + 1?", "1 + 1?", "Why?", "Why?"],
    ...     "candidate": ["small", "large", "small", "large"],
    ...     "quality": [1.0, 1.0, 0.2, 0.9],
    ...     "cost_usd": [1e-5, 1e-3, 1e-5, 2e-3],
    ... }
    >>> data = load(table)
    >>> data.names, data.quality.tolist()
    (('large', 'small'), [[1.0, 1.0], [0.9, 0.2]])
    """
    if isinstance(source, str) and source in PACKAGED:
        if text is not None:
            raise TableError(f"{source!r} has its queries in one place only; leave text={text!r} out")
        return load_packaged(source)
    name = "table"
    if isinstance(source, str | PathLike):
        source = _file(fspath(source))
        name = source.stem
        if source.suffix.lower() in PICKLES:
            source = read_pickled_frame(source, allowed=allow_pickle)
    columns = Columns.of(source)
    if is_routerbench(columns):
        data = read_routerbench(columns, name=name, text=text or "prompt")
    else:
        about = Source(name=name, about="a table that was given, not a data set that MixLLM knows.")
        data = dataclasses.replace(read_pool(columns, name=name, text=text), source=about)
    return _comparable(data)


def _file(named: str) -> Path:
    """Return the path of a file that may hold a table, or say what else was named."""
    scheme, is_url, _ = named.partition("://")
    if is_url and scheme.lower() in _REMOTE:
        raise TableError(f"{named!r} is on the network, and MixLLM downloads no data; get the file and give its path")
    path = Path(named).expanduser()
    if is_url or path.suffix.lower() in _DATABASES or _is_sqlite(path):
        raise TableError(
            f"{scheme + '://...' if is_url else path.name!r} is a database, such as the log of a router. A log has the "
            "outcome of the chosen candidate alone, so other choices can't be replayed on it: they are judged by an "
            "off-policy estimate, mixllm evaluate --log"
        )
    if not path.is_file():
        hint = WHERE if "routerbench" in named.lower() else "a data set is a parquet or CSV file"
        raise TableError(f"there is no file {named!r}; {hint}, or one of {some(PACKAGED)}")
    return path


def _is_sqlite(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _comparable(data: FullFeedback) -> FullFeedback:
    if len(data.names) < 2:
        raise TableError(f"{data.name!r} has one candidate only, {data.names[0]!r}: there is nothing to choose")
    if len(data) < 2:
        raise TableError(
            f"{data.name!r} has one complete row only ({data.dropped} were dropped), but some are needed to learn from "
            "and others to judge by"
        )
    if not data.cost_usd.any():
        raise TableError(f"all answers of {data.name!r} cost nothing: there is nothing to save")
    return data
