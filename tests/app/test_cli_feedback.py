"""``mixllm feedback``: from any process, idempotent, and clear about what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixllm_engine.testing import tiny_router
from tests.app.running import Command, process


def test_a_late_feedback_from_a_second_process_is_learned(store: Path) -> None:
    with tiny_router(store=store) as router:
        decision = router.decide("What is two and two?")
        before = router.predict(["What is two and two?"])
        done = process("feedback", decision.decision_id, "1.0", "--store", store)
        assert done == (0, f"applied: {decision.candidate} got 1 from 'user'\n", "")
        again = process("feedback", decision.decision_id, "1.0", "--store", store, "--json")
        assert json.loads(again.out)["status"] == "duplicate"
        stats = router.stats()
        assert (stats["feedback_applied"], stats["feedback_duplicate"]) == (1, 1)
        after = router.predict(["What is two and two?"])
        column = after.candidates.index(decision.candidate)
        assert after.quality[0, column] > before.quality[0, column]


def test_repeated_feedback_says_that_nothing_has_changed(mixllm: Command, store: Path) -> None:
    with tiny_router(store=store) as router:
        decision = router.decide("hello")
    given = ("feedback", decision.decision_id, "--store", store)
    assert mixllm(*given, "0.5").out == f"applied: {decision.candidate} got 0.5 from 'user'\n"
    assert mixllm(*given, "0.5").out == f"duplicate: {decision.candidate} had 0.5 from 'user' before\n"
    assert mixllm(*given, "0.75").out == f"replaced: {decision.candidate} got 0.75 from 'user'\n"
    assert mixllm(*given, "0.75", "--key", "judge").out == f"applied: {decision.candidate} got 0.75 from 'judge'\n"
    told = json.loads(mixllm(*given, "0.25", "--key", "judge", "--json").out)
    assert told == {
        "decision_id": decision.decision_id,
        "candidate": decision.candidate,
        "key": "judge",
        "reward": 0.25,
        "status": "replaced",
    }


def test_any_name_leads_to_decisions_and_a_run_shares_a_reward(mixllm: Command, store: Path) -> None:
    with tiny_router(store=store) as router:
        decisions = [router.decide(f"step {step}") for step in range(2)]
        for decision in decisions:
            router.link(decision.decision_id, "run-1")
    assert mixllm("feedback", "run-1", "1", "--credit", "all", "--store", store).code == 0
    assert mixllm("feedback", f"mixllm-{decisions[0].decision_id}", "1", "--store", store).out.startswith("duplicate")
    with tiny_router(store=store) as router:
        assert router.stats()["feedback_applied"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["abc", "1.0"], "no decision 'abc' in this store: take the id from the answer's metadata"),
        (["abc", "7"], "reward=7.0 must be a number in [0, 1]"),
        (["abc", "-1"], "reward=-1.0 must be a number in [0, 1]"),
        (["abc", "nan"], "reward=nan must be a number in [0, 1]"),
        (["abc", "1.0", "--weight", "0"], "weight=0.0 must be a number in (0, 1]"),
        (["abc", "1.0", "--credit", "most"], "credit='most' is none of 'last', 'all', 'discounted'"),
        (["abc", "1.0", "--key", ""], "key='' must be a text of 1 to 128 characters"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, mixllm: Command, store: Path) -> None:
    tiny_router(store=store).close()
    done = mixllm("feedback", *arguments, "--store", store)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("mixllm: ") and message in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["abc"], ["abc", "good"], ["abc", "1.0", "--wieght", "0.5"], []])
def test_wrong_usage(arguments: list[str], mixllm: Command, store: Path) -> None:
    tiny_router(store=store).close()
    done = mixllm("feedback", *arguments, "--store", store)
    assert (done.code, done.out) == (2, "")
    assert "Usage: mixllm feedback" in done.err


def test_without_a_store(mixllm: Command, tmp_path: Path) -> None:
    done = mixllm("feedback", "abc", "1.0", "--store", tmp_path / "typo.db")
    assert (done.code, done.err.count("\n")) == (1, 1) and "there is no store" in done.err
    assert not (tmp_path / "typo.db").exists()
    assert mixllm("feedback", "abc", "1.0").code == 2
