"""The probes by their names, and what several of them look for."""

from collections.abc import Awaitable, Callable
from typing import Any

from llamaindex_mixllm import MixLLM
from mixllm_engine.testing import ScriptedServer

Probe = Callable[[MixLLM, ScriptedServer], Awaitable[None] | None]

PROBES: dict[str, Probe] = {}
GREETING = "Good day to you"


def probe(function: Probe) -> Probe:
    PROBES[function.__name__] = function
    return function


def sent(server: ScriptedServer) -> dict[str, Any]:
    return dict(server.requests[-1].body)


def says(response: Any, text: str = GREETING) -> None:
    found = response.text if hasattr(response, "text") else response.message.content
    assert found == text, found
