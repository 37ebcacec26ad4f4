"""``mixllm export`` and ``mixllm import``: a store goes through a file, all of it or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixllm_engine.testing import tiny_router
from tests.app.running import Command

TABLES = [
    f"mixllm_{name}"
    for name in ("decisions", "outcomes", "links", "feedback", "feedback_log", "states", "tallies", "counters")
]


@pytest.fixture
def decision_id(store: Path) -> str:
    """Fill the store with one decision that was judged."""
    with tiny_router(store=store) as router:
        decision = router.decide("What is two and two?")
        router.feedback(decision, 1.0)
    return decision.decision_id


def test_a_store_goes_through_a_file(mixllm: Command, decision_id: str, store: Path, tmp_path: Path) -> None:
    log, copy = tmp_path / "log.jsonl", tmp_path / "copy.db"
    done = mixllm("export", log, "--store", store)
    assert done == (0, f"3 rows written to {log}\n", "")
    told = json.loads(mixllm("export", log, "--store", store, "--json").out)
    assert list(told) == TABLES
    assert (told["mixllm_decisions"], told["mixllm_feedback"], told["mixllm_feedback_log"]) == (1, 1, 1)
    assert mixllm("import", log, "--store", copy) == (0, f"3 rows read from {log}\n", "")
    with tiny_router(store=copy) as router:
        assert router.stats()["feedback_applied"] == 1
        assert router.feedback(decision_id, 1.0).status == "duplicate"
    assert json.loads(mixllm("import", log, "--store", tmp_path / "third.db", "--json").out) == told


def test_only_an_empty_store_is_filled(mixllm: Command, decision_id: str, store: Path, tmp_path: Path) -> None:
    mixllm("export", tmp_path / "log.jsonl", "--store", store)
    done = mixllm("import", tmp_path / "log.jsonl", "--store", store)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "into an empty store only" in done.err


def test_what_is_missing_makes_nothing(mixllm: Command, tmp_path: Path) -> None:
    done = mixllm("export", tmp_path / "log.jsonl", "--store", tmp_path / "none.db")
    assert (done.code, done.err.count("\n")) == (1, 1) and "there is no store" in done.err
    done = mixllm("import", tmp_path / "log.jsonl", "--store", tmp_path / "none.db")
    assert (done.code, done.err.count("\n")) == (1, 1) and "there is no file" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"nothing that was exported\n", b'{"format":"mixllm-log"}\n'])
def test_a_damaged_file(damage: bytes, mixllm: Command, decision_id: str, store: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    mixllm("export", log, "--store", store)
    whole = log.read_bytes()
    for content in (damage, damage + whole, whole[:-20]):
        log.write_bytes(content)
        done = mixllm("import", log, "--store", tmp_path / "copy.db")
        if content == whole:  # no damage before it
            assert done.code == 0
            continue
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "log.jsonl" in done.err


def test_a_place_that_can_not_be_written_to(mixllm: Command, decision_id: str, store: Path, tmp_path: Path) -> None:
    for place in (tmp_path / "no" / "such" / "folder.jsonl", tmp_path):
        done = mixllm("export", place, "--store", store)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "can't be written" in done.err
    assert mixllm("export", "--store", store).code == 2
