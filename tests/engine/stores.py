"""Stores to test with: where they are, what they hold, what an older version looks like; and routers over them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from mixllm_engine import Outcome, Router
from mixllm_engine.config import FeatureConfig, RouterConfig, StorageConfig
from mixllm_engine.store.base import DecisionRecord
from mixllm_engine.testing import tiny_router
from mixllm_engine.types import Decision, Label, Score

ROOT = Path(__file__).parents[2]
SCORE = Score(
    quality=0.5, response_tokens=9.0, cost_usd=0.1, uncertainty=0.0, waiting_s=0.0, trade=0.1, penalty=0.0, total=0.1
)
GOOD = Label(1.0, 1.0)
SMALL = RouterConfig(features=FeatureConfig(domains="none"))  # made at once


def place(kind: str, request: pytest.FixtureRequest) -> str | None:
    """Return where a store of a kind is kept."""
    if kind == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return None if kind == "memory" else str(request.getfixturevalue("tmp_path") / "log.db")


def record(decision_id: str, candidate: str = "a", *, explored: bool = False) -> DecisionRecord:
    decision = Decision(
        decision_id=decision_id,
        candidate=candidate,
        ranking=("a", "b"),
        propensity=0.9,
        explored=explored,
        scores={"a": SCORE, "b": SCORE},
        willingness_to_pay=float("inf"),
        time_s=1.5,
    )
    embedding = np.linspace(-1, 1, 8, dtype=np.float16)
    return DecisionRecord(decision=decision, embedding=embedding, encoder="e", policy="0.0", prompt_tokens=12)


OLDER = """
ALTER TABLE mixllm_feedback DROP COLUMN weight;
ALTER TABLE mixllm_feedback_log DROP COLUMN weight;
ALTER TABLE mixllm_feedback_log DROP COLUMN before_weight;
ALTER TABLE mixllm_feedback_log DROP COLUMN after_weight;
ALTER TABLE mixllm_decisions DROP COLUMN uncertainty_weight;
ALTER TABLE mixllm_decisions DROP COLUMN penalty_weight;
DROP INDEX ix_mixllm_decisions_time_s;
DROP TABLE mixllm_links;
DROP TABLE mixllm_prompts;
DROP TABLE mixllm_tallies;
DROP TABLE mixllm_workers;
UPDATE mixllm_meta SET value = '1' WHERE name = 'schema_version';
"""


def router_on(store: str, feedback: Literal["raises", "queues"] = "raises", **storage: Any) -> Router:
    config = RouterConfig(
        features=FeatureConfig(domains="none"),
        storage=StorageConfig(feedback=feedback, **storage),
        sync_interval_s=0.05,
    )
    return tiny_router(store=store, config=config)


def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.01)


def ask(router: Router, number: int = 0) -> Decision:
    decision = router.decide(f"question {number}")
    router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=10 + number))
    return decision


def labels(router: Router) -> float:
    """Return how many labels a router has learned, without asking it to read."""
    with router._lock:
        return sum(count for count, _ in router._learner.labels())
