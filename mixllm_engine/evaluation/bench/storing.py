"""How many decisions with feedback there are in a second, by the store that keeps them and the number of threads.

On a durable store both halves of a pair are on disk when they return, so that the disk sets the pace: beside it stands
what the same disk does with nothing else to do, one row a commit.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from mixllm_engine.encoding.encoder import Encoder, OnnxEncoder
from mixllm_engine.errors import StoreError
from mixllm_engine.evaluation.bench.deciders import MixLLMDecider
from mixllm_engine.evaluation.bench.inputs import REWARDS, names_of
from mixllm_engine.evaluation.bench.report import Budget, Row
from mixllm_engine.evaluation.bench.timing import Clock
from mixllm_engine.evaluation.remembered import RememberedEncoder

Step = Callable[[int], object]

_CANDIDATES: Final = 10
_PART: Final = "decisions with feedback, without encoding"
_MEMORY: Final = "MixLLM in memory"
_SQLITE: Final = "MixLLM on SQLite"
_POSTGRESQL: Final = "MixLLM on PostgreSQL"
_COMMITS: Final = "SQLite alone"
# Pairs a second, and the number of threads that it is about: who waits for a disk, waits together.
_BUDGETS: Final = {_MEMORY: (1, 4000.0), _SQLITE: (128, 1000.0), _POSTGRESQL: (128, 300.0)}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes
    ----------
    threads : tuple of int
        Numbers of threads.
    blocks : int
        How often the stores take turns at each number of threads.
    pairs : int
        Pairs of all threads together in each block.
    """

    threads: tuple[int, ...]
    blocks: int
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A store with a router that writes to it, or what it is compared with.

    Attributes
    ----------
    name : str
        How the report calls it.
    step : callable, optional
        Decides and learns once. ``None`` where it can't be run here.
    alone : bool
        Whether one thread does all steps.
    note : str
        What a reader has to know of it, or why it can't be run.
    """

    name: str
    step: Step | None
    alone: bool = False
    note: str = ""


def stored_pairs(sizes: Sizes, postgresql: str | None = None, clock: Clock = time.perf_counter_ns) -> list[Row]:
    """Count decisions with feedback on every kind of store, all durable ones as durable as they promise.

    Parameters
    ----------
    sizes : Sizes
        How much is measured.
    postgresql : str, optional
        URL of a database in which a schema may be made, which is gone afterwards.
    clock : callable
        Nanoseconds.
    """
    encoder = RememberedEncoder(OnnxEncoder())
    with TemporaryDirectory(prefix="mixllm-bench-") as folder, ExitStack() as stack:
        contestants = [
            stack.enter_context(_commits(Path(folder) / "commits.db")),
            stack.enter_context(_router(_MEMORY, None, encoder)),
            stack.enter_context(_router(_SQLITE, Path(folder) / "log.db", encoder)),
            _on_postgresql(postgresql, encoder, stack),
        ]
        return [row for threads in sizes.threads for row in compared(contestants, threads, sizes, clock)]


def compared(contestants: Sequence[Contestant], threads: int, sizes: Sizes, clock: Clock) -> list[Row]:
    """Return a row for each contestant; what is on the same disk as the bare commits is compared with these."""
    found = _rates(contestants, threads, sizes, clock)
    rows = []
    for one in contestants:
        row = Row(
            part=_PART,
            setting=f"{threads} {'thread' if threads == 1 else 'threads'}",
            system=one.name,
            unit="calls/s",
            note=one.note,
        )
        wanted, limit = _BUDGETS.get(one.name, (None, 0.0))
        if wanted == threads:
            row = replace(row, budget=Budget(of="best", limit=limit, at_least=True))
        if rates := found[one.name]:
            row = replace(row, best=max(rates), p50=float(np.median(rates)), count=len(rates))
        if rates and one.name in (_COMMITS, _SQLITE):
            row = replace(row, ratio=float(np.median(np.array(rates) / np.array(found[_COMMITS]))))
        rows.append(row)
    return rows


def _rates(contestants: Sequence[Contestant], threads: int, sizes: Sizes, clock: Clock) -> dict[str, list[float]]:
    """Return the steps a second in each block; contestants take turns, and the first block warms up."""
    rates: dict[str, list[float]] = {one.name: [] for one in contestants}
    with ThreadPoolExecutor(threads) as pool:
        for block in range(sizes.blocks + 1):
            for one in contestants:
                if one.step is None:
                    continue
                first = block * sizes.pairs
                serials, workers = range(first, first + sizes.pairs), 1 if one.alone else threads
                before = clock()
                list(pool.map(_all, [one.step] * workers, [serials[at::workers] for at in range(workers)]))
                if block:
                    rates[one.name].append(sizes.pairs / ((clock() - before) * 1e-9))
    return rates


def _all(step: Step, serials: range) -> None:
    for serial in serials:
        step(serial)


@contextmanager
def _router(name: str, store: str | Path | None, encoder: Encoder) -> Iterator[Contestant]:
    system = MixLLMDecider(names_of(_CANDIDATES), encoder, fitted=True, store=store)

    def step(serial: int) -> None:
        system.learn(system.decide(serial), REWARDS[serial % len(REWARDS)])

    with closing(system):
        yield Contestant(name=name, step=step, note=f"{_CANDIDATES} candidates")


@contextmanager
def _commits(path: Path) -> Iterator[Contestant]:
    """Yield the bare loop: one row a commit, on disk before the next, with nothing but Python's own driver."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE numbers (number INTEGER)")

        def step(serial: int) -> None:
            connection.execute("INSERT INTO numbers VALUES (?)", (serial,))

        yield Contestant(name=_COMMITS, step=step, alone=True, note="one row a commit, one thread; a pair is two")


def _on_postgresql(url: str | None, encoder: Encoder, stack: ExitStack) -> Contestant:
    if url is None:
        return Contestant(name=_POSTGRESQL, step=None, note="not measured: give a database with --postgresql")
    try:
        own = stack.enter_context(_schema(url))
        return stack.enter_context(_router(_POSTGRESQL, own, encoder))
    except StoreError as error:
        return Contestant(name=_POSTGRESQL, step=None, note=str(error))


@contextmanager
def _schema(url: str) -> Iterator[str]:
    """Make a schema for the benchmark alone, and yield the URL of a store in it."""
    import sqlalchemy as sa

    from mixllm_engine.store.engines import make_engine

    name = f"mixllm_bench_{secrets.token_hex(8)}"
    engine = make_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.schema.CreateSchema(name))
    except sa.exc.SQLAlchemyError as error:
        raise StoreError(f"no schema can be made in the database: {str(error).partition(chr(10))[0]}") from error
    try:
        own = sa.make_url(url).update_query_dict({"options": f"-csearch_path={name}"})
        yield own.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.schema.DropSchema(name, cascade=True))
        engine.dispose()
