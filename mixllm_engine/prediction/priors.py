"""What is believed of a candidate before anything was observed: from its price and its abilities alone.

The belief of one candidate never depends on the others, so adding or removing one changes nobody else's.
"""

from __future__ import annotations

import math

from mixllm_engine.types import CAPABILITIES, Candidate

# Price range of today's LLMs in dollars per million tokens, three parts prompt to one part answer.
_CHEAPEST, _DEAREST = 0.05, 20.0
_LOWEST_QUALITY, _HIGHEST_QUALITY = 0.45, 0.85
_PER_ABILITY = 0.01

TYPICAL_PROMPT_TOKENS = 250.0
TYPICAL_RESPONSE_TOKENS = 300.0


def prior_quality(candidate: Candidate) -> float:
    """Return the expected quality in [0, 1] of an unknown candidate.

    Quality grows with the logarithm of the price: over the 26 LLMs of a public table with list prices, that explains
    about half of the variance of their mean quality. Each ability is worth a little more.

    Examples
    --------
    >>> cheap = Candidate(name="a", model="a", input_usd_per_mtok=0.02, output_usd_per_mtok=0.04)
    >>> dear = Candidate(name="b", model="b", input_usd_per_mtok=5.0, output_usd_per_mtok=15.0)
    >>> round(prior_quality(cheap), 2), round(prior_quality(dear), 2)
    (0.45, 0.78)
    """
    blended = (3.0 * (candidate.input_usd_per_mtok or 0.0) + (candidate.output_usd_per_mtok or 0.0)) / 4.0
    tier = math.log(min(max(blended, _CHEAPEST), _DEAREST) / _CHEAPEST) / math.log(_DEAREST / _CHEAPEST)
    abilities = sum(candidate.supports(capability) for capability in CAPABILITIES)
    return _LOWEST_QUALITY + (_HIGHEST_QUALITY - _LOWEST_QUALITY) * tier + _PER_ABILITY * abilities


def prior_log_length(candidate: Candidate) -> float:
    """Return the expected natural logarithm of the response length in tokens."""
    longest = candidate.max_output_tokens or TYPICAL_RESPONSE_TOKENS
    return math.log(max(1.0, min(TYPICAL_RESPONSE_TOKENS, longest)))
