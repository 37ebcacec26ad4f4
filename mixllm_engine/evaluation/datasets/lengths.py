"""Lengths in tokens where a data set records none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mixllm_engine.types import Vector

_BYTES_PER_TOKEN = 4.0


def estimated_tokens(texts: Iterable[str | None]) -> Vector:
    """Estimate lengths: a token per four bytes of UTF-8, rounded up, at least one; NaN where there is no text.

    On RouterBench's answers to ARC, Winogrande and MBPP (eleven LLMs, 2,205 queries) the mean of this is between 28 %
    below and 1 % above that of OpenAI's tokenizer cl100k_base, and within 9 % of it for ten of the LLMs; the mean
    absolute error is 2 to 7 tokens. Bytes serve other scripts better than characters: one Chinese character has three
    of them.

    Parameters
    ----------
    texts : iterable of str or None
        Prompts or answers, n of them.

    Returns
    -------
    array of shape (n,)

    Examples
    --------
    >>> estimated_tokens(["A)", "How many?", None])
    array([ 1.,  3., nan])
    """
    # An answer that was cut off, and then printed as a list, may end in half a surrogate pair.
    sizes = [np.nan if text is None else len(text.encode(errors="surrogatepass")) for text in texts]
    return np.maximum(np.ceil(np.array(sizes, dtype=np.float64) / _BYTES_PER_TOKEN), 1.0)


def implied_tokens(cost_usd: Vector, prompt_tokens: Vector, prices: tuple[float, float]) -> Vector:
    """Solve ``cost = prompt x input price + response x output price`` for the response; at least one token.

    An error of the prompt's length is passed on times the ratio of the two prices, so it matters least for LLMs whose
    output is dear.

    Parameters
    ----------
    cost_usd, prompt_tokens : array of shape (n,)
        What each answer cost, and the length of each prompt.
    prices : pair of float
        Dollars per million prompt and response tokens; the second above 0.

    Returns
    -------
    array of shape (n,)

    Examples
    --------
    >>> implied_tokens(np.array([7e-6]), np.array([3.0]), (1.0, 2.0))
    array([2.])
    """
    prompt_price, response_price = prices
    return np.maximum((cost_usd * 1e6 - prompt_tokens * prompt_price) / response_price, 1.0)
