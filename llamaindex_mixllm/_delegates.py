"""Candidates that are LlamaIndex LLMs: what is known of them, how they are asked, and what their answers are made into.

They get LlamaIndex's own messages and tools rather than OpenAI's form, for each integration has conversions of its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ThinkingBlock, ToolCallBlock
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM
from llama_index.core.tools.types import BaseTool, ToolMetadata, ToolOutput
from pydantic import BaseModel

from mixllm_engine import Candidate, ConfigError, UnknownPriceError
from mixllm_engine.calling.usage import Usage
from mixllm_engine.candidates import resolve

_UNNAMED = "unknown"  # what LlamaIndex calls a model whose integration doesn't name it


def described(llm: LLM) -> Candidate:
    """Return a LlamaIndex LLM as a candidate, with the prices that LiteLLM's map has for its model.

    Raises
    ------
    UnknownPriceError
        If it has none; the error says where to give them.

    Examples
    --------
    >>> from llama_index.core.llms import MockLLM
    >>> described(MockLLM())
    Traceback (most recent call last):
    mixllm_engine.errors.UnknownPriceError: no price is known for the LlamaIndex LLM 'MockLLM': give ...
    """
    metadata = llm.metadata
    name = metadata.model_name if metadata.model_name not in ("", _UNNAMED) else llm.class_name()
    known = Candidate(
        name=name,
        model=name,
        context_window=metadata.context_window,
        supports_tools=isinstance(llm, FunctionCallingLLM) and metadata.is_function_calling_model,
    )
    try:
        return resolve(known)
    except UnknownPriceError as error:
        given = f"Candidate(name={name!r}, model={name!r}, input_usd_per_mtok=..., output_usd_per_mtok=...)"
        raise UnknownPriceError(
            f"no price is known for the LlamaIndex LLM {name!r}: give it as "
            f"MixLLM(candidates=[{given}, ...], models={{{name!r}: llm}})"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Delegate:
    """One call to a LlamaIndex LLM.

    It gets a callback manager of its own, without handlers, since MixLLM's callbacks report the call already. Events on
    the instrumentation dispatcher, which knows no managers, come twice: from MixLLM and from the LLM inside.

    Attributes
    ----------
    llm : LLM
        Who is asked.
    messages : sequence of ChatMessage
        The conversation.
    params : mapping
        Parameters in OpenAI's form.
    """

    llm: LLM
    messages: Sequence[ChatMessage]
    params: Mapping[str, Any]

    def complete(self) -> ChatResponse:
        """Return a whole answer."""
        tools, arguments = tools_and_arguments(self.params)
        if tools:
            return self._ready(self._caller().chat_with_tools(tools, chat_history=self._history(), **arguments))
        return self._ready(self._quiet().chat(self._history(), **arguments))

    async def acomplete(self) -> ChatResponse:
        """Return a whole answer without blocking."""
        tools, arguments = tools_and_arguments(self.params)
        if tools:
            answer = await self._caller().achat_with_tools(tools, chat_history=self._history(), **arguments)
        else:
            answer = await self._quiet().achat(self._history(), **arguments)
        return self._ready(answer)

    def stream(self) -> Generator[ChatResponse, None, None]:
        """Yield the answer so far, again and again."""
        tools, arguments = tools_and_arguments({**self._usage_wanted(), **self.params})
        if tools:
            chunks = self._caller().stream_chat_with_tools(tools, chat_history=self._history(), **arguments)
        else:
            chunks = self._quiet().stream_chat(self._history(), **arguments)
        try:
            for chunk in chunks:
                yield self._ready(chunk)
        finally:
            if isinstance(chunks, Generator):
                chunks.close()

    async def astream(self) -> AsyncGenerator[ChatResponse, None]:
        """Do as `stream` does, without blocking."""
        tools, arguments = tools_and_arguments({**self._usage_wanted(), **self.params})
        if tools:
            chunks = await self._caller().astream_chat_with_tools(tools, chat_history=self._history(), **arguments)
        else:
            chunks = await self._quiet().astream_chat(self._history(), **arguments)
        try:
            async for chunk in chunks:
                yield self._ready(chunk)
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    def _usage_wanted(self) -> dict[str, Any]:
        """Return the argument that makes OpenAI's LLM and its heirs tell the usage of a stream."""
        heir = any(base.__module__.startswith("llama_index.llms.openai.") for base in type(self.llm).__mro__)
        return {"stream_options": {"include_usage": True}} if heir else {}

    def _quiet(self) -> LLM:
        if not self.llm.callback_manager.handlers:
            return self.llm
        return self.llm.model_copy(update={"callback_manager": CallbackManager([])})

    def _caller(self) -> FunctionCallingLLM:
        return cast(FunctionCallingLLM, self._quiet())  # others don't support tools, and are not chosen for them

    def _history(self) -> list[ChatMessage]:
        """Leave out earlier thoughts; those of a tool loop under way go back to who had them, as some models demand."""
        last = max((i for i, message in enumerate(self.messages) if message.role == MessageRole.USER), default=0)
        return [*map(_without_thoughts, self.messages[:last]), *self.messages[last:]]

    def _ready(self, response: ChatResponse) -> ChatResponse:
        """Return an answer of our own whose tool calls stand in both places where LlamaIndex looks for them."""
        message = response.message
        blocks = list(message.blocks)
        additional = dict(message.additional_kwargs)
        calls = [block for block in blocks if isinstance(block, ToolCallBlock)]
        if not calls and additional.get("tool_calls") and isinstance(self.llm, FunctionCallingLLM):
            selected = self.llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
            calls = [
                ToolCallBlock(tool_call_id=s.tool_id, tool_name=s.tool_name, tool_kwargs=s.tool_kwargs)
                for s in selected
            ]
            blocks.extend(calls)
        if calls:
            additional["tool_calls"] = [_openai(call) for call in calls]
        whole = message.model_copy(update={"blocks": blocks, "additional_kwargs": additional})
        return response.model_copy(update={"message": whole})


def tools_and_arguments(params: Mapping[str, Any]) -> tuple[list[BaseTool], dict[str, Any]]:
    """Return the tools in a call's parameters, and the arguments for ``chat_with_tools`` or, without tools, ``chat``.

    Integrations name a certain tool in different ways; all of them understand one tool that must be called.

    Raises
    ------
    ConfigError
        If a tool is no function, or the one that is chosen is not among them.
    """
    given = dict(params)
    functions = [_function(tool) for tool in given.pop("tools", None) or ()]
    choice = given.pop("tool_choice", None)
    parallel = given.pop("parallel_tool_calls", True)
    if not functions or choice == "none":
        return [], given
    if isinstance(choice, Mapping):
        chosen = _function(choice)["name"]
        functions = [function for function in functions if function["name"] == chosen]
        if not functions:
            raise ConfigError(f"tool_choice names {chosen!r}, which is not among the tools")
    required = choice == "required" or isinstance(choice, Mapping)
    arguments = {**given, "allow_parallel_tool_calls": parallel, "tool_required": required}
    return [_Described(function) for function in functions], arguments


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    if not isinstance(function, Mapping) or "name" not in function:
        raise ConfigError(f"a LlamaIndex LLM takes functions as tools, in OpenAI's form, not {dict(tool)!r}")
    return function


class _Described(BaseTool):
    """A tool of which only the description in OpenAI's form is known; it is for models to read, not to be run."""

    def __init__(self, function: Mapping[str, Any]) -> None:
        self._metadata = _Metadata(function)

    @property
    def metadata(self) -> ToolMetadata:
        return self._metadata

    def __call__(self, input: Any) -> ToolOutput:
        raise NotImplementedError(f"{self._metadata.name!r} is run by who called MixLLM")


class _Metadata(ToolMetadata):
    def __init__(self, function: Mapping[str, Any]) -> None:
        super().__init__(description=function.get("description") or "", name=function["name"])
        self._parameters = function.get("parameters") or {"type": "object", "properties": {}}

    def get_parameters_dict(self) -> dict[str, Any]:
        return dict(self._parameters)


def delegated_usage(response: ChatResponse) -> Usage | None:
    """Read the usage in an answer of a LlamaIndex LLM, ``None`` if it tells of none."""
    usage = _dumped(response.raw).get("usage")
    counts = usage if isinstance(usage, Mapping) else response.additional_kwargs
    prompt, answer = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if prompt is None:  # Anthropic's names
        prompt, answer = counts.get("input_tokens"), counts.get("output_tokens")
    if prompt is None and answer is None:
        return None
    return Usage.from_openai({**counts, "prompt_tokens": prompt, "completion_tokens": answer})


def delegated_raw(response: ChatResponse) -> dict[str, Any]:
    """Return the provider's part of an answer as a plain dict, with its usage in OpenAI's form."""
    used = delegated_usage(response)
    if used is None:
        return {**_dumped(response.raw), "usage": None}
    counts = {"prompt_tokens": used.prompt_tokens or 0, "completion_tokens": used.response_tokens or 0}
    return {**_dumped(response.raw), "usage": {**counts, "total_tokens": sum(counts.values())}}


def _dumped(raw: Any) -> dict[str, Any]:
    if isinstance(raw, BaseModel):
        return raw.model_dump()
    return dict(raw) if isinstance(raw, Mapping) else {}


def _without_thoughts(message: ChatMessage) -> ChatMessage:
    blocks = [block for block in message.blocks if not isinstance(block, ThinkingBlock)]
    return message if len(blocks) == len(message.blocks) else message.model_copy(update={"blocks": blocks})


def _openai(call: ToolCallBlock) -> dict[str, Any]:
    arguments = call.tool_kwargs if isinstance(call.tool_kwargs, str) else json.dumps(call.tool_kwargs)
    function = {"name": call.tool_name, "arguments": arguments}
    return {"id": call.tool_call_id or call.tool_name, "type": "function", "function": function}
