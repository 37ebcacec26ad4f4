"""The `ChatLiteLLM` that answers for one candidate. Importing this module imports LiteLLM, which takes seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_litellm import ChatLiteLLM

from mixllm_engine.calling.litellm_client import close_stream, load_litellm


class Delegate(ChatLiteLLM):
    """`ChatLiteLLM` with one HTTP request per call, and with streams that can be closed.

    The base class retries by itself, and keeps a stream's HTTP response open when nobody reads on.
    """

    def completion_with_retry(
        self,
        run_manager: CallbackManagerForLLMRun | None = None,
        opened: list[Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call LiteLLM once; a response is also put into `opened`, for whoever has to close it."""
        response = load_litellm().completion(**_once(kwargs))
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
            yield from super()._stream(messages, stop=stop, run_manager=run_manager, opened=opened, **kwargs)
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
                yield chunk
        finally:
            for response in opened:
                await response.aclose()


def _once(arguments: dict[str, Any]) -> dict[str, Any]:
    """Switch off the retries of LiteLLM and of the SDK below it: the router decides what happens after a failure."""
    once = {**arguments, "num_retries": 0, "max_retries": 0}
    if once.get("tools"):
        # LiteLLM 1.106 imports its optional MCP gateway as soon as there are tools.
        once["_skip_mcp_handler"] = True
    return once
