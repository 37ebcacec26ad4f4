"""Shadow mode changes nothing that is called; its log tells what would have been saved, and what it can't tell."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixllm_engine import AllCandidatesFailedError, Outcome, Query, RolloutConfig, Router, RouterConfig, TableError
from mixllm_engine.calling import RoutedClient
from mixllm_engine.evaluation.off_policy import estimate
from mixllm_engine.evaluation.policies import always
from mixllm_engine.evaluation.shadow import shadow_estimate
from mixllm_engine.testing import Failure, Reply, ScriptedServer, tiny_router
from tests.engine import plain

ROOT = Path(__file__).parents[2]
SHADOW = RouterConfig(rollout=RolloutConfig.shadow("dear"), features=plain.FEATURES)


def taught(seed: int = 0, store: Path | None = None) -> Router:
    """Return a router in shadow mode that a table taught: the cheap one is as good on half of the queries."""
    router = tiny_router(config=SHADOW, store=store, seed=seed)
    words = [f"{'easy' if step % 2 else 'hard'} question {step}" for step in range(400)]
    easy = np.arange(400) % 2 == 1
    router.fit(
        pd.DataFrame(
            {
                "prompt": words,
                "cheap|quality": np.where(easy, 0.9, 0.2),
                "dear|quality": 0.9,
                "cheap|response_tokens": 100,
                "dear|response_tokens": 100,
            }
        ),
        progress=False,
    )
    return router


def serve(router: Router, queries: int, willingness_to_pay: float = 5.0) -> None:
    for step in range(queries):
        text = f"{'easy' if step % 2 else 'hard'} question {step}"
        decision = router.decide(text, willingness_to_pay=willingness_to_pay)
        used = Outcome(candidate="dear", prompt_tokens=3, response_tokens=100, latency_s=1.0)
        router.observe(decision.decision_id, used)


def test_nothing_that_is_called_changes() -> None:
    router = taught()
    for query in ("easy question", Query(text="x", needs=["images"]), Query(text="x", in_tool_loop=True)):
        decision = router.decide(query, willingness_to_pay=0.0)
        assert (decision.candidate, decision.ranking) == ("dear", ("dear",))
        assert (decision.propensity, decision.explored, decision.reason) == (1.0, False, "shadow")
        assert set(decision.scores) == {"cheap", "dear"}
    assert not any(candidate["exploring_draws"] for candidate in router.stats()["candidates"].values())
    assert "while MixLLM is only watched" in str(router.explain(decision.decision_id))


def test_a_failure_stays_one_and_labels_teach_who_answered() -> None:
    with ScriptedServer() as server:
        server.script("dear", [Failure(status=500), Reply(text="yes")])
        server.script("cheap", Reply(text="never asked for"))
        with tiny_router(api_base=server.base_url, config=SHADOW) as router:
            client = RoutedClient(router)
            with pytest.raises(AllCandidatesFailedError):
                client.complete([{"role": "user", "content": "hello"}])
            answer = client.complete([{"role": "user", "content": "hello"}])
            assert answer.text == "yes"
            assert router.feedback(answer.decision, 1.0).candidate == "dear"
            assert router.stats()["candidates"]["dear"]["labels"] == 1


def test_a_saving_is_told_with_an_interval_around_what_was_expected() -> None:
    router = taught()
    serve(router, 200)
    told = shadow_estimate(router)
    assert (told.baseline, told.queries) == ("dear", 200)
    assert 0.1 < told.shares["cheap"] < 0.9
    # The cheap one costs a twentieth, and gets its share of queries that are all alike.
    assert told.saved_percent and told.saved_percent.value == pytest.approx(95.0 * told.shares["cheap"], abs=1.0)
    assert told.saved_percent.low < told.saved_percent.value < told.saved_percent.high
    assert told.would_spend_usd == pytest.approx(told.spent_usd * (1.0 - told.saved_percent.value / 100.0))
    assert told.quality_change and told.quality_change.low < 0.0 < told.quality_change.high
    assert "no answer of cheap, dear was judged in this log" in str(told) and told.baseline_quality is None
    assert told == shadow_estimate(router)


def test_a_log_that_can_not_tell_the_quality_says_so() -> None:
    router = tiny_router(config=SHADOW)
    serve(router, 60, willingness_to_pay=0.0)
    told = shadow_estimate(router)
    assert told.shares == {"cheap": 1.0} and told.quality_change is None
    assert "expected quality  can't be said" in str(told) and "quality may change by anything from -" in str(told)


def test_a_cost_that_was_not_foreseen_is_no_ground_for_a_claim() -> None:
    router = taught()
    for step in range(60):
        decision = router.decide(f"hard question {step}", willingness_to_pay=5.0)
        router.observe(decision.decision_id, Outcome(candidate="dear", prompt_tokens=9, cost_usd=0.01))
    told = shadow_estimate(router)
    assert told.saved_percent is None and "times what it did" in str(told)


def test_few_answers_are_no_ground_either() -> None:
    router = taught()
    serve(router, 5)
    told = shadow_estimate(router)
    assert told.saved_percent is None and told.quality_change is None and "5 answers are too few" in told.warnings[0]


def test_forced_decisions_count_too_and_failures_do_not() -> None:
    router = tiny_router()
    for step in range(30):
        decision = router.decide(f"question {step}", force="dear")
        router.observe(decision.decision_id, Outcome(candidate="dear", error="timeout"))
        router.observe(decision.decision_id, Outcome(candidate="dear", prompt_tokens=2, response_tokens=50))
    router.decide("free")
    told = shadow_estimate(router)
    assert (told.baseline, told.queries) == ("dear", 30)


def test_judged_answers_of_the_baseline_are_told() -> None:
    router = taught()
    serve(router, 30)
    for step in range(10):
        made = router.decide(f"more {step}")
        router.observe(made.decision_id, Outcome(candidate="dear", prompt_tokens=2, response_tokens=100))
        router.feedback(made, 0.75)
    told = shadow_estimate(router)
    assert told.baseline_quality and told.baseline_quality.value == pytest.approx(0.75)
    # and whoever asks the log about another policy is warned that it had no chance
    judged = estimate(router, always("cheap"))
    assert judged.unsupported == 1.0 and "had no chance in this log" in judged.warnings[0]


def test_a_log_without_shadow_mode_is_an_error() -> None:
    router = tiny_router()
    router.decide("hello")
    with pytest.raises(TableError, match="RolloutConfig.shadow"):
        shadow_estimate(router)


# -- the command line ----------------------------------------------------------------------------------------------


def mixllm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mixllm_engine.app.cli", "shadow", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_command(tmp_path: Path) -> None:
    with taught(store=tmp_path / "log.db") as router:
        serve(router, 40)
        told = shadow_estimate(router)
    where = ("--store", str(tmp_path / "log.db"))
    shown = mixllm(*where)
    assert (shown.returncode, shown.stderr) == (0, "") and shown.stdout == f"{told}\n"
    data = json.loads(mixllm(*where, "--json").stdout)
    assert data == json.loads(json.dumps(dataclasses.asdict(told)))
    wrong = mixllm(*where, "--baseline", "cheap")
    assert wrong.returncode == 1 and wrong.stderr.startswith("mixllm: the log has no answers of 'cheap' in shadow mode")
    missing = mixllm("--store", str(tmp_path / "none.db"))
    assert missing.returncode == 1 and "there is no store" in missing.stderr
    assert mixllm().returncode == 2
