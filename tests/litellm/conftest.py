"""A scripted server, a router that always tries the cheap candidate first, LiteLLM told of it, and the ways to ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

import litellm_mixllm
from mixllm_engine import Router, RouterConfig
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
from tests.litellm.ways import WAYS, Way

HELLO = [{"role": "user", "content": "Hello?"}]
STEADY = RouterConfig(exploration=ExplorationConfig(rate=0.0))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        running.script("cheap", Reply(text="Good day to you", response_tokens=4))
        running.script("dear", Reply(text="A very good day", response_tokens=4))
        yield running


@pytest.fixture
def router(server: ScriptedServer) -> Iterator[Router]:
    with tiny_router(api_base=server.base_url, config=STEADY) as made:
        yield made


@pytest.fixture
def registered(router: Router) -> Iterator[litellm_mixllm.Registered]:
    with litellm_mixllm.register(router) as made:
        yield made


class Heard:
    """What LiteLLM's callbacks are told of the calls of this test; those of the one before may come as late."""

    def __init__(self) -> None:
        self._since = datetime.now()
        self._changed = threading.Condition()
        self._told: set[tuple[Any, Any]] = set()
        self.successes: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []

    def note(self, where: list[dict[str, Any]], kwargs: dict[str, Any], response: Any) -> None:
        if kwargs["start_time"] < self._since:
            return
        told = {name: kwargs.get(name) for name in ("model", "response_cost", "exception", "custom_llm_provider")}
        # LiteLLM itself tells of a blocking stream twice where its threads are slow, whoever the provider is.
        call = (told["custom_llm_provider"], getattr(response, "id", None))
        with self._changed:
            if where is self.successes and call in self._told:
                return
            self._told.add(call)
            where.append({**told, "response": response})
            self._changed.notify_all()

    def wait_for(self, calls: int, failures: int = 0) -> None:
        """Wait for callbacks, which come after the answer; then a little, in case that there are too many."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.successes) >= calls and len(self.failures) >= failures, 5.0)
            self._changed.wait(0.1)
        assert (len(self.successes), len(self.failures)) == (calls, failures)


@pytest.fixture
def heard() -> Iterator[Heard]:
    litellm = load_litellm()
    from litellm.integrations.custom_logger import CustomLogger

    found = Heard()

    class Listener(CustomLogger):
        def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            found.note(found.successes, kwargs, response_obj)

        def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            found.note(found.failures, kwargs, response_obj)

        async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            found.note(found.successes, kwargs, response_obj)

        async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            found.note(found.failures, kwargs, response_obj)

    before = list(litellm.callbacks)
    lists = ("success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")
    kept = {name: list(getattr(litellm, name)) for name in lists}
    litellm.callbacks.append(Listener())
    yield found
    litellm.callbacks[:] = before
    for name, listed in kept.items():
        getattr(litellm, name)[:] = listed


@pytest.fixture(params=list(WAYS))
def ask(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]
