"""What LiteLLM's callbacks tell of the calls that a strategy decided -> outcomes for the router.

Callbacks come late, on other threads, and for every call of the process: only those that are expected count, and once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

import litellm
from litellm.integrations.custom_logger import CustomLogger

from mixllm_engine import Decision, Outcome, Router
from mixllm_engine.calling.client import response_usage
from mixllm_engine.calling.failures import classify

_NOTE = "mixllm_decision"
# LiteLLM tells nothing of calls that are cancelled: after this time, nobody waits for them any more.
_LONGEST_S = 600.0


class Outcomes(CustomLogger):
    """The calls that are under way, and how they end.

    Parameters
    ----------
    router : Router
        Who learns of it.
    """

    def __init__(self, router: Router) -> None:
        super().__init__()
        # LiteLLM takes loggers of one class for one logger, unless they differ in a public attribute.
        self.identity = uuid4().hex
        self._router = router
        self._lock = threading.Lock()
        self._expected: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def listen(self) -> None:
        """Be told of LiteLLM's calls."""
        litellm.logging_callback_manager.add_litellm_callback(self)

    def stop(self) -> None:
        """Be told of new calls no more, and of no calls at all once none is under way."""
        litellm.callbacks[:] = [one for one in litellm.callbacks if one is not self]
        if not self._expected:
            litellm.logging_callback_manager.remove_callback_from_all_lists(self)

    def expect(self, decision: Decision) -> dict[str, str]:
        """Note that a call begins; returns what its metadata must say for its end to be known."""
        now_s = time.monotonic()
        with self._lock:
            self._expected[decision.decision_id] = (decision.candidate, now_s)
            lost = [one for one, (_, since_s) in self._expected.items() if now_s - since_s > _LONGEST_S]
            gone = [(one, self._expected.pop(one)[0]) for one in lost]
        for decision_id, candidate in gone:
            self._router.abandoned(decision_id, candidate)
        self._router.dispatched(decision.decision_id, decision.candidate)
        return {_NOTE: decision.decision_id}

    def log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Learn from an answer."""
        self._ended(kwargs, response_obj, start_time, end_time)

    def log_failure_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Learn from a failure."""
        self._ended(kwargs, None, start_time, end_time)

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Learn from an answer."""
        await asyncio.to_thread(self._ended, kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Learn from a failure."""
        await asyncio.to_thread(self._ended, kwargs, None, start_time, end_time)

    def _ended(self, kwargs: Mapping[str, Any], response: Any, start: datetime, end: datetime) -> None:
        metadata = (kwargs.get("litellm_params") or {}).get("metadata") or {}
        decision_id = metadata.get(_NOTE)
        with self._lock:
            expected = self._expected.pop(str(decision_id), None)
        if expected is None:
            return
        failure = kwargs.get("exception") if response is None else None
        first = kwargs.get("completion_start_time") if kwargs.get("stream") else None
        used = response_usage(response)
        outcome = Outcome(
            candidate=expected[0],
            latency_s=max((end - start).total_seconds(), 0.0),
            first_token_s=max((first - start).total_seconds(), 0.0) if isinstance(first, datetime) else None,
            prompt_tokens=used.prompt_tokens,
            response_tokens=used.response_tokens,
            cached_tokens=used.cached_tokens,
            error=None if response is not None else _kind(failure),
        )
        self._router.observe(str(decision_id), outcome)


def _kind(failure: object) -> Any:
    return (classify(failure) if isinstance(failure, BaseException) else None) or "other"
