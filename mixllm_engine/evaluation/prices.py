"""Candidates for a pool of recorded outcomes: prices that explain what its answers cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.types import Candidate, Vector

_PER_MTOK = 1_000_000.0
# Where a table has no lengths, the mean answer counts as this long, and every other in proportion to its cost.
NOTIONAL_TOKENS = 300.0


def candidates(data: FullFeedback, list_prices: Mapping[str, tuple[float, float]] | None = None) -> list[Candidate]:
    """Make the candidates of a pool.

    Parameters
    ----------
    data : FullFeedback
        n queries, K candidates.
    list_prices : mapping of str to pair of float, optional
        Dollars per million prompt and response tokens by candidate. Without it, and for names that it lacks, prices
        are implied by the recorded costs (`implied_prices`): the right ones for a replay, which is billed in recorded
        costs, but not always those that the provider had on its list.

    Returns
    -------
    list of Candidate
        In the order of `FullFeedback.names`. Their models are on no price list, so that neither context windows nor
        abilities of today's namesakes exclude what the table says was answered.
    """
    made = []
    for column, name in enumerate(data.names):
        given = (list_prices or {}).get(name)
        prompt, response = given or implied_prices(
            data.prompt_tokens, data.response_tokens[:, column], data.cost_usd[:, column]
        )
        made.append(
            Candidate(name=name, model=f"recorded/{name}", input_usd_per_mtok=prompt, output_usd_per_mtok=response)
        )
    return made


def implied_prices(prompt_tokens: Vector, response_tokens: Vector, cost_usd: Vector) -> tuple[float, float]:
    """Return the prices, in dollars per million tokens, that explain recorded costs best.

    Non-negative least squares of cost on prompt and response tokens, without an intercept. Without lengths the answers
    alone carry the cost.

    Parameters
    ----------
    prompt_tokens, response_tokens, cost_usd : array of shape (n,)
        Tokens are NaN where unknown.

    Examples
    --------
    >>> prompt, response = np.array([10.0, 20.0, 30.0]), np.array([5.0, 1.0, 9.0])
    >>> implied_prices(prompt, response, (2.0 * prompt + 6.0 * response) / 1e6)
    (2.0, 6.0)
    """
    if not np.isfinite(response_tokens).all():
        return 0.0, float(cost_usd.mean() / NOTIONAL_TOKENS * _PER_MTOK)
    tokens = np.stack([np.nan_to_num(prompt_tokens), response_tokens], axis=1)
    both = np.linalg.lstsq(tokens, cost_usd, rcond=None)[0]
    if (both < 0).any():  # with two unknowns, the constrained optimum lies on one of the axes
        alone = [_one_price(tokens[:, part], cost_usd) for part in (0, 1)]
        errors = [float(np.square(cost_usd - tokens[:, part] * alone[part]).sum()) for part in (0, 1)]
        both = np.array([alone[0], 0.0] if errors[0] < errors[1] else [0.0, alone[1]])
    prompt, response = (round(float(price) * _PER_MTOK, 9) for price in both)
    return prompt, response


def _one_price(tokens: Vector, cost_usd: Vector) -> float:
    return max(float(tokens @ cost_usd / max(float(tokens @ tokens), 1e-12)), 0.0)
