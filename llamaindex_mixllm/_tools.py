"""Tools: what is asked of the model, and what its answer asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatResponse, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.utils import parse_partial_json

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool

_WORDS = ("auto", "none", "required")


def tool_params(
    tools: Sequence[BaseTool], tool_choice: str | dict[str, Any] | None, *, required: bool, parallel: bool
) -> dict[str, Any]:
    """Return the parameters of a call with tools; none without any, for providers refuse the others then.

    Parameters
    ----------
    tools : sequence of BaseTool
        What may be called.
    tool_choice : str or dict, optional
        ``"auto"``, ``"none"``, ``"required"``, the name of a tool, or OpenAI's form; ``None`` = not said.
    required : bool
        Some tool must be called; `tool_choice` counts more.
    parallel : bool
        Whether several may be called at once, as models do unless they are told otherwise.
    """
    if not tools:
        return {}
    params: dict[str, Any] = {"tools": [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]}
    if tool_choice is None and required:
        tool_choice = "required"
    if isinstance(tool_choice, str) and tool_choice not in _WORDS:
        tool_choice = {"type": "function", "function": {"name": tool_choice}}
    if tool_choice is not None:
        params["tool_choice"] = tool_choice
    if not parallel:
        params["parallel_tool_calls"] = False
    return params


def with_one_call(response: ChatResponse) -> ChatResponse:
    """Return a response that keeps the first of its tool calls: not every model does as it was told."""
    message = response.message
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if len(calls) < 2:
        return response
    blocks = [block for block in message.blocks if block is calls[0] or not isinstance(block, ToolCallBlock)]
    first = message.additional_kwargs["tool_calls"][:1]
    kept = {"blocks": blocks, "additional_kwargs": {**message.additional_kwargs, "tool_calls": first}}
    return response.model_copy(update={"message": message.model_copy(update=kept)})


def selections(response: ChatResponse, *, error_on_no_tool_call: bool) -> list[ToolSelection]:
    """Read what an answer asks for; arguments that are incomplete, as in the middle of a stream, as far as they go.

    Raises
    ------
    ValueError
        If there is no call although there should be one.
    """
    calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    if not calls and error_on_no_tool_call:
        raise ValueError(f"expected at least one tool call, the model answered with text: {response.message.content!r}")
    return [
        ToolSelection(
            tool_id=call.tool_call_id or call.tool_name, tool_name=call.tool_name, tool_kwargs=_arguments(call)
        )
        for call in calls
    ]


def _arguments(call: ToolCallBlock) -> dict[str, Any]:
    if isinstance(call.tool_kwargs, dict):
        return call.tool_kwargs
    try:
        parsed = parse_partial_json(call.tool_kwargs)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
