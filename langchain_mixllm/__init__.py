"""MixLLM in LangChain: a chat model that routes every call to the LLM that suits it best, and learns from feedback.

Examples
--------
>>> from langchain_mixllm import ChatMixLLM
>>> from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
>>> with ScriptedServer() as server:
...     for name in ("cheap", "dear"):
...         server.script(name, Reply(text=f"Hello from {name}."))
...     llm = ChatMixLLM(router=tiny_router(api_base=server.base_url))
...     message = llm.invoke("Hello?", force="cheap")
>>> message.text, message.response_metadata["mixllm"]["candidate"]
('Hello from cheap.', 'cheap')
>>> llm.feedback(message, 1.0).status
'applied'
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any


def _require(package: str) -> None:
    """Fail at the door rather than in the first call, which is when langchain-litellm is imported: it takes seconds."""
    try:
        found = find_spec(package) is not None
    except ImportError:
        found = False
    if not found:
        raise ImportError(f'langchain_mixllm needs {package}, which is not installed: pip install "mixllm[langchain]"')


_require("langchain_core")
_require("langchain_litellm")

from langchain_mixllm.chat_models import ChatMixLLM  # noqa: E402
from langchain_mixllm.feedback import MixLLMFeedbackHandler  # noqa: E402
from langchain_mixllm.langsmith import sync_langsmith  # noqa: E402
from langchain_mixllm.runnables import MixLLMRunnable  # noqa: E402
from mixllm_engine import track_decisions  # noqa: E402

if TYPE_CHECKING:
    from langchain_mixllm.decision_model import MixLLMDecisionModel as MixLLMDecisionModel
    from langchain_mixllm.middleware import MixLLMMiddleware

__all__ = [
    "ChatMixLLM",
    "MixLLMFeedbackHandler",
    "MixLLMMiddleware",
    "MixLLMRunnable",
    "sync_langsmith",
    "track_decisions",
]

_ON_USE = {"MixLLMDecisionModel": "decision_model", "MixLLMMiddleware": "middleware"}


def __getattr__(name: str) -> Any:
    """Import on first use what needs langchain, or a newer langchain-core; its ImportError says what is missing."""
    if name in _ON_USE:
        return getattr(import_module(f"{__name__}.{_ON_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
