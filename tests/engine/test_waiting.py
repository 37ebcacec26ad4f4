"""Load and cooldowns."""

from __future__ import annotations

import pytest

from mixllm_engine.candidates import Pool
from mixllm_engine.config import WaitingConfig
from mixllm_engine.testing import tiny_pool
from mixllm_engine.waiting.cooldown import Cooldowns
from mixllm_engine.waiting.load import Load


def test_a_queue_builds_with_each_dispatch_and_shrinks_with_each_return() -> None:
    load = Load(Pool(tiny_pool()), WaitingConfig(concurrency=2, startup_s=1.0, tokens_per_s=100.0))
    waits = []
    for _ in range(4):
        waits.append(float(load.timing([100.0, 100.0]).waiting_s[0]))
        load.dispatched("cheap")
    # two calls are served at once; a service takes 1 + 100 / 100 s
    assert waits == [0.0, 0.0, 1.0, 2.0]
    assert load.timing([100.0, 100.0]).waiting_s.tolist() == [3.0, 0.0]
    for _ in range(6):
        load.returned("cheap")
    assert load.in_flight("cheap") == 0
    assert load.timing([100.0, 100.0]).waiting_s.tolist() == [0.0, 0.0]


def test_speed_is_learned_from_answers_unless_it_is_given() -> None:
    fast, slow = tiny_pool()
    load = Load(Pool([fast, slow]), WaitingConfig(tokens_per_s=50.0, startup_s=0.0, prior_calls=5))
    for _ in range(100):
        load.observe("cheap", 200, 1.0)
    assert load.timing([200.0, 200.0]).tokens_per_s[0] == pytest.approx((1500 + 20_000) / (30 + 100))
    assert load.timing([200.0, 200.0]).tokens_per_s[1] == 50.0


def test_pauses_double_and_end_with_a_success() -> None:
    cooldowns = Cooldowns(WaitingConfig(cooldown_s=10, max_cooldown_s=25))
    pauses = []
    for _ in range(3):
        cooldowns.failed("a", "rate_limit", 0.0)
        pauses.append(next(t for t in range(60) if not cooldowns.active(float(t))))
    assert pauses == [10, 20, 25]
    assert cooldowns.active(1.0) == {"a": "paused for 24 s after rate_limit"}
    cooldowns.succeeded("a")
    assert cooldowns.active(1.0) == {}


@pytest.mark.parametrize("kind", ["context_window", "bad_request", "cancelled"])
def test_the_prompts_fault_pauses_nobody(kind: str) -> None:
    cooldowns = Cooldowns(WaitingConfig())
    cooldowns.failed("a", kind, 0.0)  # type: ignore[arg-type]
    assert cooldowns.active(0.1) == {}


def test_a_bad_key_pauses_longer() -> None:
    cooldowns = Cooldowns(WaitingConfig(cooldown_s=1, auth_cooldown_s=100))
    cooldowns.failed("a", "auth", 0.0)
    assert cooldowns.active(99.0)
