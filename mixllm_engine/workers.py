"""What workers tell each other beside the log: calls under way, pauses of candidates, and how dollar budgets stand.

Every worker writes one row and reads those of the others, once in each interval in which the log is read, so what one
knows of another is at most two intervals old. Clocks of machines differ, so none is compared: a worker whose row has
stopped to change for a while, as seen by the reader's own steady clock, is gone, and with it its calls and pauses.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from mixllm_engine.decision.budget import Pace
from mixllm_engine.decision.maker import DecisionMaker
from mixllm_engine.errors import StoreError
from mixllm_engine.store.base import Store, WorkerRow
from mixllm_engine.waiting.cooldown import Pause

# Whose row has not changed for so many intervals, and seconds, is gone.
_GONE_INTERVALS: Final = 5.0
_GONE_S: Final = 10.0
# Rows of workers that are gone are taken away after this, but for the newest one, with which a worker begins.
_USELESS_S: Final = 600.0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What one worker tells.

    Attributes
    ----------
    in_flight : mapping of str to int
        Calls under way, by candidate.
    pauses : mapping of str to Pause
        Candidates that failed for a reason that holds for every worker, and for how long they are left alone.
    paces : mapping of float to Pace
        How each dollar budget stands.
    """

    in_flight: Mapping[str, int]
    pauses: Mapping[str, Pause]
    paces: Mapping[float, Pace]

    def encode(self) -> str:
        """Return it as JSON.

        Examples
        --------
        >>> told = Standing(in_flight={"a": 2}, pauses={"b": Pause(30.0, "rate_limit")}, paces={0.01: Pace(0.5, 0.02)})
        >>> Standing.decode(told.encode()) == told
        True
        """
        told = {"in_flight": self.in_flight, "pauses": self.pauses, "paces": list(self.paces.items())}
        return json.dumps(told, separators=(",", ":"))

    @classmethod
    def decode(cls, data: str) -> Standing:
        """Return what a worker has told, or raise `StoreError` if its row is damaged."""
        try:
            told: Any = json.loads(data)
            return cls(
                in_flight={name: int(count) for name, count in told["in_flight"].items()},
                pauses={name: Pause(float(left_s), kind) for name, (left_s, kind) in told["pauses"].items()},
                paces={float(budget): Pace(*map(float, pace)) for budget, pace in told["paces"]},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"a worker's row in the store is damaged: {error!r}") from error


@dataclass(frozen=True, kw_only=True)
class _Other:
    """What this worker knows of another one: its row, when that was seen to change, and whether its budgets did."""

    row: WorkerRow
    seen_s: float
    standing: Standing
    spent: bool

    @classmethod
    def now(cls, row: WorkerRow, before: _Other | None, seen_s: float) -> _Other:
        if before is not None and before.row.beat == row.beat:
            return cls(row=row, seen_s=before.seen_s, standing=before.standing, spent=False)
        standing = Standing.decode(row.data)
        spent = before is None or before.standing.paces != standing.paces
        return cls(row=row, seen_s=seen_s, standing=standing, spent=spent)


class Workers:
    """One worker among the others.

    Parameters
    ----------
    store : Store
        Where the rows are.
    maker : DecisionMaker
        Of whom is told, and who is told.
    lock : threading.RLock
        Guards the maker.
    interval_s : float
        How often workers tell each other.
    clock : callable
        Seconds since the epoch, as the maker counts them.
    steady : callable
        Seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        store: Store,
        maker: DecisionMaker,
        lock: threading.RLock,
        interval_s: float,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._maker = maker
        self._lock = lock
        self._gone_s = max(_GONE_S, _GONE_INTERVALS * interval_s)
        self._clock = clock
        self._steady = steady
        self.begin()

    def begin(self) -> None:
        """Be a worker that nobody knows yet, as a forked one is."""
        self._name = secrets.token_hex(16)
        self._beat = 0
        self._others: dict[str, _Other] = {}
        self._paces: Mapping[float, Pace] = {}  # as they stood at the last look

    def exchange(self) -> None:
        """Tell the others how this worker stands, and learn how they do.

        Raises
        ------
        StoreError
            If the store can't be reached.
        """
        maker, now = self._maker, self._clock()
        with self._lock:
            told = Standing(in_flight=maker.load.under_way, pauses=maker.cooldowns.told(now), paces=maker.budgets.paces)
        self._beat += 1
        own = WorkerRow(name=self._name, beat=self._beat, time_s=now, data=told.encode())
        seen_s = self._steady()
        rows = self._store.exchange(own)
        self._others = {row.name: _Other.now(row, self._others.get(row.name), seen_s) for row in rows}
        self._forget(seen_s)
        draws = self._store.exploring_draws() if maker.explores else {}
        with self._lock:
            self._listen(now, seen_s, told)
            maker.drawn(draws)

    def leave(self) -> None:
        """Take this worker's row away, unless a later one may begin with its budgets."""
        if self._beat and not self._paces:
            with suppress(StoreError):  # then the others find out by themselves
                self._store.forget_workers([self._name])

    @property
    def _newest(self) -> _Other | None:
        return max(self._others.values(), key=lambda other: other.row.time_s, default=None)

    def _forget(self, now_s: float) -> None:
        newest = self._newest
        useless = [
            name for name, other in self._others.items() if other is not newest and now_s - other.seen_s > _USELESS_S
        ]
        if useless:
            self._store.forget_workers(useless)

    def _listen(self, now: float, seen_s: float, own: Standing) -> None:
        present = [other for other in self._others.values() if seen_s - other.seen_s <= self._gone_s]
        self._maker.load.elsewhere(sum((Counter(other.standing.in_flight) for other in present), Counter()))
        self._maker.cooldowns.elsewhere(
            [
                {name: Pause(left_s - (seen_s - other.seen_s), kind) for name, (left_s, kind) in pauses.items()}
                for other in present
                for pauses in [other.standing.pauses]
            ],
            now,
        )
        if self._beat == 1:
            spent = [self._newest.standing.paces] if self._newest else []
        else:
            spent = [other.standing.paces for other in present if other.spent]
        if own.paces != self._paces:
            spent.append(own.paces)
        self._maker.budgets.agree(spent)
        self._paces = self._maker.budgets.paces
