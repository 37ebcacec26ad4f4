"""46 things that people do with a LlamaIndex LLM, each on a strict server; six of them are failures that must be told.

``python -m tests.llamaindex.probes`` runs them in a process without the package `mcp`, which LiteLLM would import for
tools, and prints a JSON object: name of the probe -> ``"ok"`` or what went wrong.
"""

from tests.llamaindex.probes import agents, calls, failures, histories, ways
from tests.llamaindex.probes.registry import PROBES

__all__ = ["PROBES", "agents", "calls", "failures", "histories", "ways"]
