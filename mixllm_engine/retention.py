"""What is too old, or too much, leaves the store; what it taught does not.

Learned state is a fold over the log, so rows go only in exchange for a stored state that has them folded in. Workers
that see a new state begin with it (`Follower.renew`). A later fit counts what the rows taught once more, from sums.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from mixllm_engine.config import StorageConfig
from mixllm_engine.encoding.context import Context, whole
from mixllm_engine.following import Follower
from mixllm_engine.learning.learner import Learner
from mixllm_engine.learning.state import Learned
from mixllm_engine.saving import pack
from mixllm_engine.store.base import DecisionRecord, FeedbackRow, OutcomeRow, Store, StoredState, Surplus
from mixllm_engine.types import Decision, Query

_EVERY_S: Final = 300.0
# By so much may the clock and a steady one disagree about the time between two looks.
_DRIFT_S: Final = 60.0
_AT_ONCE: Final = 5000  # decisions in one transaction, during which nobody else writes


def record(
    decision: Decision, context: Context, learner: Learner, query: str | Query, config: StorageConfig
) -> DecisionRecord:
    """Return what is kept of a decision; the text of its query only if the settings ask for it."""
    text = query if isinstance(query, str) else query.text
    return DecisionRecord(
        decision=decision,
        embedding=context.embedding.astype(np.float16),
        encoder=learner.encoder,
        policy=learner.version,
        prompt_tokens=context.prompt_tokens,
        prompt=None if config.keep_prompts_s is None or text is None else _storable(text),
    )


def _storable(text: str) -> str:
    """Put ``?`` for NUL and for halves of characters, which databases refuse: no decision fails for its record."""
    return whole(text).replace("\0", "?")


class Retention:
    """Drops what the settings say.

    Parameters
    ----------
    store : Store
        The log.
    config : StorageConfig
        How old, and how many.
    clock : callable
        Seconds since the epoch, as decisions are dated.
    steady : callable
        Seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        store: Store,
        config: StorageConfig,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._steady = steady
        self._looked = (steady(), clock())

    def look(self, follower: Follower) -> None:
        """Drop what is to be dropped, every few minutes, unless the clock was set meanwhile: that may be a mistake."""
        before, now = self._looked, (self._steady(), self._clock())
        if now[0] - before[0] >= _EVERY_S:
            self._looked = now
            if abs((now[1] - before[1]) - (now[0] - before[0])) < _DRIFT_S:
                self.prune(follower)

    def prune(self, follower: Follower) -> int:
        """Drop what is to be dropped; returns the number of decisions.

        Rows that were written just now wait for the next time, and so does the decision that was judged last.
        """
        config, now = self._config, self._clock()
        if config.keep_prompts_s is not None:
            self._store.forget_prompts(now - config.keep_prompts_s)
        if config.keep_s is None and config.keep_decisions is None:
            return 0
        before_s = None if config.keep_s is None else now - config.keep_s
        surplus = Surplus(encoder=follower.learner.encoder, before_s=before_s, most=config.keep_decisions)
        dropped = 0
        while some := self._prune_some(follower, surplus, now):
            dropped += some
        return dropped

    def _prune_some(self, follower: Follower, surplus: Surplus, now: float) -> int:
        with follower.turn:  # nothing is folded in meanwhile
            learner, identity = follower.learner, self._store.identity
            learned: Learned | None = None

            def fold(
                state: StoredState | None, feedback: Sequence[FeedbackRow], outcomes: Sequence[OutcomeRow]
            ) -> bytes | None:
                nonlocal learned
                if (state.number if state else 0) != learner.based_on:
                    return None  # somebody has changed it: the next look begins with that
                with follower.lock:
                    learned = learner.without(feedback, outcomes, identity)
                    return None if learned is None else pack(learner, learned)

            pruned = self._store.prune(surplus, fold, _AT_ONCE, now)
            if pruned is None or learned is None:
                return 0
            learner.dropped, learner.based_on = dict(learned.dropped), pruned.state_number
            return pruned.decisions
