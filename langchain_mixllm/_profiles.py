"""What can be relied on whoever answers, in the terms of LangChain's model profiles."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.language_models import ModelProfile

from mixllm_engine import Candidate


def common_profile(pool: Sequence[Candidate]) -> ModelProfile:
    """Return the abilities and limits that all candidates have.

    A call that asks for more is still answered, by those who can. But what an agent takes from a profile as a matter of
    course, such as the provider's own structured output or a history of any length, would then leave few to choose
    from, and nobody once these are paused.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_pool
    >>> profile = common_profile(tiny_pool())
    >>> profile["max_input_tokens"], profile["structured_output"], "max_output_tokens" in profile
    (4096, True, False)
    """
    profile = ModelProfile(
        text_inputs=True,
        text_outputs=True,
        tool_calling=all(candidate.supports("tools") for candidate in pool),
        structured_output=all(candidate.supports("json_schema") for candidate in pool),
        image_inputs=all(candidate.supports("images") for candidate in pool),
        pdf_inputs=all(candidate.supports("pdf") for candidate in pool),
        audio_inputs=all(candidate.supports("audio") for candidate in pool),
    )
    # A limit that nobody states is none.
    if windows := [candidate.context_window for candidate in pool if candidate.context_window is not None]:
        profile["max_input_tokens"] = min(windows)
    if longest := [candidate.max_output_tokens for candidate in pool if candidate.max_output_tokens is not None]:
        profile["max_output_tokens"] = min(longest)
    return profile
