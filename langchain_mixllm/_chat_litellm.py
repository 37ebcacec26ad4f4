"""The `ChatLiteLLM` that answers for one candidate. Importing this module imports LiteLLM, which takes seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_litellm import ChatLiteLLM

from mixllm_engine.calling.litellm_client import check_choices, check_end, close_stream, load_litellm


class Delegate(ChatLiteLLM):
    """`ChatLiteLLM` with one HTTP request per call, and with streams that can be closed and don't make things up.

    The base class retries by itself, and keeps a stream's HTTP response open when nobody reads on. To a stream that
    ended early but in an orderly way LiteLLM gives the finish reason ``"stop"``; here that is an error.
    """

    def completion_with_retry(
        self,
        run_manager: CallbackManagerForLLMRun | None = None,
        opened: list[Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call LiteLLM once; a response is also put into `opened`, for whoever has to close it."""
        response = load_litellm().completion(**_once(kwargs))
        if not kwargs.get("stream"):
            check_choices(response, self.model)
        if opened is not None:
            opened.append(response)
        return response

    async def acompletion_with_retry(
        self,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        opened: list[Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Do as `completion_with_retry` does, without blocking."""
        response = await load_litellm().acompletion(**_once(kwargs))
        if not kwargs.get("stream"):
            check_choices(response, self.model)
        if opened is not None:
            opened.append(response)
        return response

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        opened: list[Any] = []
        try:
            for chunk in super()._stream(messages, stop=stop, run_manager=run_manager, opened=opened, **kwargs):
                yield _complete(chunk, opened, self.model)
        finally:
            for response in opened:
                close_stream(response)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        opened: list[Any] = []
        try:
            async for chunk in super()._astream(messages, stop=stop, run_manager=run_manager, opened=opened, **kwargs):
                yield _complete(chunk, opened, self.model)
        finally:
            for response in opened:
                await response.aclose()


def _complete(chunk: ChatGenerationChunk, opened: list[Any], model: str) -> ChatGenerationChunk:
    """Return the chunk, or raise if it is an end that LiteLLM made up."""
    if "finish_reason" in chunk.message.response_metadata:
        check_end(opened[-1], model)
    return chunk


def _once(arguments: dict[str, Any]) -> dict[str, Any]:
    """Switch off the retries of LiteLLM and of the SDK below it: the router decides what happens after a failure."""
    once = {**arguments, "num_retries": 0, "max_retries": 0}
    if once.get("tools"):
        # LiteLLM 1.106 imports its optional MCP gateway as soon as there are tools.
        once["_skip_mcp_handler"] = True
    else:
        once.pop("tools", None)  # LangChain's agents send an empty list beside a schema, and providers refuse it
    return once
