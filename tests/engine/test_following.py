"""What a worker has said itself it knows as soon as it is told that it is kept, whatever the others say meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mixllm_engine import Router
from mixllm_engine.testing import tiny_router
from mixllm_engine.types import Outcome
from tests.engine.stores import SMALL, place, until

STORES = pytest.mark.parametrize("kind", ["memory", "sqlite", "postgresql"])


@STORES
def test_what_was_acknowledged_is_learned_with_many_threads(kind: str, request: pytest.FixtureRequest) -> None:
    acknowledged, lock = 0, threading.Lock()

    def learned(router: Router) -> float:
        """Look without asking: `Router.stats` would have the log read."""
        with router._lock:
            return float(router._learner.predictor.quality.count.sum())

    def judge(router: Router, answers: int) -> None:
        nonlocal acknowledged
        for _ in range(answers):
            router.feedback(router.decide("question"), 1.0)
            with lock:
                acknowledged += 1
                known = acknowledged
            assert learned(router) >= known

    with tiny_router(store=place(kind, request), config=SMALL) as router, ThreadPoolExecutor(12) as pool:
        list(pool.map(judge, [router] * 12, [15] * 12))
        assert learned(router) == acknowledged == 180


@STORES
def test_what_was_observed_is_learned_before_the_call_returns(kind: str, request: pytest.FixtureRequest) -> None:
    with tiny_router(store=place(kind, request), config=SMALL) as router:
        for seen in range(1, 6):
            decision = router.decide("question")
            router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=100))
            with router._lock:
                assert router._learner.predictor.length.count.sum() == seen


def test_nothing_is_read_for_nobody(request: pytest.FixtureRequest) -> None:
    quiet = SMALL.model_copy(update={"sync_interval_s": 1000.0})
    with tiny_router(store=place("sqlite", request), config=quiet) as router:
        router.feedback(router.decide("question"), 1.0)
        follower, readings = router._follower, router._follower._begun
        for _ in range(20):
            follower._wake.set()  # as by a thread whose rows are brought in before the follower looks who waits
            until(lambda: not follower._wake.is_set())
        router.feedback(router.decide("question"), 1.0)
        assert readings < follower._begun <= readings + 2
