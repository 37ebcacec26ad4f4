"""Any other LangChain chat model as a candidate: its own hooks are called, with tools and schemas in its own form.

What is special about `ChatLiteLLM` stays out: such a model gets the messages as they are given, keeps the key, address
and time-out that it was made with, and is asked itself, with `bind_tools` and `with_structured_output`, what it wants
to be sent for tools and schemas.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import aclosing, closing, nullcontext
from functools import cache, cached_property
from typing import Any, NamedTuple

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableSequence

from langchain_mixllm._calls import Call
from mixllm_engine import Candidate, ConfigError, UnknownPriceError
from mixllm_engine.candidates import resolve

# LangChain's name of a provider -> LiteLLM's, where they differ.
_PROVIDERS = {
    "amazon_bedrock": "bedrock",
    "fireworks": "fireworks_ai",
    "google_genai": "gemini",
    "google_vertexai": "vertex_ai",
    "mistralai": "mistral",
    "together": "together_ai",
}
# What is said about tools and the form of answers; every provider has words of its own for it.
_TO_BIND = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
# LangChain's tracers read it; no model does.
_TRACED = ("ls_structured_output_format", "structured_output_format")


def candidate_of(model: BaseChatModel) -> Candidate:
    """Describe a chat model as a candidate: LiteLLM's name of it, its profile's abilities, prices from LiteLLM's map.

    Raises
    ------
    UnknownPriceError
        If LiteLLM's map does not know the model.
    """
    said = model._get_ls_params()
    provider, name = str(said.get("ls_provider", "")), str(said.get("ls_model_name") or model._llm_type)
    if provider != "litellm":  # which has LiteLLM's names already
        name = f"{_PROVIDERS.get(provider, provider)}/{name}"
    profile: Mapping[str, Any] = model.profile or {}
    described = Candidate(
        name=name,
        model=name,
        context_window=profile.get("max_input_tokens"),
        max_output_tokens=profile.get("max_output_tokens"),
        supports_tools=profile.get("tool_calling"),
        supports_json_schema=profile.get("structured_output"),
        supports_images=profile.get("image_inputs"),
        supports_pdf=profile.get("pdf_inputs"),
        supports_audio=profile.get("audio_inputs"),
    )
    try:
        return resolve(described)
    except UnknownPriceError as error:
        raise UnknownPriceError(
            f"{error}; for a {type(model).__name__} describe it yourself: candidates=[Candidate(name='mine', "
            f"model={name!r}, input_usd_per_mtok=..., output_usd_per_mtok=...)], models={{'mine': model}}"
        ) from error


class ForeignModel:
    """Calls the four hooks of a chat model for one candidate.

    Parameters
    ----------
    model : BaseChatModel
        Who answers.
    """

    def __init__(self, model: BaseChatModel) -> None:
        self.model = model

    @cached_property
    def fingerprint(self) -> str:
        """What tells it from other models in the keys of LangChain's cache; nothing can be read from it."""
        return hashlib.sha256(self.model._get_llm_string().encode()).hexdigest()[:16]

    def generate(self, call: Call, candidate: Candidate) -> ChatResult:
        """Return an answer."""
        bound = _bound(self.model, call, candidate)
        if self.model.rate_limiter:
            self.model.rate_limiter.acquire(blocking=True)
        return _copied(bound.model._generate(bound.messages, stop=bound.stop, **bound.params))

    async def agenerate(self, call: Call, candidate: Candidate) -> ChatResult:
        """Return an answer without blocking."""
        bound = _bound(self.model, call, candidate)
        if self.model.rate_limiter:
            await self.model.rate_limiter.aacquire(blocking=True)
        return _copied(await bound.model._agenerate(bound.messages, stop=bound.stop, **bound.params))

    def stream(self, call: Call, candidate: Candidate) -> Iterator[ChatGenerationChunk]:
        """Yield an answer in chunks; in one chunk if the model does not stream."""
        bound = _bound(self.model, call, candidate)
        if not bound.streams(is_async=False):
            yield _one_chunk(self.generate(call, candidate))
            return
        if self.model.rate_limiter:
            self.model.rate_limiter.acquire(blocking=True)
        usage = RunningUsage()
        chunks = bound.model._stream(bound.messages, stop=bound.stop, **bound.params)
        with closing(chunks) if isinstance(chunks, Generator) else nullcontext():
            for chunk in chunks:
                yield usage.added(chunk)

    async def astream(self, call: Call, candidate: Candidate) -> AsyncIterator[ChatGenerationChunk]:
        """Yield an answer in chunks without blocking."""
        bound = _bound(self.model, call, candidate)
        if not bound.streams(is_async=True):
            yield _one_chunk(await self.agenerate(call, candidate))
            return
        if self.model.rate_limiter:
            await self.model.rate_limiter.aacquire(blocking=True)
        usage = RunningUsage()
        chunks = bound.model._astream(bound.messages, stop=bound.stop, **bound.params)
        async with aclosing(chunks) if isinstance(chunks, AsyncGenerator) else nullcontext():
            async for chunk in chunks:
                yield usage.added(chunk)


class RunningUsage:
    """Turns usage in parts, which is LangChain's rule for chunks, into usage so far, of which the last counts."""

    def __init__(self) -> None:
        self._so_far: UsageMetadata | None = None

    def added(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """Return the chunk with all usage up to it, if it brings some."""
        message = chunk.message
        if isinstance(message, AIMessageChunk) and message.usage_metadata:
            message.usage_metadata = self._so_far = add_usage(self._so_far, message.usage_metadata)
        return chunk


# -- what is sent ----------------------------------------------------------------------------------------------------


class _Bound(NamedTuple):
    """A model, and what its hooks are given."""

    model: BaseChatModel
    messages: list[BaseMessage]
    stop: list[str] | None
    params: dict[str, Any]

    def streams(self, *, is_async: bool) -> bool:
        """Tell whether the model streams, and may."""
        return self.model._should_stream(async_api=is_async, **{**self.params, "stream": True})


def _bound(model: BaseChatModel, call: Call, candidate: Candidate) -> _Bound:
    given = call.arguments(candidate)
    given.pop("timeout", None)  # LiteLLM's word; the model has its own
    stop = given.pop("stop", None)
    wanted = {name: given.pop(name) for name in _TO_BIND if name in given}
    model, tool_params = _with_tools(model, wanted)
    return _Bound(model, call.messages, stop, {**tool_params, **_with_form(model, wanted), **given})


def _with_tools(model: BaseChatModel, wanted: Mapping[str, Any]) -> tuple[BaseChatModel, dict[str, Any]]:
    """Return what the model wants to be sent for tools. A choice of ``"none"`` leaves them out: not all know it."""
    choice = wanted.get("tool_choice")
    if not wanted.get("tools") or choice == "none":
        return model, {}
    options: dict[str, Any] = {} if choice is None else {"tool_choice": _langchain_choice(choice)}
    if wanted.get("parallel_tool_calls") is not None:
        options["parallel_tool_calls"] = wanted["parallel_tool_calls"]
    try:
        binding = model.bind_tools(wanted["tools"], **options)
    except NotImplementedError as error:
        name = type(model).__name__
        raise ConfigError(f"{name} has no bind_tools: give its Candidate supports_tools=False") from error
    return unwrapped(binding, model)


def _langchain_choice(choice: Any) -> Any:
    """Turn OpenAI's words for a choice into those that every `bind_tools` knows: ``"any"``, or a tool's name."""
    if isinstance(choice, Mapping):
        return choice.get("function", {}).get("name", choice)
    return "any" if choice == "required" else choice


def _with_form(model: BaseChatModel, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the model wants to be sent for the form of its answer; where it has no words for it, OpenAI's."""
    form = wanted.get("response_format")
    if form is None or (isinstance(form, Mapping) and form.get("type") == "text"):
        return {}
    method, schema = _method_and_schema(form)
    if method not in _methods(type(model)):
        # The prompt asks for JSON in this case, and who can do no more relies on it.
        return {} if method == "json_mode" and _methods(type(model)) else {"response_format": form}
    structured: Runnable[Any, Any] = model.with_structured_output(schema, method=method)
    first = structured.first if isinstance(structured, RunnableSequence) else structured
    _, params = unwrapped(first, model)
    if not params or params.keys() & {"tools", "response_format"}:
        return {"response_format": form}  # exactly as it was asked for, strictness included
    return params


@cache
def _methods(kind: type[BaseChatModel]) -> str:
    """Return the text in which a class names the methods of its `with_structured_output`; empty if it names none."""
    method = inspect.signature(kind.with_structured_output).parameters.get("method")
    return "" if method is None else str(method.annotation)


def _method_and_schema(form: Any) -> tuple[str, Any]:
    if not isinstance(form, Mapping):
        return "json_schema", form
    if form.get("type") != "json_schema":
        return "json_mode", {"title": "answer", "description": "", "type": "object"}
    described = form["json_schema"]
    return "json_schema", {"title": described.get("name", "answer"), "description": "", **described["schema"]}


def unwrapped(runnable: Runnable[Any, Any], model: BaseChatModel) -> tuple[BaseChatModel, dict[str, Any]]:
    """Take a model's binding apart: which model, and what it binds."""
    params: dict[str, Any] = {}
    while isinstance(runnable, RunnableBinding):
        params = {**runnable.kwargs, **params}
        runnable = runnable.bound
    if not isinstance(runnable, BaseChatModel):
        name = type(model).__name__
        raise ConfigError(f"{name} binds tools to a {type(runnable).__name__}, not to a chat model: it can't be routed")
    return runnable, {name: value for name, value in params.items() if name not in _TRACED}


# -- what comes back -------------------------------------------------------------------------------------------------


def _copied(result: ChatResult) -> ChatResult:
    """Copy the messages, which will be marked: the model may keep them, and answer with them again."""
    generations = [
        ChatGeneration(message=generation.message.model_copy(), generation_info=generation.generation_info)
        for generation in result.generations
    ]
    return ChatResult(generations=generations, llm_output=result.llm_output)


def _one_chunk(result: ChatResult) -> ChatGenerationChunk:
    generation = result.generations[0]
    whole = AIMessageChunk(**generation.message.model_dump(exclude={"type"}))
    info = {**(result.llm_output or {}), **(generation.generation_info or {})}
    return ChatGenerationChunk(message=whole, generation_info=info or None)
