"""MixLLM for everything that is built on LiteLLM: a model ``mixllm/auto``, and a strategy for `litellm.Router`.

Examples
--------
>>> import litellm_mixllm
>>> from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
>>> with ScriptedServer() as server:
...     server.script("cheap", Reply(text="Paris."))
...     router = tiny_router(api_base=server.base_url)
...     with litellm_mixllm.register(router) as registered:
...         import litellm
...         hello = [{"role": "user", "content": "What is the capital of France?"}]
...         answer = litellm.completion(model=registered.model, messages=hello, force="cheap")
>>> answer.choices[0].message.content, answer.model, litellm_mixllm.routed_to(answer)
('Paris.', 'openai/cheap', 'cheap')
>>> router.feedback(litellm_mixllm.decision_id_of(answer), 1.0).status
'applied'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from litellm_mixllm.answers import decision_id_of, routed_to
from litellm_mixllm.registering import Registered, register
from mixllm_engine import track_decisions

if TYPE_CHECKING:
    from litellm_mixllm.provider import MixLLMProvider
    from litellm_mixllm.strategy import MixLLMStrategy

__all__ = [
    "MixLLMProvider",
    "MixLLMStrategy",
    "Registered",
    "decision_id_of",
    "register",
    "routed_to",
    "track_decisions",
]

# These are made of LiteLLM's classes, so they come with its import, which takes seconds.
_LATER = {"MixLLMProvider": "provider", "MixLLMStrategy": "strategy"}


def __getattr__(name: str) -> Any:
    """Import what needs LiteLLM when it is first used."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
