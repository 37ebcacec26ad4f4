"""What a person holds after an answer -> the decision that it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from mixllm_engine import Decision, FeedbackError, TrackedDecisions


@runtime_checkable
class Several(Protocol):
    """A selection of several tools."""

    @property
    def decision_ids(self) -> Sequence[str]:
        """The decision for each of them."""
        ...


def decision_id_of(ref: object) -> str:
    """Return the id of the decision behind an answer.

    Parameters
    ----------
    ref : object
        A decision or its id, a chat or completion response or what an agent returns (by ``raw["mixllm"]``), a
        selector's result, or the response of a router query engine (by ``metadata["selector_result"]``).

    Raises
    ------
    FeedbackError
        If it tells of no decision.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> decision = tiny_router().decide("hello")
    >>> decision_id_of(decision) == decision.decision_id
    True
    """
    if isinstance(ref, str):
        return ref
    selected = _entry(getattr(ref, "metadata", None), "selector_result")
    found = (
        getattr(ref, "decision_id", None)
        or getattr(selected, "decision_id", None)
        or _entry(_entry(getattr(ref, "raw", None), "mixllm"), "decision_id")
    )
    if not isinstance(found, str):
        raise FeedbackError(
            f"this {type(ref).__name__} tells of no decision; give a decision id, a response of MixLLM, or the answer "
            "of a query engine with a MixLLMSelector. For anything else, collect the ids with track_decisions()"
        )
    return found


def references(ref: object) -> list[str]:
    """Return the ids of all decisions behind an answer: also of what `track_decisions` collected, or of a sequence."""
    if isinstance(ref, TrackedDecisions):
        return ref.decision_ids
    if isinstance(ref, list | tuple):
        return [decision_id for one in ref for decision_id in references(one)]
    selected = _entry(getattr(ref, "metadata", None), "selector_result") or ref
    if isinstance(selected, Several):
        return list(selected.decision_ids)
    return [ref.decision_id if isinstance(ref, Decision) else decision_id_of(ref)]


def _entry(source: Any, key: str) -> Any:
    return source.get(key) if isinstance(source, Mapping) else None
