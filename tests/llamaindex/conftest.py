from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher

from llamaindex_mixllm import MixLLM
from mixllm_engine import Router, RouterConfig
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import Reply, ScriptedServer, tiny_router


class RecordedEvents(BaseEventHandler):
    """Keeps every event, with the exceptions and hence the frames that some of them hold."""

    events: list[Any] = []

    @classmethod
    def class_name(cls) -> str:
        return "RecordedEvents"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.events.append(event)

    def names(self, part: str) -> list[str]:
        """Return the class names of the events that have `part` in them."""
        return [type(event).__name__ for event in self.events if part in type(event).__name__]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        running.script("cheap", Reply(text="Good day to you", response_tokens=4))
        running.script("dear", Reply(text="A very good day", response_tokens=4))
        yield running


@pytest.fixture
def router(server: ScriptedServer) -> Iterator[Router]:
    """Always tries the cheap candidate first, then the dear one."""
    steady = RouterConfig(exploration=ExplorationConfig(rate=0.0))
    with tiny_router(api_base=server.base_url, config=steady) as made:
        yield made


@pytest.fixture
def llm(router: Router) -> MixLLM:
    return MixLLM(router=router)


@pytest.fixture
def recorded() -> Iterator[RecordedEvents]:
    root, handler = get_dispatcher(), RecordedEvents(events=[])
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)
