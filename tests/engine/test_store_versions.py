"""A store that an older version of MixLLM made is brought up to date, wholly or not at all."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from mixllm_engine import StoreError
from mixllm_engine.store import open_store, preparing
from mixllm_engine.store.base import FeedbackRow
from mixllm_engine.types import Label
from tests.engine.stores import OLDER, SCORE, record


def test_a_decision_of_a_version_without_optimism_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = open_store(path)
    store.add_decision(record("d1"))
    store.close()
    with sqlite3.connect(path) as raw:
        (text,) = raw.execute("SELECT scores FROM mixllm_decisions").fetchone()
        scores = json.loads(text)
        for score in scores.values():
            del score["optimism"]
        raw.execute("UPDATE mixllm_decisions SET scores = ?", (json.dumps(scores),))
    store = open_store(path)
    assert dict(store.decision("d1").decision.scores) == {"a": SCORE, "b": SCORE}
    store.close()


def older_store(path: Path) -> list[FeedbackRow]:
    """Make a store of version 1 with two judgements of one decision; returns its label changes."""
    store = open_store(path)
    store.add_decision(record("d1"))
    for key, reward in (("user", 1.0), ("judge", 0.5)):
        store.add_feedback("d1", key, Label(reward, 1.0), 4.0)
    rows = list(store.feedback_after(0, 100))
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as raw:
        raw.executescript(OLDER)
    return rows


def test_a_store_of_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    rows = older_store(tmp_path / "log.db")
    store = open_store(tmp_path / "log.db")
    assert [row.before for row in rows] == [None, (1, 1)]
    assert [(row.before, row.after) for row in store.feedback_after(0, 100)] == [
        (row.before, row.after) for row in rows
    ]
    store.link("d1", ["run"])
    assert store.add_feedback("d1", "user", Label(1.0, 1.0), 5.0).status == "duplicate"
    store.close()
    open_store(tmp_path / "log.db").close()


@pytest.mark.parametrize("step", range(7))
def test_a_migration_that_is_interrupted_changes_nothing(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = older_store(tmp_path / "log.db")
    with monkeypatch.context() as patch:
        steps = preparing._STEPS[1]
        patch.setattr(preparing, "_STEPS", {1: (*steps[:step], "SELECT no_such_column")})
        with pytest.raises(StoreError, match="no_such_column"):
            open_store(tmp_path / "log.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as raw:
        assert raw.execute("SELECT value FROM mixllm_meta WHERE name = 'schema_version'").fetchone() == ("1",)
        columns = [row[1] for row in raw.execute("PRAGMA table_info(mixllm_feedback)")]
        assert columns == ["decision_id", "key", "reward", "time_s"]
    store = open_store(tmp_path / "log.db")
    assert [row.after for row in store.feedback_after(0, 100)] == [row.after for row in rows]
    store.close()


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    open_store(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE mixllm_meta SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(StoreError, match="schema version '99', this MixLLM reads versions 1 to 3"):
        open_store(path)
