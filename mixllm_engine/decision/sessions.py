"""Which candidate a session is with. Inside a tool loop it never changes; across turns, staying is cheaper."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from mixllm_engine.candidates import Pool
from mixllm_engine.types import Vector

_MOST_SESSIONS = 10_000


@dataclass(frozen=True, kw_only=True)
class Stay:
    """What is known of a session: its candidate, how many prompt tokens that has seen, and the latest decision."""

    candidate: str
    prompt_tokens: float
    decision_id: str


class Sessions:
    """The latest candidate of each session, for the most recent ten thousand. The router holds its lock."""

    def __init__(self) -> None:
        self._stays: OrderedDict[str, Stay] = OrderedDict()
        self._sessions: dict[str, str] = {}  # by the latest decision of each

    def get(self, session: str | None) -> Stay | None:
        """Return what is known of a session."""
        return self._stays.get(session) if session is not None else None

    def put(self, session: str | None, candidate: str, prompt_tokens: float, decision_id: str) -> None:
        """Note who is to answer in a session."""
        if session is None:
            return
        if (before := self._stays.get(session)) is not None:
            self._sessions.pop(before.decision_id, None)
        self._stays[session] = Stay(candidate=candidate, prompt_tokens=prompt_tokens, decision_id=decision_id)
        self._stays.move_to_end(session)
        self._sessions[decision_id] = session
        if len(self._stays) > _MOST_SESSIONS:
            _, oldest = self._stays.popitem(last=False)
            self._sessions.pop(oldest.decision_id, None)

    def answered(self, decision_id: str, candidate: str) -> None:
        """Note who did answer: after a fallback the session is with another candidate than was chosen."""
        session = self._sessions.get(decision_id)
        if session is not None and self._stays[session].candidate != candidate:
            self._stays[session] = replace(self._stays[session], candidate=candidate)


def input_price(pool: Pool, stay: Stay | None, prompt_tokens: float) -> Vector | None:
    """Return dollars per prompt token where the session's own candidate reads its prefix from the cache.

    ``None`` = the list prices: no session, or no price for cached tokens.
    """
    if stay is None or stay.candidate not in pool.index:
        return None
    cached = pool[stay.candidate].cached_input_usd_per_mtok
    if cached is None or prompt_tokens <= 0:
        return None
    position = pool.index[stay.candidate]
    share = min(stay.prompt_tokens / prompt_tokens, 1.0)
    prices = np.array(pool.input_price)
    prices[position] = share * cached / 1e6 + (1.0 - share) * prices[position]
    return prices
