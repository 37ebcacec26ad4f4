"""Fakes for tests of code that uses MixLLM: a clock, a small encoder, a ready router, a scripted LLM server.

Nothing here needs a key, a model or a network beyond the loopback address.
"""

from mixllm_engine.testing.behaviours import Cut, Failure, Hang, Malformed, RecordedRequest, Reply, ToolCall
from mixllm_engine.testing.fakes import FakeClock, HashingEncoder, tiny_pool, tiny_router
from mixllm_engine.testing.server import ScriptedServer

__all__ = [
    "Cut",
    "Failure",
    "FakeClock",
    "Hang",
    "HashingEncoder",
    "Malformed",
    "RecordedRequest",
    "Reply",
    "ScriptedServer",
    "ToolCall",
    "tiny_pool",
    "tiny_router",
]
