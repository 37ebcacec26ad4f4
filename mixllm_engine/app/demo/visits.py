"""The visitors of one demonstration: a bounded number of visits, the one that was quiet for longest leaves first."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from typing import Final

from mixllm_engine.app.demo.session import Visit
from mixllm_engine.app.demo.stage import Stage

_MOST: Final = 64


class Visits:
    """Visits by key; a key that is not known, or not any more, begins a new visit.

    Parameters
    ----------
    stage : Stage
        What they share.
    most : int
        How many are held.
    """

    def __init__(self, stage: Stage, most: int = _MOST) -> None:
        self._stage = stage
        self._most = most
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Visit] = OrderedDict()
        self._begun = 0

    def __len__(self) -> int:
        """Count the visits that are held."""
        return len(self._open)

    @property
    def stage(self) -> Stage:
        """What they share."""
        return self._stage

    def new_key(self) -> str:
        """Return a key that nobody has."""
        return secrets.token_hex(16)

    def of(self, key: str) -> Visit:
        """Return the visit of a key; one without a key is nobody else's."""
        key = key or self.new_key()
        with self._lock:
            if key not in self._open:
                self._open[key] = Visit(self._stage, seed=self._begun)
                self._begun += 1
            self._open.move_to_end(key)
            gone = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - self._most)]
            visit = self._open[key]
        for old in gone:
            old.close()
        return visit

    def close(self) -> None:
        """End all visits."""
        with self._lock:
            gone = list(self._open.values())
            self._open.clear()
        for visit in gone:
            visit.close()
