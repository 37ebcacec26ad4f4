"""MixLLM for LlamaIndex: an LLM that chooses among LLMs, and a selector that chooses among query engines.

Examples
--------
>>> from mixllm_engine.testing import tiny_router
>>> llm = MixLLM(router=tiny_router())
>>> llm.metadata.context_window, llm.metadata.is_function_calling_model
(4096, True)
"""

try:
    from llamaindex_mixllm._events import MixLLMRoutingEvent
    from llamaindex_mixllm.evaluators import EvaluatorFeedback
    from llamaindex_mixllm.llm import MixLLM
    from llamaindex_mixllm.selector import MixLLMSelector, MixLLMSelectorResult
    from llamaindex_mixllm.signals import MixLLMEventHandler
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "llama_index":
        raise
    raise ImportError(
        'llamaindex_mixllm needs llama-index-core, which is not installed: pip install "mixllm[llamaindex]"'
    ) from error

from mixllm_engine import track_decisions

__all__ = [
    "EvaluatorFeedback",
    "MixLLM",
    "MixLLMEventHandler",
    "MixLLMRoutingEvent",
    "MixLLMSelector",
    "MixLLMSelectorResult",
    "track_decisions",
]
