"""From a decision to an answer: attempts through LiteLLM, fallback before the first token, outcomes.

`RoutedClient` is the plain Python way; the framework integrations use the same drivers, `mixllm_engine.calling.routed`.
"""

from mixllm_engine.calling.client import Routed, RoutedClient, Terms

__all__ = ["Routed", "RoutedClient", "Terms"]
