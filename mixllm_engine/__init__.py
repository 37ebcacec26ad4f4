"""MixLLM: route every query to the LLM that suits it best, and learn from what comes back.

Examples
--------
>>> from mixllm_engine import Candidate, Router
>>> router = Router([
...     Candidate(name="small", model="openai/small", input_usd_per_mtok=0.1, output_usd_per_mtok=0.2),
...     Candidate(name="large", model="openai/large", input_usd_per_mtok=5.0, output_usd_per_mtok=15.0),
... ], seed=1)
>>> router.decide("Prove that the square root of 2 is irrational.", budget="very_high").candidate
'large'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixllm_engine.config import RolloutConfig, RouterConfig
    from mixllm_engine.encoding.encoder import Encoder, OnnxEncoder
    from mixllm_engine.errors import (
        AllCandidatesFailedError,
        CallError,
        CandidateError,
        ConfigError,
        ContextWindowError,
        EncoderError,
        FeedbackError,
        FeedbackTokenError,
        MissingKeyError,
        MixLLMError,
        NoEligibleCandidateError,
        QueryError,
        StateError,
        StoreError,
        StoreUnavailableError,
        TableError,
        UnknownCandidateError,
        UnknownDecisionError,
        UnknownPriceError,
    )
    from mixllm_engine.router import Router
    from mixllm_engine.signing import FeedbackSigner
    from mixllm_engine.tracking import TrackedDecisions, track_decisions
    from mixllm_engine.types import Candidate, Decision, FeedbackReceipt, Outcome, Query, Score

__version__ = "0.1.0"

__all__ = [
    "AllCandidatesFailedError",
    "CallError",
    "Candidate",
    "CandidateError",
    "ConfigError",
    "ContextWindowError",
    "Decision",
    "Encoder",
    "EncoderError",
    "FeedbackError",
    "FeedbackReceipt",
    "FeedbackSigner",
    "FeedbackTokenError",
    "MissingKeyError",
    "MixLLMError",
    "NoEligibleCandidateError",
    "OnnxEncoder",
    "Outcome",
    "Query",
    "QueryError",
    "RolloutConfig",
    "Router",
    "RouterConfig",
    "Score",
    "StateError",
    "StoreError",
    "StoreUnavailableError",
    "TableError",
    "TrackedDecisions",
    "UnknownCandidateError",
    "UnknownDecisionError",
    "UnknownPriceError",
    "__version__",
    "track_decisions",
]

_MODULES = ("config", "encoding.encoder", "errors", "router", "signing", "tracking", "types")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import mixllm_engine` itself costs next to nothing."""
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"{__name__}.{module}")
            if name in vars(found):
                value = globals()[name] = vars(found)[name]
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
