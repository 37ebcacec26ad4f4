"""The requests that a scripted server has seen, kept up to date while they are answered."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mixllm_engine.testing.behaviours import RecordedRequest


class Journal:
    """Recorded requests by serial number; safe to use from many threads."""

    def __init__(self) -> None:
        self._requests: dict[int, RecordedRequest] = {}
        self._serials = itertools.count(1)
        self._changed = threading.Condition()

    def add(self, request: RecordedRequest) -> int:
        """Record a request and return its serial number."""
        with self._changed:
            serial = next(self._serials)
            self._requests[serial] = request
            self._changed.notify_all()
        return serial

    def mark(self, serial: int, **changes: Any) -> None:
        """Replace fields of a recorded request."""
        with self._changed:
            if serial in self._requests:  # else it was cleared away meanwhile
                self._requests[serial] = replace(self._requests[serial], **changes)
                self._changed.notify_all()

    def snapshot(self) -> tuple[RecordedRequest, ...]:
        """Return all requests as they stand now, oldest first."""
        with self._changed:
            return tuple(self._requests.values())

    def clear(self) -> None:
        """Forget all requests."""
        with self._changed:
            self._requests.clear()

    def wait_for(self, condition: Callable[[RecordedRequest], bool], timeout_s: float) -> RecordedRequest:
        """Wait until a request satisfies the condition, and return the oldest that does."""

        def first() -> RecordedRequest | None:
            return next(filter(condition, self._requests.values()), None)

        with self._changed:
            found = self._changed.wait_for(first, timeout_s)
            if found is None:
                raise TimeoutError(f"no such request within {timeout_s} s, only {list(self._requests.values())!r}")
            return found
