"""The routers that are fuzzed: how they are set and taught, used afterwards, and which errors they may raise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mixllm_engine import MixLLMError, Outcome, Router
from mixllm_engine.config import FeatureConfig, LearningConfig, PredictionConfig, RouterConfig
from mixllm_engine.testing import tiny_router

NONE = FeatureConfig(domains="none", components=3)
SMALL = RouterConfig(features=NONE)
FULL = RouterConfig(
    features=NONE, prediction=PredictionConfig(heads="neural"), learning=LearningConfig(binary="both")
)  # fmt: skip

Property = Callable[[Any], None]


@contextmanager
def only_ours(*documented: type[Exception]) -> Iterator[None]:
    with suppress(MixLLMError, *documented):
        yield


def taught(config: RouterConfig, **more: Any) -> Router:
    router = tiny_router(config=config, **more)
    table = {
        "prompt": ["one", "two"],
        "cheap|quality": [0.0, 1.0],
        "dear|quality": [1.0, 0.5],
        "cheap|cost_usd": [1, 2],
    }
    router.fit(table, progress=False)
    router.add_candidate("gpt-4o-mini", like="dear", labelled={"prompt": ["five"], "quality": [1.0]})
    for step in range(4):
        decision = router.decide(f"question {step}", force=("cheap", "dear")[step % 2])
        router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=10))
        router.feedback(decision, 1.0)
        router.link(decision.decision_id, "run")
    return router


def use(router: Router) -> None:
    """Do with a router what a program does; nothing at all may go wrong."""
    decision = router.decide("What is it?", willingness_to_pay=2.0)
    assert decision.candidate in decision.ranking
    router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=3))
    router.feedback(decision, 0.5)
    json.dumps(router.stats(), default=str)
