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
    failed_s = 0.0
    for _ in range(3):
        cooldowns.failed("a", "rate_limit", failed_s)
        pauses.append(next(t for t in range(60) if not cooldowns.active(failed_s + t)))
        failed_s += pauses[-1]
    assert pauses == [10, 20, 25]
    cooldowns.failed("a", "rate_limit", 100.0)
    assert cooldowns.active(101.0) == {"a": "paused for 24 s after rate_limit"}
    cooldowns.succeeded("a")
    assert cooldowns.active(101.0) == {}


def test_calls_that_fail_together_are_one_failure() -> None:
    cooldowns = Cooldowns(WaitingConfig(cooldown_s=10))
    for call in range(32):
        cooldowns.failed("a", "unavailable", call / 32)
    assert cooldowns.active(10.9)
    assert cooldowns.active(11.0) == {}


def test_one_call_tries_a_candidate_before_the_others_come_back() -> None:
    cooldowns = Cooldowns(WaitingConfig(cooldown_s=10))
    cooldowns.failed("a", "unavailable", 0.0)
    assert cooldowns.active(10.0) == {}
    cooldowns.began("d1", "a")
    assert cooldowns.active(10.1) == {"a": "tried again after unavailable"}
    cooldowns.began("d2", "a")  # somebody insists; it is not the trial
    cooldowns.ended("d2", "a")
    assert cooldowns.active(10.2)
    cooldowns.ended("d1", "a")
    cooldowns.failed("a", "unavailable", 11.0)
    assert cooldowns.active(30.9)["a"] == "paused for 0 s after unavailable"  # it has doubled
    cooldowns.began("d3", "a")
    assert cooldowns.active(31.0)
    cooldowns.ended("d3", "a")
    cooldowns.succeeded("a")
    assert cooldowns.active(31.0) == {}


@pytest.mark.parametrize("is_told", [True, False])
def test_a_trial_that_brings_nothing_is_followed_by_another(is_told: bool) -> None:
    cooldowns = Cooldowns(WaitingConfig(cooldown_s=10))
    cooldowns.failed("a", "unavailable", 0.0)
    cooldowns.began("d1", "a")
    assert cooldowns.active(10.0)
    if is_told:  # that it was cancelled
        cooldowns.ended("d1", "a")
    assert bool(cooldowns.active(19.9)) is not is_told
    assert cooldowns.active(20.0) == {}


@pytest.mark.parametrize("jump_s", [-86_400.0, 31_536_000.0])
def test_a_clock_that_jumps_makes_no_pause_longer(jump_s: float) -> None:
    cooldowns = Cooldowns(WaitingConfig(cooldown_s=10))
    cooldowns.failed("a", "unavailable", 0.0)
    assert bool(cooldowns.active(jump_s)) is (jump_s < 0)
    assert cooldowns.active(jump_s + 10.0) == {}


@pytest.mark.parametrize("kind", ["context_window", "bad_request", "cancelled"])
def test_the_prompts_fault_pauses_nobody(kind: str) -> None:
    cooldowns = Cooldowns(WaitingConfig())
    cooldowns.failed("a", kind, 0.0)  # type: ignore[arg-type]
    assert cooldowns.active(0.1) == {}


def test_a_bad_key_pauses_longer() -> None:
    cooldowns = Cooldowns(WaitingConfig(cooldown_s=1, auth_cooldown_s=100))
    cooldowns.failed("a", "auth", 0.0)
    assert cooldowns.active(99.0)
