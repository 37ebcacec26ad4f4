"""A candidate joins with a few labelled prompts, or with the expectations of a sibling."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixllm_engine import Candidate, CandidateError, Router, RouterConfig, TableError, UnknownCandidateError
from mixllm_engine.encoding.encoder import Embeddings
from mixllm_engine.testing import HashingEncoder, tiny_router

ROOT = Path(__file__).parents[2]
NEW = Candidate(name="new", model="openai/new", input_usd_per_mtok=0.5, output_usd_per_mtok=1.0)
OTHER = Candidate(name="other", model="openai/other", input_usd_per_mtok=0.5, output_usd_per_mtok=1.0)
TEXTS = ["write a poem about 7", "add up the numbers 7", "something else"]


def labels(rows: int = 30, poem: float = 1.0, total: float = 0.0) -> pd.DataFrame:
    """The new candidate writes poems and can't add."""
    is_poem = np.arange(rows) % 2 == 0
    return pd.DataFrame(
        {
            "prompt": [f"write a poem about {k}" if p else f"add up the numbers {k}" for k, p in enumerate(is_poem)],
            "quality": np.where(is_poem, poem, total),
            "response_tokens": np.where(is_poem, 400, 40),
        }
    )


def outcomes(rows: int = 40, *names: str) -> pd.DataFrame:
    columns = {f"{name}|quality": 0.5 for name in names or ("cheap", "dear")}
    return pd.DataFrame({"prompt": [f"some question {k}" for k in range(rows)], **columns})


def taught(**settings: Any) -> Router:
    router = tiny_router(**settings)
    router.fit(outcomes(), progress=False)
    for step in range(6):
        router.feedback(router.decide(f"question {step}", force="cheap"), step % 2)
    return router


def numbers(router: Router, name: str) -> list[np.ndarray[Any, Any]]:
    predictor = router._learner.predictor
    position = predictor.pool.index[name]
    parts = ("prior_means", "gram", "inverse", "moment", "weights", "square", "count")
    return [getattr(bank, part)[position].copy() for bank in (predictor.quality, predictor.length) for part in parts]


def same(one: Router, two: Router, *, bitwise: bool = False) -> bool:
    expected, found = one.predict(TEXTS), two.predict(TEXTS)
    fields = ("quality", "cost_usd", "response_tokens", "uncertainty")
    pairs = [(getattr(expected, field), getattr(found, field)) for field in fields]
    return all(np.array_equal(a, b) if bitwise else np.allclose(a, b, atol=1e-12) for a, b in pairs)


def test_labels_teach_the_newcomer_and_nobody_else() -> None:
    router = taught()
    before = {name: numbers(router, name) for name in ("cheap", "dear")}
    predicted = router.predict(TEXTS)
    router.add_candidate(NEW, labelled=labels(200))
    after = router.predict(TEXTS)
    assert after.candidates == ("cheap", "dear", "new")
    assert after.quality[0, 2] > after.quality[1, 2] + 0.3
    assert after.response_tokens[0, 2] > 2 * after.response_tokens[1, 2]
    assert router.stats()["candidates"]["new"]["labels"] == 200
    for name, held in before.items():
        assert all(np.array_equal(a, b) for a, b in zip(held, numbers(router, name), strict=True))
    for field in ("quality", "cost_usd", "response_tokens", "uncertainty"):
        assert np.array_equal(getattr(after, field)[:, :2], getattr(predicted, field))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("binary", ["labels", "policy_gradient"])
def test_a_newcomer_changes_no_bit_of_the_others_scores(binary: str, size: int) -> None:
    config = RouterConfig.model_validate({"learning": {"binary": binary}})
    names = [f"pool-{place}" for place in range(size)]
    pool = [Candidate(name=n, model=n, input_usd_per_mtok=1.0, output_usd_per_mtok=2.0) for n in names]
    router, rng = Router(pool, config=config, encoder=HashingEncoder(), seed=0), np.random.default_rng(0)
    quality, length = ({n: rng.random(40) for n in names} for _ in range(2))
    table = {f"{n}|quality": quality[n] for n in names} | {f"{n}|response_tokens": 500 * length[n] for n in names}
    router.fit({"prompt": [f"some question {k}" for k in range(40)]} | table, progress=False)
    for step in range(3 * size):
        router.feedback(router.decide(f"question {step}", force=names[step % size]), step % 2)

    def scores() -> list[Any]:
        made = [router.decide(text).scores for text in TEXTS]
        return [dataclasses.astuple(told[name]) for told in made for name in names]

    before = scores()
    router.add_candidate(NEW)
    assert scores() == before


@pytest.mark.parametrize("form", ["short", "long", "wide", "parquet"])
def test_every_form_of_the_labels_teaches_the_same(form: str, tmp_path: Path) -> None:
    frame = labels()
    frame["cost_usd"] = (5 * 0.5 + frame.pop("response_tokens") * 1.0) / 1e6  # lengths follow from costs
    wide = frame.rename(columns={"quality": "new|quality", "cost_usd": "new|cost_usd"})
    stranger = frame.assign(candidate="stranger", quality=0.3)
    sources: dict[str, Any] = {
        "short": frame,
        "long": pd.concat([frame.assign(candidate="new"), stranger]),
        "wide": wide.assign(**{"stranger|quality": 0.3}),
        "parquet": tmp_path / "labels.parquet",
    }
    frame.to_parquet(sources["parquet"])
    expected, found = tiny_router(), tiny_router()
    expected.add_candidate(NEW, labelled=frame)
    found.add_candidate(NEW, labelled=sources[form])
    assert same(expected, found)
    assert expected.predict(TEXTS).response_tokens[0, 2] > 2 * expected.predict(TEXTS).response_tokens[1, 2]


def test_labels_count_towards_the_exploring_draws() -> None:
    pulls = RouterConfig.default().exploration.pulls
    drawn = {}
    for rows in (4, pulls):
        router = taught()
        router.add_candidate(NEW, labelled=labels(rows, poem=0.4, total=0.4))
        decisions = [router.decide(f"question {step}", willingness_to_pay=10.0) for step in range(200)]
        drawn[rows] = sum(decision.explored for decision in decisions if decision.candidate == "new")
    assert drawn[4] > 0
    assert drawn[pulls] == 0


def test_a_sibling_is_the_start_and_labels_come_on_top() -> None:
    router = tiny_router()
    router.fit(outcomes(2000).assign(**{"dear|quality": 0.9}), progress=False)
    router.add_candidate(NEW, like="dear")
    router.add_candidate(OTHER, like="dear", labelled=labels(20, poem=0.0))
    predicted = router.predict(TEXTS).quality
    assert np.allclose(predicted[:, 2], predicted[:, 1])
    assert (predicted[:, 3] < predicted[:, 1] - 0.5).all()
    assert router.stats()["candidates"]["new"]["labels"] == 0


@pytest.mark.parametrize("way", ["store", "folder"])
@pytest.mark.parametrize("given", [{"labelled": labels()}, {"like": "dear"}, {"like": "dear", "labelled": labels()}])
def test_what_a_newcomer_was_given_survives_a_restart(way: str, given: dict[str, Any], tmp_path: Path) -> None:
    with taught(store=tmp_path / "log.db") as router:
        router.add_candidate(NEW, **given)
        router.feedback(router.decide("write a poem", force="new"), 1.0)
        router.save(tmp_path)
        pool = [*tiny_router().candidates, NEW]
        if way == "store":
            back = Router(pool, store=tmp_path / "log.db", encoder=HashingEncoder())
        else:
            back = Router.load(tmp_path, store=tmp_path / "log.db", encoder=HashingEncoder())
        with back:
            assert same(router, back)
            assert back.stats()["candidates"]["new"]["labels"] == (31 if "labelled" in given else 1)


KILLED = """
import os, signal, sys
from mixllm_engine import Candidate
from mixllm_engine.testing import tiny_router
router = tiny_router(store=sys.argv[1])
new = Candidate(name="new", model="openai/new", input_usd_per_mtok=0.5, output_usd_per_mtok=1.0)
prompts = [f"write a poem about {k}" for k in range(8)]
router.add_candidate(new, like="dear", labelled={"prompt": prompts, "quality": [0.25] * 8})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_labels_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Router([*tiny_router().candidates, NEW], store=path, encoder=HashingEncoder()) as router:
        told = router.stats()["candidates"]["new"]
    assert (told["labels"], told["mean_reward"]) == (8, 0.25)


def test_a_program_may_add_its_candidates_whenever_it_starts(tmp_path: Path) -> None:
    for _ in range(3):
        with tiny_router(store=tmp_path / "log.db") as router:
            router.add_candidate(NEW, labelled=labels())
            assert router.stats()["candidates"]["new"]["labels"] == 30
    with tiny_router(store=tmp_path / "log.db") as router, tiny_router() as fresh:
        router.add_candidate(NEW, labelled=labels(12, poem=0.0, total=1.0))  # others replace those
        fresh.add_candidate(NEW, labelled=labels(12, poem=0.0, total=1.0))
        assert router.stats()["candidates"]["new"]["labels"] == 12
        assert same(router, fresh)
    with tiny_router(store=tmp_path / "log.db") as router:
        router.add_candidate(NEW)  # what was learned of it counts again
        assert router.stats()["candidates"]["new"]["labels"] == 12
        assert same(router, fresh)


def test_the_same_labels_again_change_nothing_at_all() -> None:
    router = taught()
    router.add_candidate(NEW, labelled=labels())
    before = numbers(router, "new")
    router.remove_candidate("new")
    router.add_candidate(NEW, labelled=labels())
    assert all(np.allclose(a, b, atol=1e-12) for a, b in zip(before, numbers(router, "new"), strict=True))
    assert np.array_equal(before[1], numbers(router, "new")[1])  # the sums, bit by bit


def test_labels_are_replaced_as_far_as_they_were_not_forgotten() -> None:
    config = RouterConfig.model_validate({"learning": {"forgetting": 0.5}})
    router = tiny_router(config=config)
    router.add_candidate(NEW, labelled=labels(8))
    for _ in range(3):
        router.feedback(router.decide("write a poem", force="new"), 1.0)
    assert router._learner.predictor.quality.weight(2) == 8 / 8 + 1 + 1 / 2 + 1 / 4
    router.remove_candidate("new")
    router.add_candidate(NEW, labelled=labels(16))
    assert router._learner.predictor.quality.weight(2) == pytest.approx(16 + 1.75)
    router._learner.predictor.quality.check()


def test_labels_are_replaced_after_a_drift_alert_has_faded_them() -> None:
    config = RouterConfig.model_validate({"learning": {"drift_threshold": 2.0, "drift_memory": 5.0}})
    router = tiny_router(config=config)
    router.add_candidate(NEW, labelled=labels(40, poem=1.0, total=1.0))
    for step in range(12):
        router.feedback(router.decide(f"write a poem {step}", force="new"), 0.0)
    held = router._learner.predictor.quality.weight(2)
    assert held < 40
    weight = router._learner.onboarded["new"].labelled
    assert weight is not None and weight.weight < 0.2
    router.remove_candidate("new")
    router.add_candidate(NEW, labelled=labels(16))
    assert router._learner.predictor.quality.weight(2) == pytest.approx(held - 40 * weight.weight + 16)
    assert router.stats()["candidates"]["new"]["labels"] == 12 + 16
    router._learner.predictor.quality.check()


def test_a_fit_keeps_the_labels_of_who_is_not_in_its_table() -> None:
    router, fresh = tiny_router(), tiny_router()
    for one in (router, fresh):
        one.add_candidate(NEW, like="cheap", labelled=labels())
    router.fit(outcomes(), progress=False)
    assert router.stats()["candidates"]["new"]["labels"] == 30
    assert np.allclose(router.predict(TEXTS).quality[:, 2], fresh.predict(TEXTS).quality[:, 2], atol=1e-12)
    report = router.fit(outcomes(50, "cheap", "dear", "new"), progress=False)
    assert report.untaught == ()
    assert router.stats()["candidates"]["new"]["labels"] == 50
    fresh = tiny_router(names=("cheap", "dear"))
    fresh.add_candidate(NEW)
    fresh.fit(outcomes(50, "cheap", "dear", "new"), progress=False)
    assert same(router, fresh)


def test_workers_that_onboard_do_not_undo_each_other_nor_a_fit(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with tiny_router(store=path) as one, tiny_router(store=path) as two:
        one.predict(TEXTS)
        two.predict(TEXTS)  # both have begun with an empty store
        one.fit(outcomes(), progress=False)
        two.add_candidate(NEW, labelled=labels(10))
        one.add_candidate(OTHER, labelled=labels(20))
    with Router([*tiny_router().candidates, NEW, OTHER], store=path, encoder=HashingEncoder()) as router:
        told = {name: values["labels"] for name, values in router.stats()["candidates"].items()}
        assert told == {"cheap": 40, "dear": 40, "new": 10, "other": 20}
        with tiny_router(store=path) as late:
            late.fit(outcomes(60), progress=False)  # knows of the newcomers by the store alone
    with Router([*tiny_router().candidates, NEW, OTHER], store=path, encoder=HashingEncoder()) as router:
        told = {name: values["labels"] for name, values in router.stats()["candidates"].items()}
        assert told == {"cheap": 60, "dear": 60, "new": 10, "other": 20}


def test_neural_heads_learn_the_labels_too(tmp_path: Path) -> None:
    config = RouterConfig.model_validate({"prediction": {"heads": "neural"}})
    with tiny_router(config=config, store=tmp_path / "log.db") as router:
        router.add_candidate(NEW, labelled=labels(300))
        predicted = router.predict(TEXTS)
        assert predicted.quality[0, 2] > predicted.quality[1, 2] + 0.1
        pool = [*tiny_router().candidates, NEW]
        with Router(pool, config=config, store=tmp_path / "log.db", encoder=HashingEncoder()) as back:
            assert same(router, back)


class CountingEncoder(HashingEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.encoded = 0

    def encode(self, texts: Sequence[str]) -> Embeddings:
        self.encoded += len(texts)
        return super().encode(texts)


@pytest.mark.parametrize(
    ("candidate", "given", "error", "message"),
    [
        (NEW, {"labelled": labels().assign(quality=2.0)}, TableError, "row 0: 'quality' is 2.0"),
        (NEW, {"labelled": labels(0)}, TableError, "the table has no rows"),
        (NEW, {"labelled": labels().assign(quality=np.nan)}, TableError, "no quality at all is known for 'new'"),
        (NEW, {"labelled": labels().assign(candidate="x")}, TableError, "no candidate of the pool .'new'. occurs"),
        (NEW, {"labelled": labels().drop(columns="quality")}, TableError, "neither wide"),
        (NEW, {"labelled": labels(), "text": "question"}, TableError, "has no column 'question'"),
        (NEW, {"labelled": labels(), "like": "nobody"}, UnknownCandidateError, "unknown candidate 'nobody'"),
        (tiny_router().candidates[0], {"labelled": labels()}, CandidateError, "more than once: 'cheap'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_happens(
    candidate: Candidate, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    encoder = CountingEncoder()
    router = tiny_router(encoder=encoder)
    router.predict(["warm"])
    encoder.encoded = 0
    with pytest.raises(error, match=message):
        router.add_candidate(candidate, **given)
    assert encoder.encoded == 0
    assert [known.name for known in router.candidates] == ["cheap", "dear"]
