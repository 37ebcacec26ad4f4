"""Tables of outcomes, and what is learned from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mixllm_engine import RouterConfig
from mixllm_engine.testing import tiny_router

KNOWN = ("cheap", "dear")


def wide(rows: int = 200) -> pd.DataFrame:
    """Poems are answered well by dear alone, sums by both."""
    rng = np.random.default_rng(0)
    poem = rng.random(rows) < 0.5
    return pd.DataFrame(
        {
            "prompt": [f"write a poem about {k}" if p else f"add up the numbers {k}" for k, p in enumerate(poem)],
            "prompt_tokens_cl100k": 8,
            "cheap|quality": np.where(poem, 0.1, 0.9),
            "dear|quality": 0.9,
            "cheap|response_tokens_cl100k": np.where(poem, 400, 40),
            "dear|response_tokens_cl100k": np.where(poem, 400, 40),
            "other|quality": 0.5,
        }
    )


def long(frame: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for name in KNOWN:
        part = frame[["prompt", f"{name}|quality", f"{name}|response_tokens_cl100k"]].copy()
        part.columns = pd.Index(["prompt", "quality", "response_tokens"])
        rows.append(part.assign(candidate=name, prompt_tokens=8))
    return pd.concat(rows)


def test_a_fit_learns_who_is_good_at_what() -> None:
    router = tiny_router()
    report = router.fit(wide(1000), progress=False)
    assert (report.rows, report.labels) == (1000, {"cheap": 1000, "dear": 1000})
    assert report.ignored == ("other",)
    assert report.mean_quality["dear"] == pytest.approx(0.9)
    texts = ("write a poem about 7", "add up the numbers 7")
    decisions = {text: router.decide(text, willingness_to_pay=3.0) for text in texts}
    assert [decision.candidate for decision in decisions.values()] == ["dear", "cheap"]
    poem, total = (decision.scores["cheap"].response_tokens for decision in decisions.values())
    assert poem > 2 * total
    assert not any(decision.explored for decision in decisions.values())  # 1000 labels each: nobody is new


@pytest.mark.parametrize("form", ["frame", "arrow", "mapping", "parquet", "csv", "long"])
def test_every_form_of_a_table_teaches_the_same(form: str, tmp_path: Path) -> None:
    frame = wide(60)
    sources: dict[str, Any] = {
        "frame": frame,
        "arrow": pa.Table.from_pandas(frame),
        "mapping": frame.to_dict("list"),
        "long": long(frame),
        "parquet": tmp_path / "t.parquet",
        "csv": str(tmp_path / "t.csv"),
    }
    frame.to_parquet(sources["parquet"])
    frame.to_csv(sources["csv"], index=False)
    expected, found = tiny_router(), tiny_router()
    expected.fit(frame, progress=False)
    found.fit(sources[form], progress=False)
    texts = ["write a poem", "add numbers"]
    for field in ("quality", "cost_usd", "response_tokens", "uncertainty"):
        assert np.allclose(getattr(found.predict(texts), field), getattr(expected.predict(texts), field)), field


def test_missing_values_teach_nothing_and_break_nothing() -> None:
    frame = wide(40)
    frame.loc[::2, "dear|quality"] = np.nan
    router = tiny_router()
    assert router.fit(frame, progress=False).labels == {"cheap": 40, "dear": 20}
    assert np.isfinite(router.predict(["write a poem"]).quality).all()


def test_lengths_follow_from_costs_where_only_these_are_known() -> None:
    frame = wide(40).drop(columns=["cheap|response_tokens_cl100k", "dear|response_tokens_cl100k"])
    frame["cheap|cost_usd"] = (8 * 0.1 + 500 * 0.4) / 1e6  # prices of the tiny pool
    frame["dear|cost_usd"] = (8 * 2.0 + 500 * 8.0) / 1e6
    router = tiny_router()
    router.fit(frame, progress=False)
    predicted = router.predict(["write a poem about 3"])
    assert predicted.response_tokens[0] == pytest.approx([500, 500], rel=0.25)


def test_a_fit_keeps_earlier_feedback_and_survives_a_restart(tmp_path: Path) -> None:
    with tiny_router(store=tmp_path / "log.db") as router:
        decision = router.decide("write a poem", force="cheap")
        router.feedback(decision, 1.0)
        router.fit(wide(60), progress=False)
        assert router.stats()["candidates"]["cheap"]["labels"] == 61
        router.fit(wide(40), progress=False)  # replaces the table, not the feedback
        assert router.stats()["candidates"]["cheap"]["labels"] == 41
        expected = router.predict(["write a poem"])
        budget = router.decide("x", budget="low").willingness_to_pay
    with tiny_router(store=tmp_path / "log.db") as router:
        found = router.predict(["write a poem"])
        assert np.allclose(found.quality, expected.quality, atol=1e-12)
        assert np.allclose(found.cost_usd, expected.cost_usd, atol=1e-12)
        assert router.decide("x", budget="low").willingness_to_pay == pytest.approx(budget)


def test_candidates_that_are_not_in_the_table_keep_their_prior() -> None:
    router = tiny_router(names=("cheap", "dear", "new"))
    before = router.predict(["write a poem"])
    report = router.fit(wide(60), progress=False)
    assert report.untaught == ("new",)
    assert np.allclose(router.predict(["write a poem"]).quality[0, 2], before.quality[0, 2])


def test_budgets_are_calibrated_on_the_table() -> None:
    router = tiny_router()
    report = router.fit(wide(), progress=False)
    texts = list(wide()["prompt"])
    spent = {}
    for budget in ("very_low", "low", "medium", "high", "very_high"):
        decisions = [router.decide(text, budget=budget) for text in texts]
        spent[budget] = float(np.mean([d.scores[d.candidate].cost_usd for d in decisions]))
        assert spent[budget] <= report.budgets_usd[budget] * 1.05 or budget == "very_low"
    assert list(spent.values()) == sorted(spent.values())
    assert spent["very_high"] > spent["very_low"]


def test_the_paper_preset_learns_and_routes_too() -> None:
    router = tiny_router(config=RouterConfig.paper())
    reference = max(router.fit(wide(1000), progress=False).mean_cost_usd.values())
    lambda_ = 3.0 * reference  # the paper's costs are dollars, so its lambda is small
    assert router.decide("write a poem about 7", willingness_to_pay=lambda_).candidate == "dear"
    assert router.decide("add up the numbers 7", willingness_to_pay=lambda_).candidate == "cheap"
