"""Stores to test with: where they are, what they hold, and what an older version of them looks like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.store.base import DecisionRecord
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
