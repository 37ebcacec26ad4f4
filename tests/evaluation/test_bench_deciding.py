"""What decisions and feedback take: the same inputs for every system, and a row for each."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mixllm_engine.evaluation.bench import deciding
from mixllm_engine.evaluation.bench.deciders import deciding as contenders
from mixllm_engine.evaluation.bench.inputs import names_of, outcomes, prices, prompts, texts_of
from mixllm_engine.evaluation.bench.timing import alternate
from tests.evaluation.bench_machine import SMALL

PARETO, MABWISER = "ParetoBandit", "MABWiser LinUCB"


def test_inputs_are_repeatable_and_different_from_one_another() -> None:
    texts = texts_of(200, 300)
    assert len(set(texts)) == 300 and {len(text.split()) for text in texts} == {200}
    assert len(set(prompts(256))) == 256
    assert list(prices(names_of(3))) == sorted(names_of(3))
    table = outcomes(prompts(50), names_of(2))
    assert table.keys() == {"prompt", *(f"{n}|{k}" for n in names_of(2) for k in ("quality", "response_tokens"))}
    assert np.array_equal(table["llm0000|quality"], outcomes(prompts(50), names_of(2))["llm0000|quality"])


def test_learning_is_given_each_decision_once() -> None:
    class Recorder:
        note = "n"

        def __init__(self) -> None:
            self.learned: list[int] = []

        def decide(self, serial: int) -> int:
            return serial

        def learn(self, reference: int, reward: float) -> None:
            self.learned.append(reference)

    recorder = Recorder()
    _, learn = contenders("r", lambda: recorder)
    alternate([learn], SMALL)
    assert recorder.learned == list(range(SMALL.most_calls))


def test_decisions_have_a_row_for_every_system() -> None:
    pytest.importorskip("pareto_bandit")
    made = deciding.decisions((3, 10), SMALL)
    systems = {"MixLLM", "MixLLM, all new", PARETO, MABWISER}
    chosen = [row for row in made if row.part == "decision without encoding"]
    assert {(row.setting, row.system) for row in chosen} == {(f"{k} candidates", s) for k in (3, 10) for s in systems}
    for row in made:
        if row.p50 is not None:
            assert row.best is not None and row.p95 is not None and 0 < row.best <= row.p50 <= row.p95
            assert row.ratio is not None and (row.ratio == 1.0) == (row.system == PARETO)
        else:
            assert row.system == MABWISER and row.note.startswith("not installed")
    with_budget = {(row.part, row.setting) for row in made if row.budget}
    assert with_budget == {
        ("decision without encoding", "10 candidates"),
        ("feedback", "3 candidates"),
        ("feedback", "10 candidates"),
    }


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pareto_bandit", "pareto_bandit.feature_service", "mabwiser.mab"):
        monkeypatch.setitem(sys.modules, module, None)
    made = deciding.decisions((3,), SMALL) + deciding.from_text((20,), SMALL)
    notes = {(row.part, row.system): row.note for row in made if row.p50 is None}
    assert notes == {
        ("decision without encoding", PARETO): "not installed: pip install paretobandit==0.1.1",
        ("decision without encoding", MABWISER): "not installed: pip install mabwiser",
        ("feedback", PARETO): "not installed: pip install paretobandit==0.1.1",
        ("feedback", MABWISER): "not installed: pip install mabwiser",
        ("text to decision", PARETO): "not installed: pip install paretobandit==0.1.1",
    }
    [ours] = [row for row in made if row.part == "text to decision" and row.system == "MixLLM"]
    assert 2 <= ours.count <= 6 and ours.ratio is None and ours.holds is None
