"""Pools made from a seed: a domain word decides which candidate is good, so there is something to learn."""

from __future__ import annotations

import numpy as np

from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.remembered import RememberedEncoder
from mixllm_engine.evaluation.workbench import Workbench
from mixllm_engine.testing import HashingEncoder

NAMES = ("cheap", "code", "dear", "poor")
DOMAINS = ("chat", "code", "math")
# rows: candidates, columns: domains
QUALITY = np.array([[0.9, 0.2, 0.2], [0.6, 0.95, 0.3], [0.95, 0.9, 0.9], [0.2, 0.1, 0.1]])
PROMPT_USD = np.array([0.1, 1.0, 10.0, 0.05]) / 1e6
ANSWER_USD = np.array([0.4, 4.0, 30.0, 0.2]) / 1e6


def pool(queries: int = 240, seed: int = 0) -> FullFeedback:
    rng = np.random.default_rng(seed)
    domain = rng.integers(len(DOMAINS), size=queries)
    words = rng.integers(40, size=(queries, 3))
    texts = [f"{DOMAINS[d]} {DOMAINS[d]} w{a} w{b} w{c} n{i}" for i, (d, (a, b, c)) in enumerate(zip(domain, words))]  # noqa: B905
    prompt = rng.integers(5, 60, size=queries).astype(np.float64)
    answer = rng.integers(10, 90, size=(queries, len(NAMES))).astype(np.float64)
    return FullFeedback(
        name="synthetic",
        texts=tuple(texts),
        names=NAMES,
        quality=(rng.random((queries, len(NAMES))) < QUALITY[:, domain].T).astype(np.float64),
        cost_usd=prompt[:, None] * PROMPT_USD + answer * ANSWER_USD,
        prompt_tokens=prompt,
        response_tokens=answer,
        domains=tuple(DOMAINS[d] for d in domain),
    )


def bench() -> Workbench:
    return Workbench(RememberedEncoder(HashingEncoder(32)))
