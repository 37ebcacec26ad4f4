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

from importlib.util import find_spec


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
from mixllm_engine import track_decisions  # noqa: E402

__all__ = ["ChatMixLLM", "track_decisions"]
