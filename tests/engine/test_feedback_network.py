"""The paper's f_df: its gradient and confidence by hand, names that come and go, and the way through the router."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from mixllm_engine import Candidate, Router, RouterConfig, StateError
from mixllm_engine.learning.feedback_network import HIDDEN, FeedbackNetwork, NetworkState
from mixllm_engine.learning.learner import Learner
from mixllm_engine.learning.state import Learned
from mixllm_engine.testing import HashingEncoder, tiny_router
from mixllm_engine.types import Label, Matrix

D = 5
POLICY = RouterConfig.model_validate(
    {"exploration": {"pulls": 0}, "learning": {"binary": "policy_gradient", "feedback_rate": 0.05}}
)
MIDDLE = Candidate(name="middle", model="openai/middle", input_usd_per_mtok=0.5, output_usd_per_mtok=1.0)


def contexts(rows: int, seed: int = 0) -> Matrix:
    rng = np.random.default_rng(seed)
    return np.concatenate([np.ones((rows, 1)), rng.normal(size=(rows, D - 1))], axis=1)


def taught(names: list[str], rows: int = 40, rate: float = 0.01) -> FeedbackNetwork:
    """Return a network for which the first name is good where feature 1 is positive, the others where it is not."""
    network = FeedbackNetwork(D, rate=rate)
    network.attach(names)
    for row, context in enumerate(contexts(rows)):
        chosen = names[row % len(names)]
        network.learn(context, chosen, names, after=Label(float((context[1] > 0) == (chosen == names[0])), 1.0))
    return network


def log_policy(network: FeedbackNetwork, context: np.ndarray, chosen: int) -> float:
    hidden = np.maximum(network.weights_1 @ context + network.bias_1, 0)
    last = np.append(np.maximum(network.weights_2 @ hidden + network.bias_2, 0), 1.0)
    scores = np.tanh(network.output @ last)
    return float(scores[chosen] - np.log(np.exp(scores).sum()))


def arrays(state: NetworkState) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in state.arrays.items()}


def test_the_gradient_is_the_one_of_finite_differences() -> None:
    network = taught(["a", "b", "c"])
    network.output += np.random.default_rng(1).normal(size=network.output.shape)
    context, rng, step = contexts(1, seed=2)[0], np.random.default_rng(3), 1e-6
    found = network.gradient(context, [0, 1, 2], 1)
    for name, gradient in found.items():
        parameter = getattr(network, name)
        for _ in range(25):
            place = tuple(rng.integers(size) for size in parameter.shape)
            kept = parameter[place]
            parameter[place] = kept + step
            higher = log_policy(network, context, 1)
            parameter[place] = kept - step
            lower = log_policy(network, context, 1)
            parameter[place] = kept
            assert gradient[place] == pytest.approx((higher - lower) / (2 * step), abs=1e-7), name


@pytest.mark.parametrize(("reward", "r"), [(1.0, 1.0), (0.0, -1.0), (0.75, 0.5)])
def test_the_first_step_is_worked_out_by_hand(reward: float, r: float) -> None:
    network = FeedbackNetwork(D, rate=0.001)
    network.attach(["a", "b"])
    context = contexts(1)[0]
    hidden = np.maximum(network.weights_2 @ np.maximum(network.weights_1 @ context, 0), 0)
    before = arrays(network.state())
    network.learn(context, "a", ["a", "b"], after=Label(reward, 1.0))
    # pi = (1/2, 1/2), so d log pi(a) / d s = (1/2, -1/2); nothing flows through an output layer of zeros
    step = 0.001 * r * 0.5 * np.append(hidden, 1.0)
    assert np.allclose(network.output, [step, -step], atol=1e-15)
    after = arrays(network.state())
    assert all(after[name] == before[name] for name in ("weights_1", "bias_1", "weights_2", "bias_2"))


def test_a_good_answer_makes_the_candidate_likelier_and_a_bad_one_less_so() -> None:
    network = taught(["a", "b"], rows=300)
    probes = contexts(50, seed=9)
    share = np.mean([np.diff(network.feedback(x))[0] < 0 for x in probes[probes[:, 1] > 0.3]])
    other = np.mean([np.diff(network.feedback(x))[0] > 0 for x in probes[probes[:, 1] < -0.3]])
    assert min(share, other) > 0.9


@pytest.mark.parametrize("rate", [0.001, 0.05, 1.0])
def test_thousands_of_bad_answers_leave_the_network_finite_and_its_score_in_the_scale_of_a_quality(rate: float) -> None:
    network = FeedbackNetwork(D, rate=rate)
    network.attach(["a", "b"])
    for context in contexts(4000):
        network.learn(context, "a", ["a", "b"], after=Label(0.0, 1.0))
    network.state().check(D)
    assert all(np.isfinite(array).all() for array in network.state().arrays.values())
    scores = network.feedback(contexts(1)[0])
    assert -1.0 <= scores[0] < -0.5
    assert scores[1] == 0.0  # without a label of its own there is no confidence in it


def test_the_confidence_is_the_inverse_of_one_plus_the_variance_of_the_rewards() -> None:
    network, context = FeedbackNetwork(D), contexts(1)[0]
    network.attach(["a", "b", "c"])
    for name, rewards in {"a": [1, 1, 0, 1], "b": [1, 1, 1], "c": [1]}.items():
        for reward in rewards:
            network.learn(context, name, ["a", "b", "c"], after=Label(reward, 1.0))
    variance = np.var([1, 1, -1, 1], ddof=1)
    assert network.confidence == pytest.approx([1 / (1 + variance), 1.0, 0.0])  # one reward tells no variance
    assert network.labels() == [(4.0, 3.0), (3.0, 3.0), (1.0, 1.0)]
    assert network.feedback(context)[2] == 0.0


def test_a_changed_label_is_a_step_with_the_change_and_an_exact_correction_of_the_variance() -> None:
    context, names = contexts(1)[0], ["a", "b"]
    network, direct = FeedbackNetwork(D), FeedbackNetwork(D)
    for one in (network, direct):
        one.attach(names)
        one.learn(context, "a", names, after=Label(1.0, 1.0))
    network.learn(context, "a", names, after=Label(0.0, 1.0))
    policy = math.exp(log_policy(network, context, 0))
    before = network.output.copy()
    network.learn(context, "a", names, before=Label(0.0, 1.0), after=Label(1.0, 1.0))
    assert (network.output - before)[0, -1] == pytest.approx(0.001 * 2.0 * (1 - policy))
    direct.learn(context, "a", names, after=Label(1.0, 1.0))
    assert np.array_equal(network.rewards, direct.rewards)
    assert np.array_equal(network.confidence, direct.confidence)


def test_a_forced_choice_teaches_the_policy_over_all_that_were_named_before() -> None:
    network, context = taught(["a", "b"]), contexts(1)[0]
    before = network.feedback(context)
    network.learn(context, "b", ["b"], after=Label(1.0, 1.0))
    assert np.diff(network.feedback(context)) > np.diff(before)


def test_candidates_come_and_go_and_nobody_elses_weights_change() -> None:
    network, probe = taught(["a", "b"]), contexts(1, seed=7)[0]
    before, scores = arrays(network.state()), network.feedback(probe)
    network.attach(["a", "b", "new"])
    assert network.feedback(probe) == pytest.approx([*scores, 0.0], rel=1e-12)
    assert arrays(network.state()) == before
    old = network.output[:2].copy()
    network._make_rows(["a", "b", "new"])
    assert network.output[:2].tobytes() == old.tobytes()
    assert network.output[2].tolist() == [0.0] * (HIDDEN + 1)
    network.attach(["b"])  # a is hidden
    assert network.feedback(probe) == pytest.approx([scores[1]], rel=1e-12)
    network.attach(["a", "b"])  # and comes back as it was
    assert np.array_equal(network.feedback(probe), scores)


def test_who_was_not_among_the_choices_keeps_the_output_weights() -> None:
    network, context = taught(["a", "b", "c"]), contexts(1)[0]
    hidden = network.output[2].copy()
    network.learn(context, "a", ["a", "b"], after=Label(1.0, 1.0))
    assert network.output[2].tobytes() == hidden.tobytes()


def test_a_state_is_restored_bit_by_bit_and_a_wrong_one_is_refused() -> None:
    network, probe = taught(["a", "b", "c"]), contexts(1, seed=5)[0]
    state = network.state()
    state.check(D)
    again = FeedbackNetwork.restore(state)
    again.attach(["a", "b", "c"])
    assert np.array_equal(again.feedback(probe), network.feedback(probe))
    assert arrays(again.state()) == arrays(state)
    with pytest.raises(StateError, match="other shapes than the 6 features need"):
        state.check(6)
    with pytest.raises(StateError, match="other shapes"):
        dataclasses.replace(state, names=("a", "b")).check(D)


def test_the_seed_is_fixed_so_that_all_start_from_the_same_network() -> None:
    assert arrays(FeedbackNetwork(D).state()) == arrays(FeedbackNetwork(D).state())


# -- through the router ------------------------------------------------------------------------------------------------


def learner(router: Router) -> Learner:
    router.sync()
    return router._learner


def network_of(router: Router) -> NetworkState:
    state = learner(router).learned().network
    assert state is not None
    return state


def complain(router: Router, rounds: int, liked: str = "cheap") -> None:
    for step in range(rounds):
        decision = router.decide(f"question number {step}", willingness_to_pay=math.inf, max_wait_s=1e9)
        router.feedback(decision, float(decision.candidate == liked))


def test_feedback_moves_later_choices_and_nothing_but_the_network_learns() -> None:
    router = tiny_router(config=POLICY)
    texts = ["question number 3", "something else"]
    before = router.predict(texts)
    assert router.decide("question", willingness_to_pay=math.inf).candidate == "dear"
    complain(router, 60)
    decision = router.decide("question", willingness_to_pay=math.inf, max_wait_s=1e9)
    assert decision.candidate == "cheap"
    assert decision.scores["cheap"].feedback > 0 > decision.scores["dear"].feedback
    assert np.array_equal(router.predict(texts).quality, before.quality)
    stats = router.stats()
    assert stats["feedback_applied"] == 60
    assert sum(values["labels"] for values in stats["candidates"].values()) == 60
    assert stats["candidates"]["cheap"]["mean_reward"] == 1.0
    assert stats["candidates"]["dear"]["mean_reward"] == 0.0


def test_the_score_adds_up_in_numbers_and_in_the_explanation(tmp_path: Path) -> None:
    with tiny_router(config=POLICY, store=tmp_path / "log.db") as router:
        first = router.decide("hello")
        assert "feedback" not in str(router.explain(first.decision_id))
        complain(router, 10)
        decision = router.decide("hello")
        explanation = router.explain(decision.decision_id)  # read back from the database
    for scores in (decision.scores, explanation.decision.scores):
        score, config = scores["dear"], POLICY.decision
        parts = score.trade + config.uncertainty_weight * score.uncertainty - config.penalty_weight * score.penalty
        assert score.feedback != 0.0
        assert score.total == pytest.approx(parts + score.feedback + score.optimism)
    assert "feedback" in str(explanation).splitlines()[2]
    assert f"{score.feedback:.4f}" in str(explanation)


def test_both_teaches_the_heads_and_the_network() -> None:
    router = tiny_router(
        config=POLICY.model_copy(update={"learning": POLICY.learning.model_copy(update={"binary": "both"})})
    )
    before = router.predict(["hello"]).quality
    decision = router.decide("hello")
    router.feedback(decision, 1.0)
    assert not np.array_equal(router.predict(["hello"]).quality, before)
    assert network_of(router).names == ("cheap", "dear")
    assert router.stats()["candidates"][decision.candidate]["labels"] == 1.0


def test_it_is_off_by_default_and_the_papers_preset_has_it() -> None:
    router = tiny_router()
    router.feedback(router.decide("hello"), 1.0)
    assert learner(router).network is None
    assert router.decide("hello").scores["cheap"].feedback == 0.0
    assert RouterConfig.paper().learning.binary == "policy_gradient"
    assert RouterConfig.paper().learning.feedback_rate == 0.001


def test_all_that_read_one_log_hold_the_same_network(tmp_path: Path) -> None:
    with tiny_router(config=POLICY, store=tmp_path / "log.db") as one:
        one.add_candidate(MIDDLE)
        complain(one, 15)
        decision = one.decide("what is liked", force="middle")
        one.feedback(decision, 1.0)
        one.remove_candidate("middle")
        complain(one, 15)
        one.feedback(decision, 0.0)
        one.feedback(decision, 0.5, key="judge")
        expected = network_of(one)
        # another pool, and all rows at once
        with tiny_router(config=POLICY, store=tmp_path / "log.db", names=("cheap", "dear", "third")) as two:
            found = network_of(two)
    assert found.names == expected.names == ("cheap", "dear", "middle")
    assert arrays(found) == arrays(expected)


def test_adding_and_removing_keeps_the_network_and_the_memory() -> None:
    router = tiny_router(config=POLICY)
    complain(router, 20)
    before = arrays(network_of(router))
    score = router.decide("hello").scores["cheap"].feedback
    router.add_candidate(MIDDLE, like="dear")
    assert arrays(network_of(router)) == before
    assert router.decide("hello").scores["middle"].feedback == 0.0
    for step in range(3):
        router.feedback(router.decide(f"hello {step}", force="middle"), 1.0)
    liked = router.decide("hello").scores["middle"].feedback
    assert liked > 0
    router.remove_candidate("middle")
    assert router.decide("hello").scores.keys() == {"cheap", "dear"}
    router.add_candidate(MIDDLE)
    assert router.decide("hello").scores["middle"].feedback == pytest.approx(liked, rel=1e-12)
    assert router.decide("hello").scores["cheap"].feedback != score  # its rivals' labels moved the shared layers


def test_save_and_load_are_the_identity(tmp_path: Path) -> None:
    router = tiny_router(config=POLICY, store=tmp_path / "log.db")
    complain(router, 20)
    router.save(tmp_path / "state")
    for store in (None, tmp_path / "log.db"):
        loaded = Router.load(tmp_path / "state", encoder=HashingEncoder(), store=store)
        assert loaded.config == router.config
        assert arrays(network_of(loaded)) == arrays(network_of(router))
        assert loaded.stats()["candidates"]["cheap"]["labels"] == router.stats()["candidates"]["cheap"]["labels"]


def test_a_fit_keeps_the_feedback_that_came_before() -> None:
    router = tiny_router(config=POLICY)
    complain(router, 20)
    before = arrays(network_of(router))
    router.fit({"prompt": ["a", "b c"], "cheap|quality": [0.5, 0.7], "dear|quality": [1.0, 1.0]}, progress=False)
    assert arrays(network_of(router)) == before
    assert sum(values["labels"] for values in router.stats()["candidates"].values()) == 24


def test_a_state_from_before_there_was_a_network_still_loads() -> None:
    learned = learner(tiny_router()).learned()
    manifest, tensors = learned.manifest(), learned.tensors()
    del manifest["network"], manifest["drift"]
    restored = Learned.restore(manifest, tensors, learner(tiny_router()).features.dimension)
    assert restored.network is None
    assert not restored.drift


def test_a_damaged_network_is_refused() -> None:
    router = tiny_router(config=POLICY)
    complain(router, 2)
    learned = learner(router).learned()
    tensors = learned.tensors()
    del tensors["network/bias_1"]
    with pytest.raises(StateError, match="feedback network has other shapes"):
        Learned.restore(learned.manifest(), tensors, learner(router).features.dimension)
