"""What a router knows outlives it, and is shared: by a store, by a saved state, and between threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mixllm_engine import Outcome, Router, RouterConfig, StateError
from mixllm_engine.testing import HashingEncoder, tiny_router
from tests.engine.topics import teach


def test_draws_are_remembered_across_a_restart(tmp_path: Path) -> None:
    with tiny_router(store=tmp_path / "log.db") as router:
        explored = sum(router.decide(f"query {step}").explored for step in range(60))
    with tiny_router(store=tmp_path / "log.db") as router:
        stats = router.stats()["candidates"]
        assert sum(values["exploring_draws"] for values in stats.values()) == explored > 0


def test_two_routers_on_one_store_learn_from_each_other(tmp_path: Path) -> None:
    with tiny_router(store=tmp_path / "log.db") as one, tiny_router(store=tmp_path / "log.db") as two:
        for step in range(10):
            one.feedback(one.decide(f"question {step}"), 1.0)
        assert two.sync() > 0
        texts = ["question 3", "something else"]
        assert np.allclose(one.predict(texts).quality, two.predict(texts).quality, atol=1e-12)
        clock_free = two.decide("question 3")
        assert one.feedback(clock_free.decision_id, 0.0).status == "applied"


def test_a_router_follows_the_log_by_itself(tmp_path: Path) -> None:
    config = RouterConfig(sync_interval_s=0.02)
    with (
        tiny_router(store=tmp_path / "log.db", config=config) as one,
        tiny_router(store=tmp_path / "log.db", config=config) as two,
    ):
        one.decide("question")
        for step in range(5):
            two.feedback(two.decide(f"question {step}"), 0.0)
        until = time.monotonic() + 20.0
        while one._learner.version != two._learner.version:  # nothing is asked of `one` meanwhile
            assert time.monotonic() < until, "nothing of the other worker's was learned"
            time.sleep(0.01)
        record = one.explain(one.decide("question").decision_id).record
        assert record.policy == two._learner.version


def test_save_and_load_are_the_identity(tmp_path: Path) -> None:
    router = tiny_router(store=tmp_path / "log.db")
    teach(router, 30, {"poem": "dear", "sum": "cheap"})
    router.save(tmp_path / "state")
    texts = ["poem", "sum", "else"]
    expected = router.predict(texts)
    for store in (None, tmp_path / "log.db"):  # with the old store, rows that were learned are not learned twice
        loaded = Router.load(tmp_path / "state", encoder=HashingEncoder(), store=store)
        assert loaded.config == router.config
        found = loaded.predict(texts)
        for field in ("quality", "cost_usd", "response_tokens", "uncertainty"):
            assert np.allclose(getattr(found, field), getattr(expected, field), atol=1e-12), field


def test_foreign_and_damaged_states_are_refused(tmp_path: Path) -> None:
    router = tiny_router()
    router.save(tmp_path)
    with pytest.raises(StateError, match="another encoder"):
        Router.load(tmp_path, encoder=HashingEncoder(32))
    path = tmp_path / "state.safetensors"
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"\x80\x04pickle", whole.replace(b"mixllm-state", b"others-state")):
        path.write_bytes(data)
        with pytest.raises(StateError, match="state"):
            Router.load(tmp_path, encoder=HashingEncoder())
    with pytest.raises(StateError, match=r"no state in .*can't be read"):
        Router.load(tmp_path / "nowhere", encoder=HashingEncoder())


def test_threads_share_a_router() -> None:
    router = tiny_router()
    failures = []

    def work(worker: int) -> None:
        try:
            for step in range(40):
                decision = router.decide(f"{worker} {step}")
                router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=5))
                router.feedback(decision, 1.0)
        except Exception as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = router.stats()
    assert not failures
    assert stats["feedback_applied"] == stats["outcomes"] == 320
    assert sum(values["labels"] for values in stats["candidates"].values()) == 320
