"""Ranking, exploring draws and their propensities."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixllm_engine import Candidate, Query, Router, RouterConfig
from mixllm_engine.decision.choice import choose, rank
from mixllm_engine.testing import tiny_router
from mixllm_engine.types import Score
from tests.engine import plain

DEFAULT = RouterConfig.default()


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
        settings = {"exploration": {"optimism": optimism}, "features": plain.FEATURES}  # for these seeds' bad luck
        config, found = RouterConfig.model_validate(settings), []
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


# Newcomers alone are given something in advance.
NO_LEADER = RouterConfig.model_validate({"decision": {"leader_margin": 0}})


def labelled(levels: dict[str, tuple[int, float]], config: RouterConfig, store: Path | None = None) -> Router:
    """Return a router whose candidates have so many labels, all of the same value."""
    router = tiny_router(names=tuple(levels), config=config, store=store)
    most = max(count for count, _ in levels.values())
    columns = {
        f"{name}|quality": [level] * count + [math.nan] * (most - count) for name, (count, level) in levels.items()
    }
    router.fit({"prompt": [f"question {row}" for row in range(most)], **columns}, progress=False)
    return router


def parts(score: Score) -> float:
    config = DEFAULT.decision
    return (
        score.trade
        + config.uncertainty_weight * score.uncertainty
        - config.penalty_weight * score.penalty
        + score.feedback
        + score.optimism
    )


def test_optimism_is_a_part_of_the_score_and_of_its_explanation(tmp_path: Path) -> None:
    with labelled({"known": (300, 0.52), "new": (25, 0.5)}, NO_LEADER, tmp_path / "log.db") as router:
        decision = router.decide("question", willingness_to_pay=3.0)
        explanation = router.explain(decision.decision_id)  # read back from the database
    for scores in (decision.scores, explanation.decision.scores):
        assert scores["new"].optimism == pytest.approx(0.75 * 0.5 * (1 / math.sqrt(27) - 1 / math.sqrt(202)))
        assert scores["known"].optimism == 0.0
        for score in scores.values():
            assert score.total == pytest.approx(parts(score))
    heading = str(explanation).splitlines()[2]
    assert "optimism" in heading
    assert "feedback" not in heading
    assert f"{decision.scores['new'].optimism:.4f}" in str(explanation)
    assert [len(row) for row in explanation.rows()] == [12, 12]


def test_nothing_is_given_in_advance_to_the_known_and_nothing_is_shown() -> None:
    router = labelled({"a": (200, 0.5), "b": (300, 0.5)}, NO_LEADER)
    explanation = router.explain(router.decide("question").decision_id)
    assert "optimism" not in str(explanation)
    assert all(score.optimism == 0.0 for score in explanation.decision.scores.values())


def test_a_tool_loop_is_decided_by_what_is_known() -> None:
    router = labelled({"known": (300, 0.53), "new": (25, 0.5)}, NO_LEADER)
    assert router.decide("question", willingness_to_pay=1e3, session="s").candidate == "new"
    looping = Query(text="question", in_tool_loop=True)
    alone = router.decide(looping, willingness_to_pay=1e3)
    assert (alone.candidate, alone.propensity, alone.explored) == ("known", 1.0, False)
    in_session = router.decide(looping, willingness_to_pay=1e3, session="s")
    assert (in_session.candidate, in_session.reason) == ("new", "tool loop")
    for decision in (alone, in_session):
        for score in decision.scores.values():
            assert score.optimism == 0.0
            assert score.total == pytest.approx(parts(score))


def test_what_another_is_given_in_advance_takes_nobodys_hope() -> None:
    between = 0
    for level in np.linspace(0.0, 0.3, 7):
        router = labelled({"favoured": (20, 0.5), "new": (10, float(level))}, DEFAULT)
        decisions = [router.decide("question", willingness_to_pay=math.inf) for _ in range(60)]
        new, favoured = decisions[0].scores["new"], decisions[0].scores["favoured"]
        best_case = new.total + new.uncertainty
        hopeful = best_case >= favoured.total - favoured.optimism
        assert any(decision.explored for decision in decisions) == hopeful
        between += hopeful and best_case < favoured.total
    assert between
