"""What decides quickly, with arrays and things worked out ahead, equals the formulas written out for one candidate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mixllm_engine import Candidate, Decision, Outcome, Query, Router, RouterConfig, Score
from mixllm_engine.config import BUDGET_WORDS
from mixllm_engine.encoding.features import FeatureMap
from mixllm_engine.encoding.surface import SIZE, UNKNOWN, surface
from mixllm_engine.prediction.heads import HeadBank
from mixllm_engine.prediction.symmetric import Triangle, outer
from mixllm_engine.store.memory import MemoryStore
from mixllm_engine.testing import HashingEncoder, tiny_router
from mixllm_engine.types import Matrix, Vector

DEFAULT, PAPER = RouterConfig.default(), RouterConfig.paper()
CONFIGS = [
    RouterConfig.model_validate({"waiting": {"concurrency": 2}, "exploration": {"pulls": 2}}),
    RouterConfig.model_validate({"exploration": {"mode": "none"}, "decision": {"max_wait_s": 5.0}}),
    PAPER,
    PAPER.model_copy(update={"learning": DEFAULT.learning, "decision": DEFAULT.decision}),
]
PARTS = [field.name for field in fields(Score) if field.name not in ("eligible", "reason")]


def context(features: FeatureMap, embedding: Vector) -> Vector:
    """Return phi(e) = [1, softmax over domains, principal components, what stands behind e]."""
    embedding, behind = np.split(embedding, [len(features.mean)])
    shares = [math.exp(mu @ embedding + b) for mu, b in zip(features.domains, features.bias, strict=True)]
    directions = enumerate(features.components.T, start=1)
    components = [3.0 / k**0.75 * float((embedding - features.mean) @ direction) for k, direction in directions]
    return np.array([1.0, *(share / sum(shares) for share in shares), *components, *behind])


def solved(bank: HeadBank, position: int) -> tuple[Matrix, Vector]:
    """Return A and theta of a head from its sums and its prior."""
    sums, prior = bank.statistics(position), np.diag(bank.prior_precision)
    precision = prior + sums.gram
    return precision, np.linalg.solve(precision, prior @ bank.prior_means[position] + sums.moment)


def length_variance(bank: HeadBank, position: int) -> float:
    """Return the mean squared residual, with a prior of 0.5 that counts for ten observations."""
    sums, theta = bank.statistics(position), solved(bank, position)[1]
    residual = sums.square - 2.0 * theta @ sums.moment + theta @ sums.gram @ theta
    return (max(float(residual), 0.0) + 5.0) / (sums.count + 10.0)


def normal_distribution(z: float) -> float:
    """Return Bowling's logistic approximation."""
    z = min(max(z, -8.0), 8.0)
    return 1.0 / (1.0 + math.exp(-z * (1.5976 + 0.07056 * z * z)))


class Reference:
    """One candidate's score by the book; it knows of the calls what the test made of them."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.in_flight: dict[str, int] = {}
        self.answers: dict[str, list[tuple[float, float]]] = {}

    def tokens_per_s(self, name: str) -> float:
        waiting = self.router.config.waiting
        prior = waiting.prior_calls * 300.0
        seconds = [max(latency_s - waiting.startup_s, 1e-3) for _, latency_s in self.answers.get(name, [])]
        tokens = [tokens for tokens, _ in self.answers.get(name, [])]
        return (prior + sum(tokens)) / (prior / waiting.tokens_per_s + sum(seconds))

    def to_leader(self, position: int, query: Query) -> float:
        """Return g = max min(max(q - q_* + b m, 0), m) of who leads, with m = 1.5 se (1 - k / n) and b = 1/20."""
        heads, x = self.router._learner.predictor.quality, self.context(query)
        sums = [heads.statistics(each) for each in range(len(heads.count))]
        weight = [float(observed.gram[0, 0]) for observed in sums]
        enough = min(max(50.0, max(weight) / 2.0), 200.0)
        known = [each for each, n in enumerate(weight) if n > enough]
        if position not in known:
            return 0.0
        mean = sum(sums[each].gram[0] for each in known) / sum(weight[each] for each in known)
        if position != max(known, key=lambda each: (float(solved(heads, each)[1] @ mean), -each)):
            return 0.0
        quality, variance = {}, {}
        for each in known:
            precision, theta = solved(heads, each)
            quality[each] = min(max(float(theta @ x), 0.0), 1.0)
            squares = max(sums[each].square - sums[each].moment[0] ** 2 / weight[each], 0.0)
            of_label = (squares + 20.0 * 0.25) / (weight[each] + 20.0)
            variance[each] = of_label * float(x @ np.linalg.solve(precision, x))
        found = [0.0]
        for other in set(known) - {position}:
            error = math.sqrt(variance[other] + variance[position])
            margin = 1.5 * error * (1.0 - enough / min(weight[other], weight[position]))
            found.append(min(max(quality[other] - quality[position] + margin / 20.0, 0.0), margin))
        return max(found)

    def context(self, query: Query) -> Vector:
        embedding = np.asarray(query.embedding, dtype=np.float64)
        given = surface(query.text) if query.text else UNKNOWN
        return context(
            self.router._learner.features, np.concatenate([embedding / math.sqrt(embedding @ embedding), given])
        )

    def score(self, name: str, query: Query, willingness: float, max_wait_s: float, feedback: float) -> Score:
        router, config, waiting = self.router, self.router.config.decision, self.router.config.waiting
        learner, exploration = router._learner, router.config.exploration
        position = router._pool.index[name]
        candidate, x = router._pool[name], self.context(query)

        precision, theta = solved(learner.predictor.quality, position)
        quality = min(max(float(theta @ x), 0.0), 1.0)
        leverage = float(x @ np.linalg.solve(precision, x))
        log_length = min(max(float(solved(learner.predictor.length, position)[1] @ x), 0.0), 15.0)
        variance = length_variance(learner.predictor.length, position)
        tokens = min(math.exp(log_length + variance / 2.0), candidate.max_output_tokens or math.inf)
        assert query.prompt_tokens is not None
        assert candidate.input_usd_per_mtok is not None
        assert candidate.output_usd_per_mtok is not None
        cost_usd = (query.prompt_tokens * candidate.input_usd_per_mtok + tokens * candidate.output_usd_per_mtok) / 1e6

        speed = self.tokens_per_s(name)
        queued = max(self.in_flight.get(name, 0) - (waiting.concurrency - 1), 0)
        waiting_s = queued * (waiting.startup_s + tokens / speed) / waiting.concurrency

        on_quality, on_cost = willingness / (willingness + 1.0), 1.0 / (willingness + 1.0)
        unit = learner.reference_cost_usd if config.cost_scale == "pool" else 1.0
        trade = on_quality * quality - on_cost * cost_usd / unit
        uncertainty = leverage if config.uncertainty == "square" else math.sqrt(leverage)
        if config.penalty == "exponential":
            penalty = math.exp(min(config.penalty_rate * (waiting_s - config.tolerance * max_wait_s), 700.0))
        else:
            longest = max(max_wait_s - waiting_s - waiting.startup_s, 1e-9) * speed
            in_time = normal_distribution((math.log(longest) - log_length) / math.sqrt(variance))
            penalty = on_quality * quality * (1.0 - in_time)
        labels, advance = learner.predictor.quality.statistics(position).count, 0.0
        if exploration.mode == "ucb" and exploration.pulls <= labels < 200.0:
            advance = exploration.optimism * (1.0 / math.sqrt(labels + 2.0) - 1.0 / math.sqrt(202.0))
        if config.leader_margin:
            advance += self.to_leader(position, query)
        optimism = on_quality * advance
        alpha = config.uncertainty_weight if exploration.mode == "ucb" else 0.0
        return Score(
            quality=quality,
            response_tokens=tokens,
            cost_usd=cost_usd,
            uncertainty=uncertainty,
            waiting_s=waiting_s,
            trade=trade,
            penalty=penalty,
            total=trade + alpha * uncertainty - config.penalty_weight * penalty + feedback + optimism,
            feedback=feedback,
            optimism=optimism,
        )

    def check(self, decision: Decision, query: Query, max_wait_s: float) -> None:
        for name, found in decision.scores.items():
            expected = self.score(name, query, decision.willingness_to_pay, max_wait_s, found.feedback)
            for part in PARTS:
                assert getattr(found, part) == pytest.approx(getattr(expected, part), rel=1e-9, abs=1e-9), (name, part)
        best_first = sorted(decision.ranking, key=lambda name: (-decision.scores[name].total, name))
        if not decision.explored:
            assert list(decision.ranking) == best_first
        else:
            assert [name for name in best_first if name != decision.candidate] == list(decision.ranking[1:])


def candidate(number: int) -> Candidate:
    longest = 80 if number == 1 else None
    return Candidate(
        name=f"m{number}", model="m", input_usd_per_mtok=0.1 + number, output_usd_per_mtok=1.0 + 3.0 * number,
        max_output_tokens=longest,
    )  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(CONFIGS), st.integers(1, 5))
def test_every_number_of_a_decision_is_that_of_the_formulas_after_any_history(
    seed: int, config: RouterConfig, size: int
) -> None:
    rng = np.random.default_rng(seed)
    router = Router(map(candidate, range(size)), config=config, encoder=HashingEncoder(), seed=0, clock=lambda: 0.0)
    reference, joined = Reference(router), size
    for _ in range(12):
        text = "7\n" * int(rng.integers(1, 100)) if rng.random() < 0.5 else None
        query = Query(text=text, embedding=rng.normal(size=64), prompt_tokens=int(rng.integers(1, 3000)))
        max_wait_s = float(rng.choice([0.1, 3.0, 10.0, 60.0]))
        decision = router.decide(query, max_wait_s=max_wait_s, budget=BUDGET_WORDS[rng.integers(5)])
        reference.check(decision, query, max_wait_s)
        name = decision.candidate
        match rng.integers(6):
            case 0 | 1:
                router.feedback(decision, float(rng.random()))
            case 2:
                router.dispatched(decision.decision_id, name)
                reference.in_flight[name] = reference.in_flight.get(name, 0) + 1
            case 3:
                answer = (int(rng.integers(1, 500)), float(rng.random() * 20.0))
                brought = Outcome(candidate=name, response_tokens=answer[0], latency_s=answer[1], prompt_tokens=9)
                router.observe(decision.decision_id, brought)
                reference.answers.setdefault(name, []).append(answer)
            case 4:
                router.add_candidate(candidate(joined))
                joined += 1
            case _ if len(router.candidates) > 1:
                router.remove_candidate(router.candidates[0].name)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["clusters", "none"]))
def test_one_embedding_is_mapped_like_many_and_like_the_formula(seed: int, domains: str) -> None:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(30, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    config = RouterConfig.model_validate({"features": {"domains": domains, "clusters": 3, "components": 4}}).features
    features = FeatureMap.fit(embeddings, config)
    embeddings = np.hstack([embeddings, rng.normal(size=(30, SIZE))])
    expected = np.array([context(features, embedding) for embedding in embeddings])
    assert features(embeddings) == pytest.approx(expected, abs=1e-12)
    assert np.array([features(embedding) for embedding in embeddings]) == pytest.approx(expected, abs=1e-12)
    assert (features(embeddings)[:, 0] == 1.0).all()


SQUARES = st.integers(1, 6).flatmap(lambda d: arrays(np.float64, (3, d, d), elements=st.floats(-1e6, 1e6, width=32)))


@settings(deadline=None)
@given(SQUARES)
def test_a_triangle_holds_all_of_a_symmetric_matrix(squares: Matrix) -> None:
    matrices, x = squares + squares.transpose(0, 2, 1), squares[0, 0]
    triangle = Triangle(len(x))
    packed = triangle.pack(matrices)
    assert packed.shape == (3, len(x) * (len(x) + 1) // 2)
    assert np.array_equal(triangle.unpack(packed), matrices)  # bit by bit
    forms = [x @ matrix @ x for matrix in matrices]
    size = np.abs(matrices).sum(axis=(1, 2)) * np.abs(x).max() ** 2
    assert (np.abs(packed @ triangle.products(x) - forms) <= 1e-14 * size).all()
    assert np.array_equal(outer(x), np.outer(x, x))


@pytest.mark.parametrize("share", [1.0, 0.35, 0.25])  # of 700 labels: with 200, 123 or 88 of them one is known
def test_what_the_leader_is_given_is_that_of_the_formula(share: float) -> None:
    rng, names = np.random.default_rng(0), ("m1", "m2", "m3", "m4")
    router = tiny_router(names=names, config=RouterConfig.model_validate({"exploration": {"optimism": 0}}))
    texts = [f"question {row % 37} about {row % 11}" for row in range(700)]
    table: dict[str, Any] = {"prompt": texts}
    for name, level, labels in zip(names, (0.72, 0.68, 0.6, 0.9), (700, 400, 700, 199), strict=True):
        table[f"{name}|quality"] = np.where(np.arange(700) < share * labels, (rng.random(700) < level) * 1.0, np.nan)
    router.fit(table, progress=False)
    found = []
    for text in texts[:50]:
        query = Query(text=text, embedding=router._contexts.encoder.encode([text])[0])
        scores = router.decide(query, willingness_to_pay=math.inf).scores
        expected = [Reference(router).to_leader(position, query) for position in range(4)]
        assert [scores[name].optimism for name in names] == pytest.approx(expected, abs=1e-12)
        found.append(expected)
    most = np.max(found, axis=0)
    assert most[0] > 0.01
    assert most[1:].tolist() == [0.0, 0.0, 0.0]


def test_a_bank_counts_its_changes() -> None:
    bank, context = HeadBank(np.zeros((2, 3)), shrinkage=1.0, strength=1.0), np.array([1.0, 0.5, 0.0])
    changes: list[Callable[[], None]] = [
        lambda: bank.update(0, context, 1.0),
        lambda: bank.relabel(0, context, 1.0, 0.0),
        lambda: bank.add(1, bank.statistics(0)),
        lambda: bank.copy_head(0, bank, 1),
        lambda: bank.fade(0, 0.5),
        lambda: bank.set_prior(1, context),
    ]
    for change in changes:
        before = bank.changes
        change()
        assert bank.changes > before


def test_a_context_is_worked_out_once_for_outcome_and_feedback(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    made: list[Matrix] = []
    router = tiny_router(store=store)
    decisions = [router.decide(f"question number {number}") for number in range(3)]
    whole = FeatureMap.__call__

    def counted(features: FeatureMap, rows: Matrix) -> Matrix:
        made.append(rows)
        return whole(features, rows)

    monkeypatch.setattr(FeatureMap, "__call__", counted)
    for decision in decisions:
        router.observe(decision.decision_id, Outcome(candidate=decision.candidate, response_tokens=50))
        router.feedback(decision, 1.0)
        router.feedback(decision, 0.5)
    assert len(made) == len(decisions)
    restarted = tiny_router(store=store)  # reads the embeddings from the log
    for text in ("hello there", "question number 1"):
        assert restarted.predict([text]).quality.tobytes() == router.predict([text]).quality.tobytes()
