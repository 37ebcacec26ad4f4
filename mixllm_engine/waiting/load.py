"""In-flight calls -> expected waiting time of every candidate (the paper's w_l).

The estimate moves with each dispatch and each return, so that a burst spreads over the candidates; a figure that is
refreshed every few seconds sends the whole burst to one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mixllm_engine.candidates import Pool
from mixllm_engine.config import WaitingConfig
from mixllm_engine.prediction.priors import TYPICAL_RESPONSE_TOKENS
from mixllm_engine.types import Vector
from mixllm_engine.waiting.timing import Timing


class Load:
    """Calls in flight and observed speed, by candidate. Not thread-safe: the router holds its lock.

    Parameters
    ----------
    pool : Pool
        The candidates.
    config : WaitingConfig
        Prior speed and concurrency.
    """

    def __init__(self, pool: Pool, config: WaitingConfig) -> None:
        self.config = config
        self._in_flight: dict[str, int] = {}
        self._elsewhere: Mapping[str, int] = {}
        self._tokens: dict[str, float] = {}  # sums over observed answers, so workers can add them
        self._seconds: dict[str, float] = {}
        self.attach(pool)

    def attach(self, pool: Pool) -> None:
        """Follow a changed pool; what is known of the candidates that stay is kept."""
        self.pool = pool
        default_s = self.config.startup_s
        self._without_queue = Timing(
            waiting_s=np.zeros(len(pool)),
            startup_s=np.array([default_s if c.startup_s is None else c.startup_s for c in pool.candidates]),
            tokens_per_s=np.array([self._speed(name) for name in pool.names]),
        )
        self._count()

    def _count(self) -> None:
        counts = [self._in_flight.get(name, 0) + self._elsewhere.get(name, 0) for name in self.pool.names]
        self._counts = np.array(counts, dtype=np.float64)
        self._most = float(self._counts.max())

    @property
    def under_way(self) -> dict[str, int]:
        """Calls of this worker, by candidate, where there are any."""
        return {name: count for name, count in self._in_flight.items() if count}

    def elsewhere(self, in_flight: Mapping[str, int]) -> None:
        """Take note of the other workers' calls, by candidate."""
        if in_flight != self._elsewhere:
            self._elsewhere = in_flight
            self._count()

    def dispatched(self, name: str) -> None:
        """Count a call that begins."""
        self._change(name, +1)

    def returned(self, name: str) -> None:
        """Count a call that ended, however it ended."""
        self._change(name, -1)

    def in_flight(self, name: str) -> int:
        """Return the number of this worker's calls under way."""
        return self._in_flight.get(name, 0)

    def forked(self) -> None:
        """Leave the calls under way to the process that this one was forked from."""
        self._in_flight = {}
        self._count()

    def _change(self, name: str, step: int) -> None:
        count = max(0, self._in_flight.get(name, 0) + step)
        self._in_flight[name] = count
        if name in self.pool.index:
            self._counts[self.pool.index[name]] = count + self._elsewhere.get(name, 0)
            self._most = float(self._counts.max())

    def observe(self, name: str, response_tokens: float, latency_s: float) -> None:
        """Learn the speed from one answer."""
        if name not in self.pool.index or response_tokens < 1:
            return
        position = self.pool.index[name]
        generating = max(latency_s - float(self._without_queue.startup_s[position]), 1e-3)
        self._tokens[name] = self._tokens.get(name, 0.0) + response_tokens
        self._seconds[name] = self._seconds.get(name, 0.0) + generating
        speeds = self._without_queue.tokens_per_s.copy()
        speeds[position] = self._speed(name)
        self._without_queue = replace(self._without_queue, tokens_per_s=speeds)

    def timing(self, typical_tokens: Sequence[float] | Vector) -> Timing:
        """Return how long a new call waits before it starts, and how fast it is then.

        While nobody queues and no speed changes, it is the same object.

        Parameters
        ----------
        typical_tokens : array of shape (K,)
            Expected length of the answers that are under way.
        """
        if self._most < self.config.concurrency:  # nobody queues: the common case
            return self._without_queue
        queued = self._counts - (self.config.concurrency - 1)
        alone = self._without_queue
        service_s = alone.startup_s + np.asarray(typical_tokens) / alone.tokens_per_s
        return replace(alone, waiting_s=np.maximum(queued, 0.0) * service_s / self.config.concurrency)

    def _speed(self, name: str) -> float:
        given = self.pool[name].tokens_per_s
        if given is not None:
            return given
        prior_tokens = self.config.prior_calls * TYPICAL_RESPONSE_TOKENS
        tokens = prior_tokens + self._tokens.get(name, 0.0)
        return tokens / (prior_tokens / self.config.tokens_per_s + self._seconds.get(name, 0.0))
