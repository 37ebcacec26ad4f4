"""Neural heads through the router: what they learn, who is left alone, and what is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from mixllm_engine import Candidate, Outcome, Router, RouterConfig, StateError
from mixllm_engine.learning.learner import Learner
from mixllm_engine.learning.state import Learned
from mixllm_engine.prediction.mlp import Network
from mixllm_engine.prediction.priors import prior_log_length, prior_quality
from mixllm_engine.testing import HashingEncoder, tiny_pool, tiny_router
from mixllm_engine.types import Matrix
from tests.engine import plain

TEXTS = ["write a poem about 7", "add up the numbers 7", "something else"]
MIDDLE = Candidate(name="middle", model="openai/middle", input_usd_per_mtok=0.5, output_usd_per_mtok=1.0)
FIELDS = ("quality", "cost_usd", "response_tokens", "uncertainty")


def config(heads: str = "neural", drift_threshold: float | None = None, **neural: Any) -> RouterConfig:
    prediction = {"heads": heads, "neural": {"width": 16, "passes": 40, "shrinkage": 1.0, **neural}}
    learning = {"drift_threshold": drift_threshold}
    return RouterConfig.model_validate({"exploration": {"pulls": 0}, "prediction": prediction, "learning": learning})


def table(rows: int = 300) -> pd.DataFrame:
    """Poems are answered well by dear alone, and at length; sums by both, shortly."""
    poem = np.arange(rows) % 2 == 0
    columns: dict[str, Any] = {"prompt": [TEXTS[int(not p)][:-1] + str(k) for k, p in enumerate(poem)]}
    for name, good in (("cheap", np.where(poem, 0.1, 0.9)), ("dear", 0.9)):
        columns[f"{name}|quality"] = good
        columns[f"{name}|response_tokens"] = np.where(poem, 400, 40)
    return pd.DataFrame(columns)


def fitted(rows: int = 300, **settings: Any) -> Router:
    router = tiny_router(**{"config": config(), **settings})
    router.fit(table(rows), progress=False)
    return router


def teach(router: Router, rounds: int, who: str = "cheap", reward: float = 0.0) -> None:
    for step in range(rounds):
        decision = router.decide(f"question number {step}", force=who)
        router.observe(decision.decision_id, Outcome(candidate=who, response_tokens=500 + step))
        router.feedback(decision, reward)


def learner(router: Router) -> Learner:
    router.sync()
    return router._learner


def weights(router: Router) -> dict[str, bytes]:
    tensors = learner(router).learned().tensors()
    return {key: array.tobytes() for key, array in tensors.items() if key.startswith("neural/")}


def quality(router: Router, texts: list[str] = TEXTS) -> Matrix:
    return router.predict(texts).quality


# -- learning ----------------------------------------------------------------------------------------------------------


def test_a_fit_teaches_quality_and_length_and_moves_decisions() -> None:
    router = tiny_router(config=config())
    before = router.decide(TEXTS[0], willingness_to_pay=3.0)
    router.fit(table(), progress=False)
    decisions = [router.decide(text, willingness_to_pay=3.0) for text in TEXTS[:2]]
    assert [decision.candidate for decision in decisions] == ["dear", "cheap"]
    poem, total = (decision.scores["cheap"] for decision in decisions)
    assert poem.response_tokens > 2 * total.response_tokens
    assert abs(poem.quality - 0.1) < abs(before.scores["cheap"].quality - 0.1)
    # batches and single contexts are predicted alike
    assert quality(router)[:2, 0] == pytest.approx([poem.quality, total.quality], rel=1e-9)


def test_the_networks_replace_the_means_and_the_uncertainty_stays() -> None:
    neural, bayesian = fitted(), fitted(config=config("bayesian"))
    found, expected = neural.predict(TEXTS), bayesian.predict(TEXTS)
    assert found.uncertainty.tobytes() == expected.uncertainty.tobytes()
    assert not np.array_equal(found.quality, expected.quality)
    assert not np.array_equal(found.response_tokens, expected.response_tokens)
    assert weights(bayesian) == {}


def test_feedback_and_outcomes_change_later_predictions_and_stored_numbers() -> None:
    router = fitted()
    before, stored = router.predict(["question number 3"]), weights(router)
    teach(router, 40)
    after = router.predict(["question number 3"])
    assert after.quality[0, 0] < before.quality[0, 0] - 0.2
    assert after.response_tokens[0, 0] > 1.3 * before.response_tokens[0, 0]
    for field in FIELDS:  # the one that did not answer keeps all its numbers
        assert np.array_equal(getattr(after, field)[:, 1], getattr(before, field)[:, 1])
    changed = {key for key, array in weights(router).items() if array != stored[key]}
    parts = ("hidden", "output", "count")
    assert changed == {f"neural/{target}/cheap/{part}" for target in ("quality", "length") for part in parts}
    assert router.stats()["candidates"]["cheap"]["labels"] == 340.0


def test_where_quality_shifts_the_networks_follow_faster() -> None:
    alike = {"features": plain.FEATURES}
    watching, unwatching = (config(drift_threshold=at).model_copy(update=alike) for at in (20.0, None))
    watched, unwatched = fitted(config=watching), fitted(config=unwatching)
    for router in (watched, unwatched):
        teach(router, 30, "dear", 0.0)
    assert watched.stats()["alerts"]
    texts = ["question number 3"]
    assert quality(watched, texts)[0, 1] < quality(unwatched, texts)[0, 1] - 0.05


def test_a_changed_label_is_a_step_back() -> None:
    router = fitted()
    decision = router.decide("question", force="cheap")
    before = quality(router, ["question"])[0, 0]
    router.feedback(decision, 0.0)
    lower = quality(router, ["question"])[0, 0]
    router.feedback(decision, 1.0)
    assert lower < before < quality(router, ["question"])[0, 0]


def test_failures_teach_nothing() -> None:
    router = fitted()
    stored = weights(router)
    decision = router.decide("question", force="cheap")
    router.observe(decision.decision_id, Outcome(candidate="cheap", error="timeout"))
    assert weights(router) == stored


def test_where_online_feedback_is_for_the_policy_alone_the_quality_networks_stay() -> None:
    policy = config().model_copy(update={"learning": RouterConfig.paper().learning})
    router = fitted(config=policy)
    stored = quality(router)
    router.feedback(router.decide("question"), 0.0)
    assert np.array_equal(quality(router), stored)


def test_missing_values_teach_nothing_and_break_nothing() -> None:
    frame = table(60).drop(columns="dear|response_tokens")
    frame.loc[::2, "dear|quality"] = np.nan
    router = tiny_router(config=config())
    router.fit(frame, progress=False)
    assert np.isfinite(quality(router)).all()
    learned = learner(router).learned().neural
    assert {target: sorted(networks) for target, networks in learned.items()} == {
        "quality": ["cheap", "dear"],
        "length": ["cheap"],
    }
    assert learned["quality"]["dear"].count == 30.0


def test_one_row_is_enough() -> None:
    router = fitted(rows=1)
    teach(router, 30, reward=1.0)
    assert quality(router, ["question number 3"])[0, 0] > 0.8


@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_hundreds_of_contradictory_labels_keep_predictions_in_their_range(rate: float) -> None:
    router = tiny_router(config=config(quality_rate=rate, length_rate=rate))
    for step in range(200):
        decision = router.decide(f"question {step % 7}", force="cheap")
        router.observe(decision.decision_id, Outcome(candidate="cheap", response_tokens=1 if step % 2 else 2_000_000))
        router.feedback(decision, float(step % 2))
    predicted = router.predict(TEXTS)
    assert all(np.isfinite(getattr(predicted, field)).all() for field in FIELDS)
    assert predicted.quality.min() >= 0.0
    assert predicted.quality.max() <= 1.0


# -- the set of candidates ---------------------------------------------------------------------------------------------


def test_who_was_never_observed_is_expected_to_be_at_its_prior() -> None:
    router = tiny_router(config=config())
    priors = [prior_quality(candidate) for candidate in router.candidates]
    assert quality(router) == pytest.approx(np.tile(priors, (3, 1)), rel=1e-12)
    assert weights(router) == {}
    bayesian = tiny_router(config=config("bayesian"))
    for field in FIELDS:
        assert getattr(router.predict(TEXTS), field) == pytest.approx(getattr(bayesian.predict(TEXTS), field))
    expected = learner(router).predictor.expected(np.ones(learner(router).features.dimension))
    lengths = expected[len(router.candidates) :]
    assert lengths == pytest.approx([prior_log_length(candidate) for candidate in router.candidates])


def test_adding_and_removing_leaves_everybody_else_bit_by_bit_as_they_were() -> None:
    router = fitted()
    teach(router, 5)
    before, stored = router.predict(TEXTS), weights(router)
    router.add_candidate(MIDDLE, like="dear")
    with_middle = router.predict(TEXTS)
    for field in FIELDS:
        assert np.array_equal(getattr(with_middle, field)[:, :2], getattr(before, field))
    assert np.array_equal(with_middle.quality[:, 2], before.quality[:, 1])
    score = router.decide(TEXTS[0]).scores["middle"]
    assert score.quality == router.decide(TEXTS[0]).scores["dear"].quality
    teach(router, 3, "middle")
    assert (quality(router)[:, 2] != before.quality[:, 1]).any()
    assert np.array_equal(quality(router)[:, :2], before.quality)
    router.remove_candidate("middle")
    assert np.array_equal(quality(router), before.quality)
    assert {key: array for key, array in weights(router).items() if "/middle/" not in key} == stored


def test_a_removed_candidate_comes_back_with_what_it_learned_also_in_the_meantime() -> None:
    router, stayed = fitted(), fitted()
    for one in (router, stayed):
        decisions = [one.decide(f"question {step}", force="cheap") for step in range(6)]
        for decision in decisions[:3]:
            one.feedback(decision, 0.0)
        cheap = one.candidates[0]
        if one is router:
            one.remove_candidate("cheap")
        for decision in decisions[3:]:
            one.feedback(decision, 1.0)
        if one is router:
            one.add_candidate(cheap, like="dear")  # memory goes before likeness
    assert np.array_equal(quality(router), quality(stayed))
    assert weights(router) == weights(stayed)


def test_what_a_newcomer_was_given_outlasts_a_later_fit_and_a_restart(tmp_path: Path) -> None:
    with fitted(store=tmp_path / "log.db") as router:
        router.add_candidate(MIDDLE, like="dear")
        given = quality(router)[:, 2]
        teach(router, 3, "middle")
        taught = quality(router)
        router.fit(table(), progress=False)
        assert np.array_equal(quality(router), taught)
        with Router(
            [*tiny_pool(), MIDDLE], encoder=HashingEncoder(), config=config(), store=tmp_path / "log.db"
        ) as two:
            assert np.array_equal(quality(two), taught)
    assert (given != taught[:, 2]).all()


def test_labelled_prompts_teach_a_newcomers_networks() -> None:
    router = fitted()
    before = quality(router)
    router.add_candidate(MIDDLE, labelled={"prompt": [f"question {k}" for k in range(30)], "quality": [1.0] * 30})
    after = quality(router, ["question 3"])
    assert after[0, 2] > 0.85
    assert np.array_equal(quality(router)[:, :2], before)


def test_a_newcomer_learns_within_a_few_labels() -> None:
    router = fitted()
    router.add_candidate(MIDDLE)
    before = quality(router, ["question number 3"])[0, 2]
    teach(router, 20, "middle", reward=1.0)
    assert quality(router, ["question number 3"])[0, 2] > 0.85 > before


def test_the_order_of_the_candidates_does_not_matter() -> None:
    one = Router(tiny_pool(), encoder=HashingEncoder(), config=config())
    two = Router(tiny_pool()[::-1], encoder=HashingEncoder(), config=config())
    for router in (one, two):
        router.fit(table(60), progress=False)
        teach(router, 5)
    assert weights(one) == weights(two)
    assert np.array_equal(quality(one), quality(two))


def test_first_weights_depend_on_seed_name_and_target_alone() -> None:
    def first(seed: int, names: tuple[str, ...]) -> dict[str, dict[str, Network]]:
        router = tiny_router(names=names, config=config(seed=seed, passes=1, quality_rate=1e-12, length_rate=1e-12))
        router.fit(table(2).rename(columns=lambda c: c.replace("cheap", names[0])), progress=False)
        return {target: dict(networks) for target, networks in learner(router).learned().neural.items()}

    one, other = first(0, ("cheap", "dear")), first(0, ("zebra", "dear"))
    assert np.allclose(one["quality"]["dear"].hidden, other["quality"]["dear"].hidden, atol=1e-9)
    assert not np.allclose(one["quality"]["dear"].hidden, one["length"]["dear"].hidden)
    assert not np.allclose(one["quality"]["dear"].hidden, one["quality"]["cheap"].hidden)
    assert not np.allclose(one["quality"]["dear"].hidden, first(1, ("cheap", "dear"))["quality"]["dear"].hidden)


# -- keeping -----------------------------------------------------------------------------------------------------------


def test_save_and_load_are_the_identity(tmp_path: Path) -> None:
    router = fitted(store=tmp_path / "log.db")
    teach(router, 5)
    router.add_candidate(MIDDLE, like="dear")
    router.remove_candidate("cheap")
    router.save(tmp_path / "state")
    for store in (None, tmp_path / "log.db"):
        loaded = Router.load(tmp_path / "state", encoder=HashingEncoder(), store=store)
        assert loaded.config == router.config
        assert weights(loaded) == weights(router)
        assert np.array_equal(quality(loaded), quality(router))
        loaded.add_candidate(tiny_pool()[0])
        assert weights(loaded) == weights(router)


def test_all_that_read_one_log_hold_the_same_weights(tmp_path: Path) -> None:
    with fitted(store=tmp_path / "log.db") as one:
        teach(one, 10)
        decision = one.decide("question")
        one.feedback(decision, 1.0)
        one.feedback(decision, 0.5, key="judge")
        one.feedback(decision, 0.0)
        with tiny_router(config=config(), store=tmp_path / "log.db") as two:  # all rows at once
            assert weights(two) == weights(one)
            assert np.array_equal(quality(two), quality(one))
            # a later fit keeps the feedback, as a step on top of what the table taught
            table_alone = fitted()
            two.fit(table(), progress=False)
            assert weights(two) == weights(one) != weights(table_alone)


def test_a_state_without_networks_loads_and_they_start_at_the_prior(tmp_path: Path) -> None:
    bayesian = fitted(config=config("bayesian"))
    learned = learner(bayesian).learned()
    manifest = learned.manifest()
    del manifest["neural"]
    restored = Learned.restore(manifest, learned.tensors(), learner(bayesian).features.dimension)
    assert not restored.neural
    neural = tiny_router(config=config())
    expected = quality(neural)
    learner(neural).start(restored)
    assert np.array_equal(quality(neural), expected)
    assert neural.stats()["candidates"]["cheap"]["labels"] == 300.0


def test_networks_of_another_width_go_on(tmp_path: Path) -> None:
    with fitted(store=tmp_path / "log.db") as narrow:
        teach(narrow, 3)
        expected = quality(narrow)
    with tiny_router(config=config(width=40), store=tmp_path / "log.db") as wide:
        assert quality(wide) == pytest.approx(expected, rel=1e-12)
        teach(wide, 3)
        assert np.isfinite(quality(wide)).all()


@pytest.mark.parametrize(
    ("key", "damage", "message"),
    [
        ("neural/quality/cheap/hidden", None, "lacks a part"),
        ("neural/quality/cheap/hidden", np.zeros((16, 2)), "another shape"),
        ("neural/length/dear/output", np.zeros(3), "do not fit each other"),
        ("neural/length/dear/count", np.zeros(0), "doesn't fit"),
    ],
)
def test_damaged_networks_are_refused(key: str, damage: Matrix | None, message: str) -> None:
    router = fitted(rows=4)
    learned = learner(router).learned()
    tensors = learned.tensors()
    if damage is None:
        del tensors[key]
    else:
        tensors[key] = damage
    with pytest.raises(StateError, match=message):
        Learned.restore(learned.manifest(), tensors, learner(router).features.dimension)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quality_rate", 0.0),
        ("quality_rate", math.nan),
        ("length_rate", 1.5),
        ("width", 0),
        ("passes", 0),
        ("shrinkage", -1.0),
        ("seed", -1),
    ],
)
def test_settings_outside_their_range_are_refused(field: str, value: float) -> None:
    terms: dict[str, Any] = {field: value}
    with pytest.raises(ValidationError, match=field):
        config(**terms)


def test_it_is_off_by_default_and_other_heads_are_refused() -> None:
    assert RouterConfig.default().prediction.heads == "bayesian"
    assert RouterConfig.paper().prediction.heads == "bayesian"
    with pytest.raises(ValidationError, match="heads"):
        config("forest")


def test_a_progress_bar_is_shown_where_it_is_wished_for(capsys: pytest.CaptureFixture[str]) -> None:
    router = tiny_router(config=config())
    router.fit(table(4), progress=False)
    assert "training" not in capsys.readouterr().err
    router.fit(table(4), progress=True)
    assert "training neural heads" in capsys.readouterr().err
