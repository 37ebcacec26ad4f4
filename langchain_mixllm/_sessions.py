"""What a call is told by its config: terms, and which conversation it belongs to.

LangGraph keeps the name of a conversation in ``config["configurable"]["thread_id"]``; terms such as ``"budget"`` may
stand beside it. LangChain hands no config to the hooks of a chat model: what a chain, graph or agent sets is found in a
context variable, what is given to the model itself passes through `ConfiguredChatModel`. Without a thread, calls with
tools name their conversation themselves, and the name comes back with the answer, in the history of the next call.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import RunnableConfig, ensure_config

from langchain_mixllm._answers import noted
from langchain_mixllm._calls import TERMS


def thread_of(config: RunnableConfig | None) -> str | None:
    """Return the thread that a config names; graphs inside a graph have threads of their own.

    Examples
    --------
    >>> thread_of({"configurable": {"thread_id": 7}})
    '7'
    >>> thread_of({"configurable": {"thread_id": 7, "checkpoint_ns": "tools:1a|model:2b"}})
    '7|tools:1a'
    """
    configurable = (config or {}).get("configurable") or {}
    thread = configurable.get("thread_id")
    if thread is None:
        return None
    # The namespace ends with the node that is running, which is another one at every step.
    graph = str(configurable.get("checkpoint_ns") or "").rpartition("|")[0]
    return f"{thread}|{graph}" if graph else str(thread)


def terms_of(config: RunnableConfig | None) -> dict[str, Any]:
    """Return the terms that stand in a config.

    Examples
    --------
    >>> terms_of({"configurable": {"budget": "low", "thread_id": 7}})
    {'budget': 'low'}
    """
    configurable = (config or {}).get("configurable") or {}
    return {name: configurable[name] for name in TERMS if name in configurable}


def session_from(messages: Sequence[BaseMessage], *, has_tools: bool) -> tuple[str | None, bool]:
    """Return the session of a call that names none, and whether it is new.

    Parameters
    ----------
    messages : sequence of BaseMessage
        The history; its last answer may name the session.
    has_tools : bool
        Whether the answer may begin a tool loop, whose later calls will want to know.
    """
    if thread := thread_of(ensure_config()):
        return thread, False
    for message in reversed(messages):
        if isinstance(message, AIMessage) and (session := noted(message).get("session")):
            return str(session), False
    return (f"conversation-{secrets.token_hex(8)}", True) if has_tools else (None, False)


class ConfiguredChatModel(BaseChatModel):
    """A chat model whose hooks are told what the config of a call says: its terms, and its thread as `session`."""

    session: str | None = None

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Return an answer; see LangChain's `Runnable.invoke`."""
        return super().invoke(input, config, stop=stop, **self._configured(config, kwargs))

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Return an answer without blocking."""
        return await super().ainvoke(input, config, stop=stop, **self._configured(config, kwargs))

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Yield an answer in chunks."""
        return super().stream(input, config, stop=stop, **self._configured(config, kwargs))

    def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Yield an answer in chunks without blocking."""
        return super().astream(input, config, stop=stop, **self._configured(config, kwargs))

    def stream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Yield an answer as events."""
        return super().stream_events(input, config, **self._configured(config, kwargs))

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Yield an answer as events without blocking."""
        return super().astream_events(input, config, **self._configured(config, kwargs))

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Let the keys of LangChain's cache hold all terms but the session, which is no part of what is asked."""
        asked = {**terms_of(ensure_config()), **kwargs}
        asked.pop("session", None)
        return super()._get_llm_string(stop=stop, **asked)

    def _configured(self, config: RunnableConfig | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        said = {**terms_of(config), **kwargs}
        if self.session is None and said.get("session") is None and (thread := thread_of(config)):
            said["session"] = thread
        return said
