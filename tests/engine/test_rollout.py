"""A gated rollout: exact propensities, bounds that hold at all times, and a state that is in the log."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixllm_engine import Query, RolloutConfig, Router, RouterConfig, UnknownCandidateError
from mixllm_engine.decision.choice import Choice, chance, choose
from mixllm_engine.decision.gate import Evidence, Gate
from mixllm_engine.evaluation.off_policy import estimate
from mixllm_engine.evaluation.policies import always
from mixllm_engine.testing import tiny_router
from mixllm_engine.types import Decision, Label

ROLLOUT = RolloutConfig(baseline="dear")


def router_with(rollout: RolloutConfig, **settings: object) -> Router:
    return tiny_router(config=RouterConfig(rollout=rollout, **settings.pop("config", {})), **settings)  # type: ignore[arg-type]


def shares_seen(difference: float, seed: int, labels: int, config: RolloutConfig = ROLLOUT) -> list[float]:
    """Let judged answers come in, looking after each; positions: 0 the baseline, 1 the other. They differ always."""
    rng, gate = np.random.default_rng(seed), Gate(config)
    gate.settle()
    seen = [gate.share]
    for _ in range(labels):
        choice, why = gate.draw(Choice([1, 0], 1.0, False), "score", 0, 0.0, rng)
        if why == "score":
            break
        calls_baseline = choice.ranking[0] == 0
        quality = 0.7 if calls_baseline else 0.7 + difference
        label = Label(float(rng.random() < quality), 1.0)
        gate.judged(why, "dear" if calls_baseline else "cheap", choice.propensity, label)
        gate.settle()
        seen.append(gate.share)
    return seen


# -- what the log says of a draw -----------------------------------------------------------------------------------


@given(st.floats(0.01, 0.99), st.floats(0.0, 0.5), st.sets(st.integers(0, 3)), st.integers(0, 3))
def test_propensities_add_up_over_all_that_may_be_called(
    share: float, rate: float, new: set[int], baseline: int
) -> None:
    ranking, rng = [2, 0, 3, 1], np.random.default_rng(0)
    chances = {position: chance(position, ranking, sorted(new), rate) for position in ranking}
    assert sum(chances.values()) == pytest.approx(1.0)
    gate = Gate(RolloutConfig(baseline="dear", shares=(share, 1.0)))
    gate.settle()
    found = {}
    for _ in range(60):
        own = choose(list(ranking), sorted(new), rate, rng)
        choice, _ = gate.draw(own, "score", baseline, chances[baseline], rng)
        assert sorted(choice.ranking) == [0, 1, 2, 3]
        found[choice.ranking[0]] = choice.propensity
    for position, propensity in found.items():
        assert propensity == pytest.approx(share * chances[position] + (1.0 - share) * (position == baseline))


def test_draws_happen_as_often_as_their_propensity_says() -> None:
    router = router_with(RolloutConfig(baseline="dear", shares=(0.3,)), config={"exploration": {"rate": 0.0}})
    made = [router.decide("hello", willingness_to_pay=0.0) for _ in range(4000)]
    by_name = {decision.candidate: decision for decision in made}
    shares = Counter(decision.candidate for decision in made)
    assert by_name["cheap"].propensity == pytest.approx(0.3) and by_name["dear"].propensity == pytest.approx(0.7)
    assert shares["cheap"] / 4000 == pytest.approx(0.3, abs=6 * math.sqrt(0.21 / 4000))
    assert by_name["dear"].ranking == ("dear", "cheap")  # the other one stands by
    assert str(router.explain(by_name["dear"].decision_id)).startswith("dear is the baseline of a rollout")
    assert "within its share" in str(router.explain(by_name["cheap"].decision_id))


def test_where_both_would_call_the_baseline_nothing_is_learned() -> None:
    router = router_with(RolloutConfig(baseline="dear", shares=(0.5,)), config={"exploration": {"rate": 0.0}})
    for _ in range(50):
        decision = router.decide("hello", deny=["cheap"])
        assert (decision.candidate, decision.propensity) == ("dear", 1.0)
        router.feedback(decision, 1.0)
    low, high = router.stats()["rollout"]["low"], router.stats()["rollout"]["high"]
    assert router.stats()["rollout"]["labels"] == 50 and low < 0.0 < high


@settings(max_examples=30)
@given(st.floats(0.05, 0.95), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 0.9))
def test_the_difference_is_unbiased(share: float, of_own: float, of_baseline: float, chance: float) -> None:
    """Expectation over who is called, by hand: x has the mean s (1 - s) (V(MixLLM) - V(X)), whatever was known."""
    gate = Gate(RolloutConfig(baseline="dear", shares=(share, 1.0)))
    before = Evidence(labels=3, reward=2.1)
    mean, steps = 0.0, []
    for name, value, own in (("dear", of_baseline, chance), ("cheap", of_own, 1.0 - chance)):
        propensity = share * own + (1.0 - share) * (name == "dear")
        gate.evidence = before
        gate.judged(f"rollout {share!r} {gate._tag}", name, propensity, Label(value, 1.0))
        steps.append(gate.evidence.difference)
        mean += propensity * gate.evidence.difference
    true = (chance * of_baseline + (1.0 - chance) * of_own) - of_baseline
    assert mean == pytest.approx(share * (1.0 - share) * true, abs=1e-12)
    assert max(map(abs, steps)) <= 1.0  # what the bounds need


# -- the guarantee -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("difference", [-0.3, -0.1])
def test_a_worse_router_does_no_more_harm_than_allowed(difference: float) -> None:
    """Looking after each of 600 answers, in 40 streams: at most alpha = 5 % may ever exceed what is allowed."""
    too_high = [max(shares_seen(difference, seed, 600)) * -difference > ROLLOUT.margin + 1e-9 for seed in range(40)]
    first_is_safe = ROLLOUT.shares[0] * -difference <= ROLLOUT.margin
    assert first_is_safe and sum(too_high) <= 2


def test_the_bounds_hold_at_all_times_at_once() -> None:
    """The true difference, at a share of 1/2, is ever outside in at most alpha = 20 % of streams, on each side."""
    outside = {"low": 0, "high": 0}
    for seed in range(60):
        rng, evidence = np.random.default_rng(seed), Evidence()
        ever = {"low": False, "high": False}
        for _ in range(400):
            is_own = bool(rng.random() < 0.5)
            label = Label(float(rng.random() < (0.5 if is_own else 0.6)), 1.0)
            evidence = evidence.with_label(label, 0.5, 2.0 if is_own else -2.0)
            ever["low"] |= evidence.above(-0.1, 0.8)
            ever["high"] |= evidence.below(-0.1, 0.8)
        outside = {side: outside[side] + ever[side] for side in outside}
    # 60 streams at 20 %: 12, and four standard deviations more are 24
    assert max(outside.values()) <= 24


def test_bounds_are_where_the_tests_turn() -> None:
    evidence = Evidence()
    for step in range(400):
        evidence = evidence.with_label(Label(0.9 if step % 2 else 0.6, 1.0), 0.5, 2.0 if step % 2 else -2.0)
    low, high = evidence.bounds(0.95)
    assert 0.0 < low < 0.3 < high
    assert evidence.above(low - 1e-6, 0.95) and not evidence.above(low + 1e-6, 0.95)
    assert evidence.below(high + 1e-6, 0.95) and not evidence.below(high - 1e-6, 0.95)


def test_a_much_worse_router_is_stopped_and_stays_so() -> None:
    seen = shares_seen(-0.5, 0, 3000)
    assert seen[-1] == 0.0
    stopped_at = seen.index(0.0)
    assert set(seen[stopped_at:]) == {0.0}


def test_a_better_router_gets_everything_step_by_step() -> None:
    seen = shares_seen(0.2, 0, 5000)
    assert seen[-1] == 1.0 and set(seen) >= {0.05, 0.1, 0.25, 0.5}


# -- in a router ---------------------------------------------------------------------------------------------------


def serve(router: Router, queries: int, better: str) -> list[Decision]:
    made = [router.decide(f"question {step}", willingness_to_pay=0.0) for step in range(queries)]
    for decision in made:
        router.feedback(decision, 0.9 if decision.candidate == better else 0.3)
    return made


def test_without_feedback_it_never_rises() -> None:
    router = router_with(ROLLOUT)
    for step in range(300):
        router.decide(f"question {step}", willingness_to_pay=0.0)
    assert router.stats()["rollout"] == {
        "baseline": "dear", "share": 0.05, "stopped": False, "labels": 0, "low": -1.0, "high": 1.0
    }  # fmt: skip


def test_the_state_is_in_the_log(tmp_path: Path) -> None:
    config = RolloutConfig(baseline="dear", shares=(0.3, 0.6, 1.0))
    with router_with(config, store=tmp_path / "log.db") as router:
        serve(router, 150, better="cheap")
        router.sync()
        stands = router.stats()["rollout"]
        with router_with(config, store=tmp_path / "log.db", seed=1) as other:
            other.decide("hello")
            assert other.stats()["rollout"] == stands
    assert stands["share"] > 0.3
    with router_with(config, store=tmp_path / "log.db") as restarted:
        restarted.decide("hello")
        assert restarted.stats()["rollout"] == stands
    other_settings = RolloutConfig(baseline="dear", shares=(0.3, 0.6, 1.0), margin=0.05)
    with router_with(other_settings, store=tmp_path / "log.db") as anew:
        anew.decide("hello")
        assert anew.stats()["rollout"]["labels"] == 0  # with other settings it begins anew


def test_a_stopped_rollout_calls_the_baseline_after_a_restart_too(tmp_path: Path) -> None:
    config = RolloutConfig(baseline="dear", shares=(0.5, 1.0))
    with router_with(config, store=tmp_path / "log.db") as router:
        serve(router, 300, better="dear")
        assert router.stats()["rollout"]["stopped"]
    with router_with(config, store=tmp_path / "log.db") as restarted:
        made = [restarted.decide(f"later {step}", willingness_to_pay=0.0) for step in range(20)]
    assert {(decision.candidate, decision.propensity) for decision in made} == {("dear", 1.0)}


def test_a_second_judgement_is_no_second_piece_of_evidence() -> None:
    router = router_with(RolloutConfig(baseline="dear", shares=(0.5,)))
    decision = router.decide("hello", willingness_to_pay=0.0)
    router.feedback(decision, 1.0)
    before = router.stats()["rollout"]
    router.feedback(decision, 0.0)
    router.feedback(decision, 0.5, key="judge")
    assert router.stats()["rollout"] == before and before["labels"] == 1


def test_the_log_of_a_rollout_can_be_judged_off_policy() -> None:
    router = router_with(RolloutConfig(baseline="dear", shares=(0.5,)))
    serve(router, 200, better="cheap")
    for name, quality in (("cheap", 0.9), ("dear", 0.3)):
        made = estimate(router, always(name))
        assert made.mean_weight.low < 1.0 < made.mean_weight.high and made.unsupported == 0.0
        assert made.reward.snips.value == pytest.approx(quality)


# -- what is left alone --------------------------------------------------------------------------------------------


def test_a_baseline_that_may_not_answer_leaves_the_choice_to_mixllm() -> None:
    router = router_with(RolloutConfig(baseline="dear", shares=(0.05,)))
    assert {router.decide("hello", deny=["dear"]).candidate for _ in range(20)} == {"cheap"}
    watched = router_with(RolloutConfig.shadow("dear"))
    assert watched.decide("hello", deny=["dear"]).candidate == "cheap"
    assert watched.decide("hello", force="cheap").reason == "forced"


def test_a_tool_loop_stays_with_its_candidate() -> None:
    router = router_with(RolloutConfig(baseline="dear", shares=(0.5,)))
    first = router.decide("hello", session="s")
    for _ in range(20):
        step = router.decide(Query(text="result", in_tool_loop=True), session="s")
        assert (step.candidate, step.reason, step.propensity) == (first.candidate, "tool loop", 1.0)


def test_the_baseline_has_to_be_in_the_pool() -> None:
    with pytest.raises(UnknownCandidateError, match="other"):
        router_with(RolloutConfig(baseline="other"))
    router = router_with(ROLLOUT)
    with pytest.raises(UnknownCandidateError, match="dear"):
        router.remove_candidate("dear")
    assert router.decide("hello").candidate and len(router.candidates) == 2


@pytest.mark.parametrize("shares", [(), (0.5, 0.1), (0.0, 0.5), (0.5, 1.5), (0.2, 0.2)])
def test_shares_that_make_no_sense_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="shares"):
        RolloutConfig(baseline="dear", shares=shares)


def test_evidence_is_not_dropped_during_a_rollout() -> None:
    with pytest.raises(ValueError, match="leave storage.keep_s and keep_decisions None"):
        RouterConfig.model_validate({"rollout": {"baseline": "dear"}, "storage": {"keep_decisions": 100}})


def test_settings_are_saved_with_the_router(tmp_path: Path) -> None:
    router = router_with(ROLLOUT)
    router.save(tmp_path / "state")
    assert Router.load(tmp_path / "state", encoder=router._contexts.encoder).config.rollout == ROLLOUT
