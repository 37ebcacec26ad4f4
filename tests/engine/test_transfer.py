"""A log moves to another database as one file; a file that is not whole changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixllm_engine import Outcome, Router, StoreError
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.store import schema
from mixllm_engine.store.memory import MemoryStore
from mixllm_engine.store.sql import SqlStore
from mixllm_engine.store.transfer import export_log, import_log
from mixllm_engine.testing import HashingEncoder, tiny_router

SMALL = RouterConfig(features=FeatureConfig(domains="none", components=4))


def router_on(store: SqlStore) -> Router:
    return tiny_router(store=store, config=SMALL)


def fill(store: SqlStore) -> None:
    router = router_on(store)
    for step in range(6):
        decision = router.decide(f"secret question {step}", willingness_to_pay=float("inf") if step else 1.0)
        router.link(decision.decision_id, "run", f"run-{step}")
        router.observe(decision.decision_id, Outcome(candidate="cheap", error="timeout", latency_s=0.1))
        router.observe(decision.decision_id, Outcome(candidate="dear", response_tokens=9, cost_usd=1 / 3))
        router.feedback(decision, step / 7)
        router.feedback(decision, step / 7)  # a duplicate
        router.feedback(decision, 1.0, key="judge", weight=0.3)
        router.feedback(decision, 0.5)
    store.change_state("another encoder", lambda _: b"\x00\xff", 2.0)


def learned(router: Router) -> list[float]:
    router.sync()
    banks = router._learner.learned()
    return [float(value) for sums in (*banks.quality.values(), *banks.length.values()) for value in sums.gram.ravel()]


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], SqlStore]]:
    made: list[SqlStore] = []

    def new(kind: str) -> SqlStore:
        file = f"sqlite:///{tmp_path / f'{len(made)}.db'}"
        made.append(SqlStore(request.getfixturevalue("postgres_url") if kind == "postgresql" else file))
        return made[-1]

    yield new
    for store in made:
        store.close()


@pytest.mark.parametrize(
    ("before", "after"), [("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "sqlite")]
)
def test_everything_arrives_and_the_log_goes_on(
    before: str, after: str, make: Callable[[str], SqlStore], tmp_path: Path
) -> None:
    old, new = make(before), make(after)
    fill(old)
    sent = export_log(old, tmp_path / "log.jsonl")
    assert sent == import_log(tmp_path / "log.jsonl", new)
    assert sent["mixllm_decisions"] == 6 and sent["mixllm_feedback_log"] == 18
    export_log(new, tmp_path / "again.jsonl")
    assert (tmp_path / "log.jsonl").read_bytes() == (tmp_path / "again.jsonl").read_bytes()
    assert b"secret" not in (tmp_path / "log.jsonl").read_bytes()
    assert new.counts() == old.counts()
    there, here = router_on(new), router_on(old)
    assert learned(there) == pytest.approx(learned(here), abs=1e-12)
    for router in (there, here):
        assert router.feedback("run-0", 0.25).status == "replaced"
    assert learned(there) == pytest.approx(learned(here), abs=1e-12)
    assert new.feedback_after(0, 100)[-1].sequence == 19


@pytest.mark.parametrize(("before", "after"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_tokens_that_were_counted_roughly_arrive(
    before: str, after: str, make: Callable[[str], SqlStore], tmp_path: Path
) -> None:
    old, new = make(before), make(after)
    router = router_on(old)
    decision = router.decide("hello")
    rough: dict[str, Any] = {"prompt_tokens": 12.6, "response_tokens": True, "cached_tokens": 4.0}
    router.observe(decision.decision_id, Outcome(candidate=decision.candidate, **rough))
    export_log(old, tmp_path / "log.jsonl")
    assert import_log(tmp_path / "log.jsonl", new)["mixllm_outcomes"] == 1
    (kept,) = new.outcomes(decision.decision_id)
    assert (kept.prompt_tokens, kept.response_tokens, kept.cached_tokens) == (13, 1, 4)


def test_a_saved_router_goes_on_where_it_was(make: Callable[[str], SqlStore], tmp_path: Path) -> None:
    old, new = make("sqlite"), make("sqlite")
    assert new.identity != old.identity
    fill(old)
    router = router_on(old)
    router.save(tmp_path / "state")
    export_log(old, tmp_path / "log.jsonl")
    import_log(tmp_path / "log.jsonl", new)
    loaded = Router.load(tmp_path / "state", store=new, encoder=HashingEncoder())
    assert loaded.sync() == 0
    loaded.feedback("run-1", 0.0, key="judge")
    assert loaded.stats()["feedback_applied"] == 12
    assert np.isfinite(learned(loaded)).all()


def test_only_an_empty_store_is_filled(make: Callable[[str], SqlStore], tmp_path: Path) -> None:
    old, used = make("sqlite"), make("sqlite")
    fill(old)
    fill(used)
    export_log(old, tmp_path / "log.jsonl")
    before, identity = used.counts(), used.identity
    with pytest.raises(StoreError, match="into an empty store only, and this one has rows in mixllm_decisions"):
        import_log(tmp_path / "log.jsonl", used)
    assert (used.counts(), used.identity) == (before, identity)


def sealed(lines: list[Any]) -> bytes:
    """Return the file that holds some lines, with a last one that is right."""
    body = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    end = {"lines": len(lines), "sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(end, separators=(",", ":")).encode() + b"\n"


HEADER = {"format": "mixllm-log", "version": schema.SCHEMA_VERSION, "identity": "0" * 32}
COUNTER = {"name": "feedback_duplicate", "value": 3}
LINK = {"name": "run", "decision_id": "nobody"}
STATE = {"sequence": 1, "time_s": 1.0, "encoder": "e", "data": "AA=="}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a log that MixLLM exported, or it is damaged"),
        (b"PK\x03\x04" * 50, "not a log that MixLLM exported"),
        (sealed([{**HEADER, "version": 1}]), "has schema version 1, this MixLLM imports version"),
        (sealed([{**HEADER, "format": "zip"}]), "something else than a log"),
        (sealed([[HEADER]]), "something else than a log"),
        (sealed([HEADER, ["mixllm_meta", {"name": "x", "value": "y"}]]), "not a row of a table"),
        (sealed([HEADER, ["mixllm_counters", {**COUNTER, "more": 1}]]), "has the columns 'name', 'value', 'more'"),
        (sealed([HEADER, ["mixllm_counters", {**COUNTER, "value": "3"}]]), "value is of the type str"),
        (sealed([HEADER, ["mixllm_counters", {**COUNTER, "value": True}]]), "value is of the type bool"),
        (sealed([HEADER, ["mixllm_counters", {**COUNTER, "value": 2**70}]]), "is damaged: .*too large"),
        (sealed([HEADER, ["mixllm_counters", {**COUNTER, "name": "\ud800"}]]), "is damaged: .*surrogates"),
        (sealed([HEADER, ["mixllm_counters", COUNTER], ["mixllm_counters", COUNTER]]), "UNIQUE constraint failed"),
        (sealed([HEADER, ["mixllm_states", {**STATE, "data": "no base64!"}]]), "data is not base64"),
        (sealed([HEADER, ["mixllm_counters", COUNTER], ["mixllm_links", LINK]]), "FOREIGN KEY constraint failed"),
    ],
)
def test_a_file_that_is_wrong_is_refused_and_nothing_is_kept(
    content: bytes, message: str, make: Callable[[str], SqlStore], tmp_path: Path
) -> None:
    store, path = make("sqlite"), tmp_path / "log.jsonl"
    path.write_bytes(content)
    identity = store.identity
    with pytest.raises(StoreError, match=message):
        import_log(path, store)
    assert SqlStore(store._engine.url.render_as_string()).identity == identity
    assert store.counts().feedback_duplicate == 0


def test_a_file_that_was_cut_or_changed_anywhere_is_refused(make: Callable[[str], SqlStore], tmp_path: Path) -> None:
    old, new = make("sqlite"), make("sqlite")
    fill(old)
    export_log(old, tmp_path / "log.jsonl")
    content = (tmp_path / "log.jsonl").read_bytes()
    broken = tmp_path / "broken.jsonl"

    @settings(max_examples=40, deadline=None)
    @given(at=st.integers(0, len(content) - 1), cut=st.booleans())
    def refused(at: int, cut: bool) -> None:
        broken.write_bytes(content[:at] if cut else content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(StoreError, match="damaged"):
            import_log(broken, new)

    refused()
    assert new.counts().decisions == 0
    import_log(tmp_path / "log.jsonl", new)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("AA=="),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def rows(draw: st.DrawFn) -> list[Any]:
    """Draw a row of a table, some of whose values may be anything."""
    table = draw(st.sampled_from([schema.counters, schema.states, schema.links, schema.decisions, schema.outcomes]))
    return [table.name, {column.name: draw(JSON) for column in table.columns}]


def test_whatever_a_file_holds_the_error_is_ours(make: Callable[[str], SqlStore], tmp_path: Path) -> None:
    store, path = make("sqlite"), tmp_path / "log.jsonl"

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(lines=st.lists(JSON | rows(), min_size=1, max_size=3))
    def refused(lines: list[Any]) -> None:
        path.write_bytes(sealed([HEADER, *lines, None]))
        with pytest.raises(StoreError, match=r"log\.jsonl|the store"):
            import_log(path, store)

    refused()


def test_a_file_out_of_reach_is_one_clear_error(make: Callable[[str], SqlStore], tmp_path: Path) -> None:
    store = make("sqlite")
    with pytest.raises(StoreError, match="can't be written to .*No such file"):
        export_log(store, tmp_path / "nowhere" / "log.jsonl")
    with pytest.raises(StoreError, match="can't be read: No such file"):
        import_log(tmp_path / "nothing.jsonl", store)
    with pytest.raises(StoreError, match="not one in memory"):
        export_log(MemoryStore(), tmp_path / "log.jsonl")
    assert not list(tmp_path.glob("log*"))
