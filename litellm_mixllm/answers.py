"""What a caller holds after an answer -> the decision that it came from.

LiteLLM, its proxy and the frameworks over them keep different parts of an answer. The id of the response survives them
all, streams and the proxy's JSON included, so it carries the decision: ``mixllm-<decision id>``, which
`Router.feedback` takes as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixllm_engine import Decision, FeedbackError

PREFIX = "mixllm-"
NOTED = "mixllm"
"""Where an answer's ``_hidden_params`` say ``{"decision_id": ..., "candidate": ...}``."""


def decision_id_of(answer: object) -> str:
    """Return the id of the decision behind an answer, the reference for `Router.feedback`.

    Parameters
    ----------
    answer : object
        A response or chunk of ``mixllm/...``, as an object or as the proxy's JSON, or the exception that it raised; a
        response or stream (its chunks don't tell) of a `litellm.Router` with `MixLLMStrategy`; or a decision.

    Raises
    ------
    FeedbackError
        If it tells of no decision.

    Examples
    --------
    >>> decision_id_of({"id": "mixllm-0f", "object": "chat.completion"})
    '0f'
    """
    if isinstance(answer, Decision):
        return answer.decision_id
    noted = _noted(answer).get("decision_id") or getattr(answer, "decision_id", None)
    noted = noted or getattr(getattr(answer, "original_exception", None), "decision_id", None)
    found = noted or _of_id(answer) or _unprefixed(_call_id(answer))
    if not isinstance(found, str):
        raise FeedbackError(
            f"this {type(answer).__name__} tells of no decision; give what a model mixllm/... or a litellm.Router with "
            "MixLLMStrategy answered. Where a framework keeps nothing of that, collect the ids with track_decisions()"
        )
    return found


def routed_to(answer: object) -> str | None:
    """Return the name of the candidate that answered; ``None`` if this part of an answer does not say."""
    name = _noted(answer).get("candidate")
    return name if isinstance(name, str) else None


def _of_id(answer: object) -> str | None:
    given = answer.get("id") if isinstance(answer, Mapping) else getattr(answer, "id", None)
    return _unprefixed(answer if isinstance(answer, str) else given)


def _call_id(answer: object) -> object:
    """Return the id of LiteLLM's call; a stream's chunks do not have it, but the stream does."""
    call = getattr(answer, "logging_obj", None)
    return _hidden(answer).get("litellm_call_id") or getattr(call, "litellm_call_id", None)


def _unprefixed(name: object) -> str | None:
    return name.removeprefix(PREFIX) if isinstance(name, str) and name.startswith(PREFIX) else None


def _noted(answer: object) -> Mapping[str, Any]:
    noted = _hidden(answer).get(NOTED)
    return noted if isinstance(noted, Mapping) else {}


def _hidden(answer: object) -> Mapping[str, Any]:
    hidden = getattr(answer, "_hidden_params", None)
    return hidden if isinstance(hidden, Mapping) else {}
