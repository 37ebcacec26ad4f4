from __future__ import annotations

import numpy as np
import pytest

from mixllm_engine.errors import TableError
from mixllm_engine.evaluation.rivals import DomainLabel, Neighbours, QueryBlind, Ridge, lineup
from mixllm_engine.evaluation.rivals.costs import LogCost
from mixllm_engine.testing import HashingEncoder
from tests.evaluation import synthetic

TRAIN, TEST = synthetic.pool(200).split(0.7, 0)
KNOWN, ASKED = (HashingEncoder(32).encode(part.texts) for part in (TRAIN, TEST))


@pytest.mark.parametrize("name", lineup(domains=True))
def test_every_rival_predicts_qualities_of_the_right_shape_and_repeatably(name: str) -> None:
    predicted = []
    for _ in range(2):
        rival = lineup(domains=True)[name]
        rival.fit(KNOWN, TRAIN.quality, TRAIN.domains)
        predicted.append(rival.predict(ASKED, TEST.domains))
    assert predicted[0].shape == TEST.quality.shape
    assert (predicted[0] == predicted[1]).all()
    blind = np.square(TRAIN.quality.mean(axis=0) - TEST.quality).mean()
    assert np.square(predicted[0] - TEST.quality).mean() <= 1.02 * blind


def test_the_blind_mix_knows_means_only() -> None:
    rival = QueryBlind()
    rival.fit(KNOWN, TRAIN.quality, None)
    assert (rival.predict(ASKED[:3], None) == TRAIN.quality.mean(axis=0)).all()


def test_neighbours_agree_with_scikit_learn() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    rows = np.random.default_rng(0).normal(size=(120, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    quality = np.random.default_rng(1).random((80, 3))
    rival = Neighbours(7)
    rival.fit(rows[:80], quality, None)
    theirs = neighbors.KNeighborsRegressor(7, metric="cosine").fit(rows[:80], quality)
    assert np.allclose(rival.predict(rows[80:], None), theirs.predict(rows[80:]))
    few = Neighbours(1000)
    few.fit(rows[:80], quality, None)
    assert np.allclose(few.predict(rows[80:], None), quality.mean(axis=0))


def test_ridge_agrees_with_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rival = Ridge(3.0)
    rival.fit(KNOWN, TRAIN.quality, None)
    theirs = linear.Ridge(3.0).fit(KNOWN.astype(np.float64), TRAIN.quality)
    assert np.allclose(rival.predict(ASKED, None), theirs.predict(ASKED.astype(np.float64)))


def test_domains_are_looked_up_and_new_ones_get_the_overall_mean() -> None:
    rival = DomainLabel()
    quality = np.array([[1.0], [1.0], [0.0], [0.0]])
    rival.fit(KNOWN[:4], quality, ("x", "x", "y", "y"))
    # two queries of its own and two of the overall mean
    assert rival.predict(ASKED[:3], ("x", "y", "z")).ravel().tolist() == [0.75, 0.25, 0.5]
    with pytest.raises(TableError, match="needs a table with a column 'domain'"):
        rival.predict(ASKED, None)
    assert "domain label" not in lineup(domains=False)


def test_log_costs_follow_the_query() -> None:
    rows = np.eye(4)[np.arange(400) % 4]
    cost = np.stack([np.where(np.arange(400) % 4 == 0, 1.0, 0.01), np.full(400, 0.1)], axis=1)
    model = LogCost()
    model.fit(rows, cost)
    expected = model.predict(np.eye(4))
    assert expected[0, 0] > 20 * expected[1, 0]
    assert np.allclose(expected[:, 1], 0.1)
