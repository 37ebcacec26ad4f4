"""Usage and prices -> dollars."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace

from mixllm_engine.candidates import Pool
from mixllm_engine.types import Candidate, Outcome


def priced(outcome: Outcome, pool: Pool, decided: Callable[[], Container[str]]) -> Outcome:
    """Return an outcome with its cost, worked out from usage and prices where it was not given.

    Parameters
    ----------
    outcome : Outcome
        What a call brought.
    pool : Pool
        Prices.
    decided : callable
        Returns the candidates between which the decision chose; only asked about one that is not in the pool.

    Raises
    ------
    UnknownCandidateError
        If the candidate is neither in the pool nor was when it was decided.
    """
    if outcome.candidate not in pool.index and outcome.candidate in decided():
        return outcome  # it was removed while it answered
    candidate = pool[outcome.candidate]
    return outcome if outcome.cost_usd is not None else replace(outcome, cost_usd=cost_usd(candidate, outcome))


def cost_usd(candidate: Candidate, outcome: Outcome) -> float | None:
    """Return what a call cost by the candidate's prices, or ``None`` where the usage is not known.

    Cached prompt tokens are billed at their own price where there is one.

    Examples
    --------
    >>> prices = {"input_usd_per_mtok": 1.0, "cached_input_usd_per_mtok": 0.1, "output_usd_per_mtok": 2.0}
    >>> c = Candidate(name="a", model="a", **prices)
    >>> cost_usd(c, Outcome(candidate="a", prompt_tokens=1000, cached_tokens=500, response_tokens=100))
    0.00075
    """
    if outcome.prompt_tokens is None or outcome.response_tokens is None:
        return None
    full = candidate.input_usd_per_mtok or 0.0
    cached_price = full if candidate.cached_input_usd_per_mtok is None else candidate.cached_input_usd_per_mtok
    cached = min(outcome.cached_tokens or 0, outcome.prompt_tokens)
    prompt = (outcome.prompt_tokens - cached) * full + cached * cached_price
    return (prompt + outcome.response_tokens * (candidate.output_usd_per_mtok or 0.0)) / 1e6
