"""A process is killed at every write: what it leaves is what was there before, or what it was to become, and whole.

The points are found by running: a child counts the writes that it comes to and is killed at one of them, the next
child at the next one, until one gets through.
"""

from __future__ import annotations

import io
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import NullPool

from mixllm_engine import Outcome, Router, StateError
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.store import open_store, schema
from mixllm_engine.store.engines import file_url
from mixllm_engine.testing import HashingEncoder, tiny_router
from mixllm_engine.types import Label
from tests.engine.stores import OLDER, record

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SMALL = RouterConfig(features=FeatureConfig(domains="none", components=3), sync_interval_s=1e9)
FILE = "state.safetensors"

Point = Callable[[], None]


def survives(work: Callable[[Point], None], at: int) -> bool:
    """Run something in a child that is killed when it comes to one of its points; tell whether it got through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # libraries have threads, none of which matters here
        child = os.fork()
    if child == 0:
        points = count()

        def point() -> None:
            if next(points) == at:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            work(point)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return not os.WIFSIGNALED(status)


def at_every_point(work: Callable[[Point], None]) -> Iterator[bool]:
    """Kill a child at each of its points, one after the other; yield whether it got through, which is the end."""
    for at in count():
        through = survives(work, at)
        yield through
        if through:
            assert at >= 3, "hardly any point was found: the writes are no longer where this test looks for them"
            return


# -- files -----------------------------------------------------------------------------------------------------------


class Torn(io.BufferedWriter):
    """A file whose writes go to the disk in two halves, with points around each step."""

    point: Point

    def write(self, data: Any) -> int:
        self.point()
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            super().write(half)
            super().flush()
            self.point()
        return len(data)

    def flush(self) -> None:
        self.point()
        super().flush()
        self.point()


def watch_files(point: Point) -> None:
    """Put points before and after everything that writes to files; for a child, which does not outlive it."""

    def around(name: str) -> None:
        original = getattr(os, name)

        def watched(*given: Any, **named: Any) -> Any:
            point()
            result = original(*given, **named)
            point()
            return result

        setattr(os, name, watched)

    for name in ("fsync", "replace", "mkdir", "unlink"):
        around(name)

    def fdopen(handle: int, mode: str) -> Torn:
        assert mode == "wb"
        file = Torn(io.FileIO(handle, "w"))
        file.point = point
        return file

    os.fdopen = fdopen  # type: ignore[assignment]


def labels(folder: Path) -> float:
    with Router.load(folder, encoder=HashingEncoder()) as router:
        return sum(sums.count for sums in router._learner.learned().quality.values())


def test_a_save_that_is_killed_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    router = tiny_router(config=SMALL)
    router.save(tmp_path)
    router.feedback(router.decide("question"), 1.0)

    def save(point: Point) -> None:
        watch_files(point)
        router.save(tmp_path)

    found = []
    for through in at_every_point(save):
        found.append(labels(tmp_path))
        if found[-1] == 1.0 and not through:
            tiny_router(config=SMALL).save(tmp_path)  # the old one again
    assert set(found) == {0.0, 1.0} and found[0] == 0.0 and found[-1] == 1.0
    assert len(found) > 10
    left = [path for path in tmp_path.iterdir() if path.name != FILE]
    assert len(left) > 3
    for path in left:
        os.utime(path, (time.time() - 4000.0,) * 2)
    router.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_first_save_that_is_killed_leaves_a_whole_state_or_none(tmp_path: Path) -> None:
    router = tiny_router(config=SMALL)
    folders = (tmp_path / "new" / str(number) for number in count())

    found = []
    for at in count():
        folder = next(folders)

        def save(point: Point, folder: Path = folder) -> None:
            watch_files(point)
            router.save(folder)

        through = survives(save, at)
        try:
            found.append(labels(folder) == 0.0)
        except StateError as error:
            assert "No such file" in str(error)
            found.append(False)
        router.save(folder)  # the second try
        assert labels(folder) == 0.0
        if through:
            break
    assert found[0] is False and found[-1] is True and len(found) > 10


# -- databases -------------------------------------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


def place(kind: str, request: pytest.FixtureRequest) -> str:
    if kind == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return file_url(request.getfixturevalue("tmp_path") / "log.db").render_as_string()


def watch_databases(point: Point) -> None:
    """Put points before every statement that writes, and around every commit; for a child, as above.

    Nothing is written between a statement and the next one: behind the one is before the other.
    """

    def statement(_connection: Any, _cursor: Any, words: str, *_: Any) -> None:
        if words.lstrip()[:6].upper() not in ("SELECT", "PRAGMA"):
            point()

    sa.event.listen(sa.Engine, "before_cursor_execute", statement)
    commit: Any = DefaultDialect.do_commit

    def watched(dialect: DefaultDialect, connection: Any) -> None:
        point()
        commit(dialect, connection)
        point()

    DefaultDialect.do_commit = watched  # type: ignore[method-assign]


Dump = dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]]


def dump(url: str) -> Dump:
    """Return all columns and rows of a database, by table; columns in the order of their names."""
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        found: Dump = {}
        for name in sorted(sa.inspect(connection).get_table_names()):
            rows = connection.execute(sa.text(f"SELECT * FROM {name}"))
            columns = tuple(sorted(rows.keys()))
            found[name] = (columns, sorted((tuple(row[c] for c in columns) for row in rows.mappings()), key=repr))
        return found


def named(found: Dump, table: str) -> list[dict[str, Any]]:
    columns, rows = found[table]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def make_older(url: str) -> None:
    """Bring a store back to the tables of version 1; what it holds stays."""
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in filter(str.strip, OLDER.split(";")):
            connection.exec_driver_sql(statement)


@KINDS
def test_a_migration_that_is_killed_is_done_in_full_or_not_at_all(kind: str, request: pytest.FixtureRequest) -> None:
    url = place(kind, request)
    store = open_store(url)
    store.add_decision(record("d1"))
    for key, reward in (("user", 1.0), ("judge", 0.5)):
        store.add_feedback("d1", key, Label(reward, 1.0), 4.0)
    rows, identity = list(store.feedback_after(0, 100)), store.identity
    store.close()
    newest = dump(url)
    make_older(url)
    older = dump(url)
    assert older != newest

    def open_it(point: Point) -> None:
        watch_databases(point)
        open_store(url)

    found = []
    for through in at_every_point(open_it):
        there = dump(url)
        assert there in (older, newest), "a mixture"
        found.append(there == newest)
        second = open_store(url)  # the second try
        assert [(row.before, row.after) for row in second.feedback_after(0, 100)] == [(r.before, r.after) for r in rows]
        assert second.identity == identity
        assert second.add_feedback("d1", "user", Label(1.0, 1.0), 5.0).status == "duplicate"
        second.close()
        if not through:
            reset(url)
            make_older(url)
    assert found[0] is False and found[-1] is True
    assert len(found) > 8  # at least before each step of the migration, and around the commit


def reset(url: str) -> None:
    """Forget that a duplicate was counted."""
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.counters))


@KINDS
def test_making_a_store_that_is_killed_leaves_one_that_can_be_made(kind: str, request: pytest.FixtureRequest) -> None:
    url = place(kind, request)
    open_store(url).close()
    complete = {name: columns for name, (columns, _) in dump(url).items()}

    def clear() -> None:
        engine = sa.create_engine(url, poolclass=NullPool)
        schema.metadata.drop_all(engine)

    def open_it(point: Point) -> None:
        watch_databases(point)
        open_store(url)

    clear()
    found = []
    for through in at_every_point(open_it):
        there = {name: columns for name, (columns, _) in dump(url).items()}
        assert there in ({}, complete), "a mixture"
        found.append(bool(there))
        store = open_store(url)
        store.add_decision(record("d1"))
        assert store.counts().decisions == 1
        store.close()
        if not through:
            clear()
    assert found[0] is False and found[-1] is True


def router_on(url: str) -> Router:
    return tiny_router(store=url, config=SMALL)


OUTCOME = Outcome(candidate="cheap", response_tokens=5, cost_usd=0.1)
TABLE = {"prompt": ["one", "two"], "cheap|quality": [1.0, 0.0], "dear|quality": [1.0, 1.0]}
# What a router does, and in how many rows more, of which tables, that shows.
WRITES: dict[str, tuple[Callable[[Router, str], object], dict[str, int]]] = {
    "decide": (lambda router, _: router.decide("question"), {"mixllm_decisions": 1}),
    "observe": (lambda router, known: router.observe(known, OUTCOME), {"mixllm_outcomes": 1}),
    "feedback": (
        lambda router, known: router.feedback(known, 0.5, key=os.urandom(8).hex()),
        {"mixllm_feedback": 1, "mixllm_feedback_log": 1},
    ),
    "replace": (
        lambda router, known: router.feedback(known, int.from_bytes(os.urandom(2)) / 2**16),
        {"mixllm_feedback_log": 1},
    ),
    "link": (lambda router, known: router.link(known, *(os.urandom(8).hex() for _ in range(3))), {"mixllm_links": 3}),
    "fit": (lambda router, _: router.fit(TABLE, progress=False), {"mixllm_states": 1}),
}  # fmt: skip


@KINDS
@pytest.mark.parametrize("name", list(WRITES))
def test_a_write_that_is_killed_is_there_in_full_or_not_at_all(
    name: str, kind: str, request: pytest.FixtureRequest
) -> None:
    url = place(kind, request)
    with router_on(url) as router:
        known = router.decide("question").decision_id
        router.feedback(known, 1.0)
    write, more = WRITES[name]

    def run(point: Point) -> None:
        router = router_on(url)
        router.sync()
        watch_databases(point)
        write(router, known)

    found, before = [], dump(url)
    for through in at_every_point(run):
        there = dump(url)
        added = {table: len(rows) - len(before[table][1]) for table, (_, rows) in there.items()}
        added["mixllm_states"] = int(there["mixllm_states"] != before["mixllm_states"])  # one takes the other's place
        del added["mixllm_workers"]  # who is there at present, which each child tells by itself
        changed, before = {table: number for table, number in added.items() if number}, there
        assert changed in ({}, more), f"a part only: {changed}"
        found.append(bool(changed))
        # What the log says last is what stands.
        last = max(named(there, "mixllm_feedback_log"), key=lambda row: int(row["sequence"]))
        standing = {row["key"]: row["reward"] for row in named(there, "mixllm_feedback")}
        assert standing[last["key"]] == last["reward"]
        assert through <= found[-1]
    assert set(found) == {False, True}, found
    with router_on(url) as router:
        stats = router.stats()
        assert stats["feedback_applied"] == len(dump(url)["mixllm_feedback"][1])
        assert router.feedback(known, 0.25).status in ("applied", "replaced")
