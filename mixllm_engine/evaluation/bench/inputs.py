"""What all systems are asked: the same candidates, prices, queries and rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from mixllm_engine.encoding.general_prompts import tagged_prompts
from mixllm_engine.types import Candidate, Matrix

REWARDS: Final = (1.0, 0.0, 1.0)
# Features that rivals are given: ParetoBandit's own number, 25 principal components and a constant.
DIMENSION: Final = 26
QUERIES: Final = 256


def names_of(count: int) -> list[str]:
    """Return names for so many candidates, in their order."""
    return [f"llm{number:04d}" for number in range(count)]


def prices(names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the dollars per million tokens of prompt and answer of each candidate."""
    levels = np.geomspace(0.05, 5.0, len(names)).tolist()
    return {name: (level, 4.0 * level) for name, level in zip(names, levels, strict=True)}


def candidates(names: Sequence[str], **settings: Any) -> list[Candidate]:
    """Return candidates of rising price; `settings` are as in `Candidate`."""
    return [
        Candidate(name=name, model=f"openai/{name}", input_usd_per_mtok=prompt, output_usd_per_mtok=answer, **settings)
        for name, (prompt, answer) in prices(names).items()
    ]


def features() -> Matrix:
    """Return features of some queries, shape (n, 26), the last one constant."""
    rows = np.random.default_rng(0).standard_normal((QUERIES, DIMENSION))
    rows[:, -1] = 1.0
    return rows


def prompts(count: int) -> list[str]:
    """Return so many different prompts."""
    every = tagged_prompts().texts
    return list(every[:: len(every) // count][:count])


def texts_of(words: int, count: int) -> list[str]:
    """Return different texts of so many words, put together from prompts."""
    every = " ".join(tagged_prompts().texts).split()
    step = max(1, (len(every) - words) // count)
    return [" ".join(every[start : start + words]) for start in range(0, count * step, step)]


def outcomes(texts: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Return outcomes of every candidate for some texts, as `Router.fit` takes them; dearer ones are better."""
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {"prompt": list(texts)}
    for place, name in enumerate(names):
        table[f"{name}|quality"] = (rng.random(len(texts)) < 0.4 + 0.5 * (place + 1) / len(names)).astype(np.float64)
        table[f"{name}|response_tokens"] = rng.integers(20, 400, len(texts)).astype(np.float64)
    return table
