"""``mixllm explain``: what is printed adds up, says who was excluded, and what would have changed the choice."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine import Outcome, Router, RouterConfig
from mixllm_engine.config import FeatureConfig, LearningConfig
from mixllm_engine.explanation import adding_up
from mixllm_engine.testing import tiny_router
from tests.app.running import Command

PARTS = {"trade", "unsure", "late", "feedback", "optimism"}
PLAIN = FeatureConfig(domains="none")


def taught(store: Path, config: RouterConfig, labels: int = 30) -> Router:
    """Return a router of which every candidate has so many labels, and calls under way."""
    router = tiny_router(names=("cheap", "middle", "dear"), config=config, store=store)
    for step in range(labels):
        for rank, name in enumerate(("cheap", "middle", "dear")):
            router.feedback(router.decide(f"question {step}", force=name), float((step + rank) % 3 > 0))
    for _ in range(20):
        router.dispatched(router.decide("question 3").decision_id, "cheap")
    return router


def read_table(text: str) -> tuple[list[str], list[dict[str, str]]]:
    """Read the table as a person does, by its headings."""
    lines = text.splitlines()
    heading = lines[2]
    names = heading.replace("cost $", "cost_$").replace("wait s", "wait_s").split()
    rows = []
    for line in lines[3 : lines.index("", 3)]:
        cells = line.split(maxsplit=len(names))
        rows.append(dict(zip([*names, "note"], cells, strict=False)))
    return names, rows


@pytest.mark.parametrize("form", ["default", "paper", "both"])
@pytest.mark.parametrize("willingness", [0.1, 2.0, 40.0])
def test_what_is_printed_adds_up_to_the_last_digit(form: str, willingness: float, mixllm: Command, store: Path) -> None:
    config = {
        "default": RouterConfig(features=PLAIN),
        "paper": RouterConfig.paper().model_copy(update={"features": PLAIN}),
        "both": RouterConfig(features=PLAIN, learning=LearningConfig(binary="both", feedback_rate=0.05)),
    }[form]
    with taught(store, config) as router:
        decision = router.decide("question 3", willingness_to_pay=willingness, max_wait_s=6.0)
    done = mixllm("explain", decision.decision_id, "--store", store)
    assert (done.code, done.err) == (0, "")
    names, rows = read_table(done.out)
    parts = [name for name in names if name in PARTS]
    expected = {"default": {"optimism"}, "paper": set(), "both": {"optimism", "feedback"}}[form]
    assert set(parts) - {"trade", "unsure", "late"} >= expected
    assert {row["candidate"] for row in rows} == {"cheap", "middle", "dear"}
    for row in rows:
        assert sum(Decimal(row[part]) for part in parts) == Decimal(row["score"])
        score = decision.scores[row["candidate"]]
        assert float(row["score"]) == pytest.approx(score.total, abs=0.5001e-4)
        assert float(row["late"]) == pytest.approx(-score.penalty * (decision.penalty_weight or 0), abs=1.0001e-4)
    assert any(float(row["late"]) < 0 for row in rows) and any(float(row["unsure"]) > 0 for row in rows)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=5))
def test_parts_and_sum_are_rounded_together(parts: list[float]) -> None:
    *shown, total = adding_up(parts, sum(parts))
    assert sum(map(Decimal, shown)) == Decimal(total)
    assert float(total) == pytest.approx(sum(parts), abs=0.5001e-4)
    for part, one in zip(parts, shown, strict=True):
        assert abs(part - float(one)) < 1.0001e-4
        assert part != 0.0 or float(one) == 0.0


def test_what_does_not_add_up_is_rounded_alone() -> None:
    assert adding_up([0.12344, 0.1], 5.0) == ["0.1234", "0.1000", "5.0000"]  # an older store, without weights
    assert adding_up([0.5, -1e300], -1e300)[0] == "0.5000"


def test_exclusions_attempts_and_the_counterfactual(mixllm: Command, store: Path) -> None:
    with tiny_router(names=("cheap", "middle", "dear"), store=store) as router:
        decision = router.decide("hello", deny=["dear"], willingness_to_pay=2.0)
        router.observe(decision.decision_id, Outcome(candidate="cheap", error="timeout"))
        router.observe(decision.decision_id, Outcome(candidate="middle", cost_usd=0.002, latency_s=1.5))
        change = router.explain(decision.decision_id).counterfactual
    text = mixllm("explain", decision.decision_id, "--store", store).out
    (row,) = [row for row in read_table(text)[1] if row["candidate"] == "dear"]
    assert row["note"] == "denied for this call"
    assert change is not None and f"\n\n{change}\n" in text
    assert text.endswith("\n\ncheap: timeout\nmiddle: answered, 0.002000 $, 1.50 s\n")
    assert text.startswith(f"{decision.candidate} ")

    data = json.loads(mixllm("explain", decision.decision_id, "--store", store, "--json").out)
    assert list(data) == [
        "decision_id", "candidate", "propensity", "explored", "reason", "willingness_to_pay", "time_s",
        "uncertainty_weight", "penalty_weight", "ranking", "policy", "scores", "parts", "counterfactual", "outcomes",
    ]  # fmt: skip
    assert (data["scores"]["dear"]["eligible"], data["scores"]["dear"]["reason"]) == (False, "denied for this call")
    assert data["counterfactual"]["runner_up"] == change.runner_up
    assert [outcome["error"] for outcome in data["outcomes"]] == ["timeout", None]
    for name, parts in data["parts"].items():
        assert sum(parts.values()) == pytest.approx(data["scores"][name]["total"], abs=1e-12)


def test_ids_of_messages_and_runs_lead_to_their_decision(mixllm: Command, store: Path) -> None:
    with tiny_router(store=store) as router:
        first, last = router.decide("one"), router.decide("two")
        for decision in (first, last):
            router.link(decision.decision_id, "run-1")
    plain = mixllm("explain", last.decision_id, "--store", store).out
    assert mixllm("explain", f"mixllm-{last.decision_id}", "--store", store).out == plain
    assert json.loads(mixllm("explain", "run-1", "--store", store, "--json").out)["decision_id"] == last.decision_id


@pytest.mark.parametrize("ref", ["abc", "0" * 32, "a\0b", "\ud800"])
def test_who_is_not_in_the_store(ref: str, mixllm: Command, store: Path) -> None:
    tiny_router(store=store).close()
    done = mixllm("explain", ref, "--store", store)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("mixllm: no decision ")


def test_wrong_usage(mixllm: Command, store: Path) -> None:
    assert mixllm("explain", "--store", store).code == 2
    assert mixllm("explain", "abc").code == 2
    assert mixllm("explain", "abc", "--store", store).code == 1
