"""The pool: prices and abilities from LiteLLM's map, overrides, exclusions, bad input."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mixllm_engine import Candidate, CandidateError, ConfigError, QueryError, UnknownCandidateError, UnknownPriceError
from mixllm_engine.candidates import Pool, resolve


def priced(name: str, price: float = 1.0, **more: object) -> Candidate:
    return Candidate(name=name, model=f"openai/{name}", input_usd_per_mtok=price, output_usd_per_mtok=price, **more)  # type: ignore[arg-type]


def test_a_known_model_gets_prices_limits_and_abilities_from_the_map() -> None:
    candidate = resolve("openai/gpt-4o-mini")
    assert candidate.input_usd_per_mtok == pytest.approx(0.15)
    assert candidate.output_usd_per_mtok == pytest.approx(0.6)
    assert candidate.cached_input_usd_per_mtok == pytest.approx(0.075)
    assert candidate.context_window == 128_000
    assert candidate.supports_tools and candidate.supports_images and candidate.supports_json_schema


def test_what_is_given_wins_over_the_map() -> None:
    candidate = resolve(
        Candidate(
            name="mine", model="openai/gpt-4o-mini", input_usd_per_mtok=0.0, context_window=9, supports_tools=False
        )
    )
    assert (candidate.input_usd_per_mtok, candidate.context_window, candidate.supports_tools) == (0.0, 9, False)
    assert candidate.output_usd_per_mtok == pytest.approx(0.6)


def test_another_providers_entry_of_the_same_name_is_not_used() -> None:
    with pytest.raises(UnknownPriceError, match="input_usd_per_mtok=... and output_usd_per_mtok=..."):
        resolve("groq/gpt-4o-mini")


def test_an_unknown_price_is_an_error_that_names_the_missing_number() -> None:
    with pytest.raises(UnknownPriceError, match=r"candidate 'local'.*give output_usd_per_mtok=\.\.\., in US dollars"):
        resolve(Candidate(name="local", model="openai/none-such", input_usd_per_mtok=0.1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_usd_per_mtok", -1.0),
        ("output_usd_per_mtok", float("nan")),
        ("context_window", 0),
        ("tokens_per_s", -3.0),
    ],
)
def test_numbers_that_make_no_sense_are_refused(field: str, value: float) -> None:
    changed: dict[str, Any] = {field: value}
    with pytest.raises(CandidateError, match=field):
        resolve(dataclasses.replace(priced("a"), **changed))


def test_an_empty_pool_and_double_names_are_refused() -> None:
    with pytest.raises(CandidateError, match="at least one candidate"):
        Pool([])
    with pytest.raises(CandidateError, match="given more than once: 'a'"):
        Pool([priced("a"), priced("b"), priced("a")])
    with pytest.raises(CandidateError, match="put it in brackets"):
        Pool("openai/gpt-4o-mini")
    with pytest.raises(CandidateError, match="not int"):
        Pool([7])  # type: ignore[list-item]


def test_the_key_is_never_shown() -> None:
    candidate = resolve(dataclasses.replace(priced("a"), api_key="sk-very-secret"))
    assert "sk-very-secret" not in repr(candidate) + str(dataclasses.asdict(candidate))
    assert candidate.secret_key() == "sk-very-secret"


def test_exclusions_name_their_reason() -> None:
    pool = Pool(
        [priced("small", context_window=100), priced("text", context_window=9000), priced("eyes", supports_images=True)]
    )
    reasons = {pool.names[p]: why for p, why in pool.excluded(needs=["images"], tokens=500).items()}
    assert set(reasons) == {"small", "text"}
    assert "does not support images" in reasons["text"]
    assert pool.excluded(tokens=500) == {
        pool.index["small"]: "context window of 100 tokens is less than the 500 needed"
    }


def test_allow_and_deny_take_wildcards_and_deny_wins() -> None:
    pool = Pool([priced("openai/a"), priced("openai/b"), priced("local")])
    allowed = pool.excluded(allow=["openai/*"], deny=["*/b"])
    assert {pool.names[p] for p in allowed} == {"openai/b", "local"}
    with pytest.raises(ConfigError, match=r"'anthropic/\*' in allow or deny matches no candidate"):
        pool.excluded(deny=["anthropic/*"])
    with pytest.raises(QueryError, match="unknown capability 'vision'"):
        pool.excluded(needs=["vision"])  # type: ignore[list-item]


def test_names_that_are_not_in_the_pool_are_errors_that_list_it() -> None:
    pool = Pool([priced("a"), priced("b")])
    with pytest.raises(UnknownCandidateError, match="unknown candidate 'c'; the pool has 'a', 'b'"):
        pool["c"]
    assert pool.without("a").names == ("b",)
    assert pool.joined(priced("0")).names == ("0", "a", "b")
