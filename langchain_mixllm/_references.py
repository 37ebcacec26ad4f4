"""What a person holds after an answer -> what leads the router to its decision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from uuid import UUID

from langchain_core.messages import BaseMessage

from langchain_mixllm._answers import METADATA_KEY
from mixllm_engine import Decision, UnknownDecisionError
from mixllm_engine.crediting import Reference

Ref = BaseMessage | Decision | str | UUID
"""A message, its id, a decision, its id, or the id of a run."""

# LangChain names messages after their runs: with a number behind it where the answer was not streamed.
_NAMED_AFTER_RUN = re.compile(r"lc_run--([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:-\d+)?")


def reference(ref: Ref) -> Reference:
    """Return a decision, its id, or the id of a run to which it was linked.

    Raises
    ------
    UnknownDecisionError
        If a message leads to none of them.

    Examples
    --------
    >>> reference("lc_run--0198c5b2-4b4f-7000-8000-0123456789ab-0")
    '0198c5b2-4b4f-7000-8000-0123456789ab'
    """
    if isinstance(ref, Decision | UUID):
        return ref
    if isinstance(ref, str):
        named = _NAMED_AFTER_RUN.fullmatch(ref)
        return named[1] if named else ref
    if not isinstance(ref, BaseMessage):
        raise TypeError(
            f"feedback is for a message, its id, a decision, its id, or the id of a run, not for {type(ref).__name__}"
        )
    noted = ref.response_metadata.get(METADATA_KEY)
    if isinstance(noted, Mapping) and isinstance(noted.get("decision_id"), str):
        return str(noted["decision_id"])
    if ref.id is None:
        raise UnknownDecisionError(f"this {type(ref).__name__} names no decision: it did not come from ChatMixLLM")
    return reference(ref.id)
