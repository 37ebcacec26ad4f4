"""A chat model that is not called as LiteLLM calls one, and a tool for it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr, SecretStr

PRICES: dict[str, Any] = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}


def usage(given: int, made: int) -> UsageMetadata:
    return {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}


class Abroad(BaseChatModel):
    """Speaks a dialect: own names for tools and schemas, blocks for text, usage in two parts, no unknown argument."""

    model: str = "claude-haiku-4-5"
    token: SecretStr = SecretStr("hunter2")
    failure: Any = None
    _seen: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _closed: threading.Event = PrivateAttr(default_factory=threading.Event)

    @property
    def _llm_type(self) -> str:
        return "abroad"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop, **kwargs), "ls_provider": "anthropic"}

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, parallel_tool_calls: bool | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        functions = [convert_to_openai_tool(tool)["function"] for tool in tools]
        own = [{"name": function["name"], "input_schema": function["parameters"]} for function in functions]
        choice = {"any": {"type": "any"}, None: None}.get(tool_choice, {"type": "tool", "name": tool_choice})
        return self.bind(own_tools=own, own_choice=choice, serial=parallel_tool_calls is False, **kwargs)

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, method: Literal["json_schema"] = "json_schema", **kwargs: Any
    ) -> Runnable[Any, Any]:
        return self.bind(own_form=schema, ls_structured_output_format={"schema": schema}) | JsonOutputParser()

    def _note(self, messages: Any, stop: Any, unknown: dict[str, Any], **known: Any) -> None:
        assert not unknown, f"no such argument: {unknown}"
        self._seen.append({"messages": messages, "stop": stop, **known})
        if self.failure is not None:
            raise self.failure

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        own_tools: Any = None,
        own_choice: Any = None,
        own_form: Any = None,
        serial: bool = False,
        **unknown: Any,
    ) -> ChatResult:
        self._note(
            messages,
            stop,
            unknown,
            temperature=temperature,
            max_tokens=max_tokens,
            tools=own_tools,
            choice=own_choice,
            form=own_form,
            serial=serial,
        )
        message = AIMessage([{"type": "text", "text": "From abroad"}], usage_metadata=usage(7, 2))
        if own_tools:
            message = AIMessage("", tool_calls=[{"name": own_tools[0]["name"], "args": {"a": 1}, "id": "t1"}])
        if own_form:
            message = AIMessage('{"setup": "Why?"}')
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        whole = self._generate(messages, stop, **kwargs).generations[0].message
        assert isinstance(whole, AIMessage)
        try:
            first = AIMessageChunk(content=[], usage_metadata=usage(7, 0), response_metadata={"model_name": "x"})
            yield ChatGenerationChunk(message=first)
            for word in whole.text.split(" "):
                yield ChatGenerationChunk(
                    message=AIMessageChunk(content=[{"type": "text", "text": f"{word} ", "index": 0}])
                )
            calls: Any = [{**call, "args": '{"a": 1}', "index": 1} for call in whole.tool_calls]
            last = AIMessageChunk(content=[], usage_metadata=usage(0, 2), tool_call_chunks=calls, chunk_position="last")
            yield ChatGenerationChunk(message=last, generation_info={"model_name": "x", "finish_reason": "end"})
        finally:
            self._closed.set()

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, stop, **kwargs):
            yield chunk


class Silent(Abroad):
    """Does not stream."""

    _stream = BaseChatModel._stream
    _astream = BaseChatModel._astream


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b
