"""The event by which LlamaIndex's instrumentation is told who was chosen."""

from __future__ import annotations

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent

from mixllm_engine import Decision

_dispatcher = get_dispatcher(__name__)


class MixLLMRoutingEvent(BaseEvent):
    """A call was routed; there is one for each call, and nothing of the prompt is in it.

    Attributes
    ----------
    decision_id : str
        The reference for feedback.
    candidate : str
        Who was chosen; after a fallback somebody else answers, as the response's ``raw["mixllm"]`` tells.
    propensity : float
        Probability with which this candidate was chosen here.
    explored : bool
        Whether it was drawn to learn about it rather than for its score.
    reason : str
        In a few words, why: ``"score"``, ``"exploration"``, ``"forced"``, ``"tool loop"``.
    """

    decision_id: str
    candidate: str
    propensity: float
    explored: bool
    reason: str

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the event."""
        return "MixLLMRoutingEvent"


def report(decision: Decision) -> None:
    """Tell every event handler, with the span and the tags of the call."""
    _dispatcher.event(
        MixLLMRoutingEvent(
            decision_id=decision.decision_id,
            candidate=decision.candidate,
            propensity=decision.propensity,
            explored=decision.explored,
            reason=decision.reason,
        )
    )
