"""Ranking, exploring draws and their propensities."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine import Candidate, RouterConfig
from mixllm_engine.decision.choice import choose, rank
from mixllm_engine.testing import tiny_router


def test_ties_go_by_position_and_the_excluded_are_left_out() -> None:
    total = np.array([0.5, 0.9, 0.5, 1.0])
    assert rank(total) == [3, 1, 0, 2]
    assert rank(total, np.array([True, True, True, False])) == [1, 0, 2]


def test_without_new_candidates_the_best_is_taken_with_certainty() -> None:
    choice = choose([2, 0, 1], [], 0.5, np.random.default_rng(0))
    assert (choice.ranking, choice.propensity, choice.explored) == ([2, 0, 1], 1.0, False)


@given(st.permutations(range(5)), st.sets(st.integers(0, 4)), st.floats(0.01, 0.5))
def test_propensities_are_the_frequencies(ranking: list[int], new: set[int], rate: float) -> None:
    rng = np.random.default_rng(0)
    seen: dict[int, float] = {}
    for _ in range(200):
        choice = choose(list(ranking), sorted(new), rate, rng)
        assert sorted(choice.ranking) == sorted(ranking)
        seen[choice.ranking[0]] = choice.propensity
    possible = {ranking[0], *new}
    assert set(seen) <= possible
    if set(seen) == possible:
        assert sum(seen.values()) == pytest.approx(1.0)


def test_draws_happen_as_often_as_their_propensity_says() -> None:
    rng = np.random.default_rng(1)
    counts = Counter(choose([0, 1, 2], [1, 2], 0.4, rng).ranking[0] for _ in range(20_000))
    # six standard errors of a share near 0.2 over 20,000 draws are 0.017
    assert [counts[k] / 20_000 for k in range(3)] == pytest.approx([0.6, 0.2, 0.2], abs=0.017)


def test_a_newcomer_that_looks_worse_by_chance_is_tried_beyond_its_draws() -> None:
    truth = {"cheap": 0.5, "dear": 0.8, "new": 0.85}
    newcomer = Candidate(name="new", model="new", input_usd_per_mtok=0.1, output_usd_per_mtok=0.2)

    def last_shares(optimism: float) -> list[float]:
        config = RouterConfig.model_validate({"exploration": {"optimism": optimism}})
        found = []
        for seed in range(6):
            router, rng = tiny_router(config=config, seed=seed), np.random.default_rng(seed)
            texts = [f"question {step}" for step in range(300)]
            router.fit({"prompt": texts, "cheap|quality": [0.5] * 300, "dear|quality": [0.8] * 300}, progress=False)
            router.add_candidate(newcomer)
            chosen = []
            for step in range(400):
                decision = router.decide(f"question {step}", willingness_to_pay=1e3)
                chosen.append(decision.candidate)
                router.feedback(decision, float(rng.random() < truth[decision.candidate]))
            found.append(chosen[-100:].count("new") / 100)
        return found

    greedy, optimistic = last_shares(0.0), last_shares(0.5)
    assert min(greedy) < 0.2  # given up for good after twenty unlucky labels
    assert min(optimistic) > 0.6
    assert np.mean(optimistic) > np.mean(greedy) + 0.1
