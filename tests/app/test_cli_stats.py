"""``mixllm stats``: what it counts is in the store, and what it says was learned is what a router says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mixllm_engine import Outcome, Router, RouterConfig
from mixllm_engine.config import FeatureConfig, LearningConfig, StorageConfig
from mixllm_engine.testing import FakeClock, tiny_router
from tests.app.running import Command, pool, process, router

COUNTS = (
    "decisions",
    "outcomes",
    "feedback_applied",
    "feedback_duplicate",
    "feedback_unmatched",
    "feedback_pending",
)
KNOWN = ["openai/gpt-4o", "openai/gpt-4o-mini"]  # LiteLLM's map has their prices


def told(mixllm: Command, *arguments: str | Path) -> dict[str, Any]:
    done = mixllm("stats", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    data: dict[str, Any] = json.loads(done.out)
    return data


def check_same(said: dict[str, Any], stats: dict[str, Any]) -> None:
    """Compare with what a router says."""
    assert {name: said[name] for name in COUNTS} == {name: stats[name] for name in COUNTS}
    assert said["alerts"] == [pytest.approx(alert, abs=1e-9) for alert in stats["alerts"]]
    for name, of in stats["candidates"].items():
        own = said["candidates"][name]
        assert (own["decisions"], own["exploring_draws"]) == (of["decisions"], of["exploring_draws"])
        assert own["labels"] == of["labels"]
        assert own["mean_quality"] == pytest.approx(of["mean_reward"], abs=1e-9)


def judged(made: Router, rewards: dict[str, list[float]]) -> None:
    for name, values in rewards.items():
        for step, reward in enumerate(values):
            made.feedback(made.decide(f"What is {step} plus {step}?", force=name), reward)


def test_what_is_said_is_what_a_router_says(mixllm: Command, store: Path) -> None:
    with router(store) as made:
        for step in range(12):
            decision = made.decide(f"What is {step} plus {step}?", force=("cheap", "dear")[step % 3 == 0])
            answer = Outcome(candidate=decision.candidate, prompt_tokens=10, response_tokens=100)
            failure = Outcome(candidate=decision.candidate, error="timeout")
            made.observe(decision.decision_id, answer if step % 4 else failure)
            if step % 2:
                made.feedback(decision, step / 12)
        made.feedback(decision, 0.5)  # replaces
        made.feedback(decision, 0.5)  # repeats
        stats = made.stats()
    said = told(mixllm, "--store", store)
    check_same(said, stats)
    assert list(said) == [
        *COUNTS[:4], "feedback_replaced", *COUNTS[4:], "feedback", "alerts", "rollout", "encoder",
        "settings", "candidates",
    ]  # fmt: skip
    assert (said["feedback_replaced"], said["feedback"]) == (1, 6)
    cheap = said["candidates"]["cheap"]
    assert list(cheap) == [
        "decisions", "share", "exploring_draws", "labels", "mean_quality", "interval_95", "outcomes", "outcomes_kept",
        "failures", "spend_usd", "answers_without_cost",
    ]  # fmt: skip
    assert (cheap["decisions"], cheap["share"], cheap["outcomes"], cheap["failures"]) == (8, 8 / 12, 8, 2)
    assert cheap["spend_usd"] == pytest.approx(6 * (10 * 0.1 + 100 * 0.4) / 1e6)
    check_same(told(mixllm, "--store", store), stats)  # looking changes nothing

    text = mixllm("stats", "--store", store).out
    assert "decisions            12\n" in text and "feedback replaced    1\n" in text
    (line,) = [line for line in text.splitlines() if line.startswith("cheap")]
    mean, (low, high) = cheap["mean_quality"], cheap["interval_95"]
    assert line.split()[:4] == ["cheap", "8", "66.7%", "4"]
    assert f"{mean:.3f} ({low:.3f} to {high:.3f})" in line
    assert line.split()[-3:] == ["8", "2", f"{cheap['spend_usd']:.6f}"]
    assert "no drift alerts\n" in text


def test_feedback_changes_what_was_learned_from_process_to_process(store: Path) -> None:
    with router(store) as made:
        ids = [made.decide(f"question {step}", force="dear").decision_id for step in range(3)]
    said = []
    for step, decision_id in enumerate(ids):
        done = process("feedback", decision_id, str(float(step > 0)), "--store", store)
        assert (done.code, done.err) == (0, "")
        shown = json.loads(process("stats", "--store", store, "--json").out)["candidates"]["dear"]
        (listed,) = [
            row for row in json.loads(process("candidates", "--store", store, "--json").out) if row["name"] == "dear"
        ]
        said.append((shown["labels"], shown["mean_quality"]))
        assert (listed["labels"], listed["mean_quality"], listed["interval_95"]) == (
            shown["labels"], shown["mean_quality"], shown["interval_95"],
        )  # fmt: skip
    assert said == [(1, 0.0), (2, 0.5), (3, pytest.approx(2 / 3))]
    with router(store) as made:
        assert made.stats()["candidates"]["dear"]["mean_reward"] == pytest.approx(said[-1][1])


def test_what_has_drifted_is_an_alert_and_is_mostly_forgotten(mixllm: Command, store: Path) -> None:
    with Router(KNOWN, store=store, seed=0) as made:
        judged(made, {KNOWN[0]: [1.0] * 60 + [0.0] * 45})
        stats = made.stats()
    assert stats["alerts"]
    said = told(mixllm, "--store", store)
    check_same(said, stats)
    own = said["candidates"][KNOWN[0]]
    low, high = own["interval_95"]
    assert own["mean_quality"] < 0.4 and own["labels"] == 105
    assert high - low > 0.2  # what is remembered are few labels, and the interval knows it
    text = mixllm("stats", "--store", store).out
    (alert,) = stats["alerts"]
    shift, labels = alert["shift"], alert["labels"]
    assert f"alert: the quality of {KNOWN[0]} has shifted by {shift:+.3f} within the last {labels} labels\n" in text


def test_a_table_in_the_store_counts_with_its_settings(mixllm: Command, store: Path) -> None:
    config = RouterConfig(learning=LearningConfig(table_trust=None, drift_threshold=None))
    with router(store, config=config) as made:
        table = {
            "prompt": [f"question {step}" for step in range(20)],
            "cheap|quality": [0.25] * 20,
            "dear|quality": [1.0] * 20,
        }
        made.fit(table, progress=False)
        judged(made, {"cheap": [1.0] * 5})
        stats = made.stats()
    said = told(mixllm, "--store", store)
    check_same(said, stats)
    assert said["settings"] == "saved"
    assert said["candidates"]["cheap"]["mean_quality"] == pytest.approx(0.4)


def test_settings_of_a_saved_router_count_where_they_are_given(mixllm: Command, store: Path, tmp_path: Path) -> None:
    config = RouterConfig(learning=LearningConfig(forgetting=0.5))
    with router(store, config=config) as made:
        judged(made, {"cheap": [1.0, 0.0, 0.0]})
        made.save(tmp_path / "state")
        judged(made, {"cheap": [1.0]})
        stats = made.stats()
    check_same(told(mixllm, "--store", store, "--state", tmp_path / "state"), stats)
    assert told(mixllm, "--store", store)["candidates"]["cheap"]["mean_quality"] == pytest.approx(0.5)
    assert "default settings" in mixllm("stats", "--store", store).out


def test_what_was_dropped_is_counted_and_said(mixllm: Command, store: Path) -> None:
    clock = FakeClock()
    config = RouterConfig(storage=StorageConfig(keep_decisions=3))
    with router(store, config=config, clock=clock) as made:
        for step in range(10):
            clock.advance(1.0)
            decision = made.decide(f"question {step}", force="cheap")
            made.observe(decision.decision_id, Outcome(candidate="cheap"))
            made.feedback(decision, float(step % 2))
        assert made.prune() == 7
        stats = made.stats()
    said = told(mixllm, "--store", store)
    check_same(said, stats)
    own = said["candidates"]["cheap"]
    assert (own["outcomes"], own["outcomes_kept"], own["labels"], own["answers_without_cost"]) == (10, 3, 10, 3)
    text = mixllm("stats", "--store", store).out
    assert "7 outcomes were dropped from the store" in text and "3 answers have no known cost" in text


def test_vectors_of_another_encoder_are_not_guessed_at(mixllm: Command, store: Path) -> None:
    with tiny_router(store=store) as made:
        for step in range(5):
            made.feedback(made.decide(f"question {step}"), 1.0)
        stats = made.stats()
    said = told(mixllm, "--store", store)
    assert {name: said[name] for name in COUNTS} == {name: stats[name] for name in COUNTS}
    assert (said["alerts"], said["encoder"]) == (None, "hashing-64+surface")
    assert {of["mean_quality"] for of in said["candidates"].values()} == {None}
    assert sum(of["decisions"] for of in said["candidates"].values()) == 5
    text = mixllm("stats", "--store", store).out
    assert "what was learned is unknown here: the vectors are by the encoder hashing-64+surface" in text
    assert "unknown" in mixllm("candidates", "--store", store).out


def test_of_two_encoders_the_packaged_one_counts(mixllm: Command, store: Path) -> None:
    with router(store) as made:
        judged(made, {"cheap": [1.0]})
    with tiny_router(store=store) as other:
        other.feedback(other.decide("hello"), 1.0)
    said = told(mixllm, "--store", store)
    assert (said["feedback_applied"], said["feedback_pending"]) == (1, 1)
    with router(store) as made:
        check_same(said, made.stats())


def test_vectors_without_the_surface_of_texts_are_the_packaged_encoders_too(mixllm: Command, store: Path) -> None:
    with Router(pool(), store=store, config=RouterConfig(features=FeatureConfig(surface=False)), seed=0) as made:
        judged(made, {"cheap": [1.0, 0.5], "dear": [1.0]})
        check_same(told(mixllm, "--store", store), made.stats())


def test_a_store_in_which_nobody_has_decided(mixllm: Command, store: Path) -> None:
    router(store).close()
    said = told(mixllm, "--store", store)
    assert (said["decisions"], said["candidates"], said["encoder"]) == (0, {}, None)
    assert "decisions            0\n" in mixllm("stats", "--store", store).out
    given = told(mixllm, "--store", store, "--pool", write_pool(store.parent))
    assert given["candidates"]["cheap"]["labels"] == 0


def write_pool(folder: Path) -> Path:
    path = folder / "pool.toml"
    keys = ("name", "model", "input_usd_per_mtok", "output_usd_per_mtok")
    tables = [[f"{key} = {json.dumps(getattr(one, key))}" for key in keys] for one in pool()]
    path.write_text("\n".join("\n".join(["[[candidate]]", *lines]) for lines in tables))
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no database at all" * 100, "can't be used: file is not a database"), (None, "there is no store")],
)
def test_what_is_no_store_is_one_line(content: bytes | None, message: str, mixllm: Command, store: Path) -> None:
    if content:
        store.write_bytes(content)
    for arguments in (["stats"], ["candidates"], ["explain", "abc"], ["export", str(store.parent / "log.jsonl")]):
        done = mixllm(*arguments, "--store", store)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert message in done.err
    assert store.exists() == (content is not None)


def test_a_damaged_state_is_an_error_and_no_number(mixllm: Command, store: Path) -> None:
    with router(store) as made:
        judged(made, {"cheap": [1.0]})
        made._store.change_state(made._learner.encoder, lambda _: b"damaged", 0.0)
    done = mixllm("stats", "--store", store)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)


def test_json_has_no_numbers_that_json_does_not_know(mixllm: Command, store: Path) -> None:
    with router(store) as made:
        decision = made.decide("hello", willingness_to_pay=math.inf)
    done = mixllm("explain", decision.decision_id, "--store", store, "--json")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(done.out, parse_constant=refuse)["willingness_to_pay"] is None
