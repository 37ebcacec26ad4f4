"""Simulated logs: queries whose true quality is known, a policy of poor taste that served them, and a better one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.evaluation.judged import JudgedLog, LeftOut

NAMES = ("a", "b", "c")
DIMENSION = 6
KINDS = ("ips", "snips", "dr")
PRICES = np.array([0.001, 0.002, 0.02])
TASTE = np.random.default_rng(99).normal(size=(DIMENSION, len(NAMES)))

Array = npt.NDArray[np.float64]


def softmax(scores: Array) -> Array:
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    made: Array = weights / weights.sum(axis=1, keepdims=True)
    return made


def queries(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Return unit embeddings and every candidate's true quality."""
    embeddings = rng.normal(size=(count, DIMENSION))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings, 1.0 / (1.0 + np.exp(-2.0 * embeddings @ TASTE))


def target_policy(log: JudgedLog) -> Array:
    return softmax(4.0 * log.embeddings.astype(np.float64) @ TASTE)


def simulated(seed: int, count: int, **changes: Any) -> JudgedLog:
    """Return a log by a policy with rather poor taste."""
    rng = np.random.default_rng(seed)
    embeddings, quality = queries(rng, count)
    chances = softmax(2.0 * embeddings @ TASTE[:, ::-1])
    chosen = (rng.random(count)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    rows = np.arange(count)
    log = JudgedLog(
        identity="simulated",
        encoder="none",
        candidates=NAMES,
        embeddings=embeddings.astype(np.float16),
        prompt_tokens=np.ones(count),
        willingness_to_pay=np.ones(count),
        eligible=np.ones((count, len(NAMES)), dtype=bool),
        expected_quality=quality,
        expected_cost_usd=np.tile(PRICES, (count, 1)),
        cost_unit_usd=np.full(count, PRICES.max()),
        chosen=chosen,
        propensity=chances[rows, chosen],
        reward=(rng.random(count) < quality[rows, chosen]).astype(float),
        cost_usd=np.full(count, np.nan),
        left_out=LeftOut(),
    )
    return dataclasses.replace(log, **changes)
