from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mixllm_engine.errors import TableError
from mixllm_engine.evaluation.pools import read_pool
from mixllm_engine.evaluation.prices import candidates, implied_prices
from mixllm_engine.router import Router
from mixllm_engine.testing import HashingEncoder
from tests.evaluation import synthetic

WIDE = {
    "question": ["short a", "short b", "short c"],
    "prompt": ["exemplars + short a", "exemplars + short b", "exemplars + short c"],
    "domain": ["x", "y", "x"],
    "prompt_tokens_cl100k": [10, 20, 30],
    "b|quality": [1.0, 0.0, 1.0],
    "b|cost_usd": [2.0, None, 4.0],
    "b|response_tokens": [5, 6, 7],
    "a|quality": [0.0, 0.5, 1.0],
    "a|cost_usd": [0.1, 0.2, 0.3],
    "a|response_tokens": [1, 2, 3],
}


def test_a_wide_table_is_read_without_its_incomplete_rows() -> None:
    data = read_pool(WIDE)
    assert data.texts == ("short a", "short c")
    assert data.names == ("a", "b")
    assert data.domains == ("x", "x")
    assert data.dropped == 1
    assert data.quality.tolist() == [[0.0, 1.0], [1.0, 1.0]]
    assert data.prompt_tokens.tolist() == [10.0, 30.0]
    assert read_pool(WIDE, text="prompt").texts[0] == "exemplars + short a"


def test_a_long_table_is_read_by_its_texts() -> None:
    data = read_pool(
        {
            "prompt": ["p", "p", "q", "q"],
            "candidate": ["a", "b", "b", "a"],
            "quality": [0.1, 0.2, 0.3, 0.4],
            "cost_usd": [1.0, 2.0, 3.0, 4.0],
            "domain": ["x", "x", "y", "y"],
        }
    )
    assert data.quality.tolist() == [[0.1, 0.2], [0.4, 0.3]]
    assert data.domains == ("x", "y")
    assert np.isnan(data.response_tokens).all()


def test_a_file_gives_the_pool_its_name(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(WIDE).to_csv(tmp_path / "mine.csv", index=False)
    assert read_pool(tmp_path / "mine.csv").name == "mine"


def test_a_table_without_any_complete_row_is_refused() -> None:
    table = {"prompt": ["p", "q"], "a|quality": [1.0, 0.0], "b|quality": [1.0, 1.0]}
    with pytest.raises(TableError, match="no row of 'pool' has the quality and the cost of every candidate"):
        read_pool(table)


def test_splits_depend_on_the_seed_alone_and_lose_nothing() -> None:
    data = synthetic.pool(50)
    train, test = data.split(0.3, 7)
    again, _ = data.split(0.3, 7)
    assert train.texts == again.texts != data.split(0.3, 8)[0].texts
    assert len(train) == 15
    assert set(train.texts) | set(test.texts) == set(data.texts)
    whole = train.joined(test)
    assert sorted(whole.texts) == sorted(data.texts)
    row, place = 3, data.texts.index(whole.texts[3])
    assert (whole.quality[row] == data.quality[place]).all()
    with pytest.raises(TableError, match=r"50 rows can't be split with a share of 1.0"):
        data.split(1.0, 0)
    with pytest.raises(TableError, match="different candidates can't be joined"):
        train.joined(test.restrict({"cheap"}))


def test_each_domain_is_left_out_once() -> None:
    data = synthetic.pool(60)
    parts = list(data.by_domain())
    assert [domain for domain, _, _ in parts] == list(synthetic.DOMAINS)
    for domain, others, own in parts:
        assert set(own.domains or ()) == {domain}
        assert domain not in (others.domains or ())
        assert len(others) + len(own) == len(data)
    with pytest.raises(TableError, match="fewer than two domains"):
        list(dataclasses.replace(data, domains=None).by_domain())


def test_candidates_can_be_restricted_and_spread_over_cost() -> None:
    data = synthetic.pool(40)
    assert data.spread(2).names == ("dear", "poor")
    assert data.spread(9) is data
    part = data.restrict({"dear", "cheap"})
    assert part.names == ("cheap", "dear")
    assert (part.cost_usd[:, 1] == data.cost_usd[:, 2]).all()
    assert data.names[data.dearest] == "dear"
    assert data.names[data.cheapest] == "poor"
    with pytest.raises(TableError, match=r"unknown candidates \['nobody'\]"):
        data.restrict({"nobody"})


def test_prices_are_implied_by_recorded_costs() -> None:
    found = {candidate.name: candidate for candidate in candidates(synthetic.pool(40))}
    assert found["dear"].input_usd_per_mtok == pytest.approx(10.0)
    assert found["dear"].output_usd_per_mtok == pytest.approx(30.0)
    listed = {c.name: c for c in candidates(synthetic.pool(40), {"dear": (1.0, 2.0)})}
    assert (listed["dear"].input_usd_per_mtok, listed["dear"].output_usd_per_mtok) == (1.0, 2.0)


def test_implied_prices_are_never_negative_and_need_no_lengths() -> None:
    prompt, answer = np.array([10.0, 20.0, 30.0]), np.array([5.0, 4.0, 3.0])
    assert implied_prices(prompt, answer, prompt - answer)[1] == 0.0
    assert implied_prices(prompt, answer, 2.0 * answer - 0.1 * prompt)[0] == 0.0
    notional = implied_prices(prompt, np.full(3, np.nan), np.full(3, 0.003))
    assert notional[0] == 0.0
    assert notional[1] == pytest.approx(10.0)


def test_a_router_is_fitted_on_the_table_of_a_pool() -> None:
    data = synthetic.pool(60)
    router = Router(candidates(data), encoder=HashingEncoder(16))
    report = router.fit(data.table(), progress=False)
    assert report.rows == 60
    assert report.mean_quality["dear"] == pytest.approx(data.quality[:, 2].mean())
    assert router.predict(data.texts[:2]).candidates == data.names
