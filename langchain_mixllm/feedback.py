"""Feedback that nobody has to give: what goes wrong behind an answer says something about the answer.

A parser that can't read it, arguments that don't fit a tool, a tool that fails, a chain that tries again, a person who
asks for another answer: each is a weak label for the decision that led there. `MixLLMFeedbackHandler` watches for them.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import ensure_config
from pydantic import ValidationError

from langchain_mixllm._runs import OPEN_RUNS, decisions_in
from langchain_mixllm._sessions import thread_of
from mixllm_engine import Router
from mixllm_engine.holders import HasRouter, router_of
from mixllm_engine.signals import Rules, Signal, SignalLog

_MOST_THREADS = 10_000
_RETRIED = re.compile(r"retry:attempt:\d+")  # how `Runnable.with_retry` tags every attempt but the first
_MISTAKE = "Please fix your mistakes"  # how LangChain's agents tell a model that its arguments don't fit


class MixLLMFeedbackHandler(BaseCallbackHandler):
    """Turns what goes wrong in chains and agents into feedback. It belongs into ``config["callbacks"]``.

    A signal is for the last decision in the innermost run around it that made any. Each is given once per decision,
    under the key ``"auto:<signal>"``, so that a person's judgement stands beside it and outweighs it. Streams that are
    closed, calls that are cancelled and providers that fail say nothing about an answer.

    Parameters
    ----------
    router : Router, or anything with one
        Who learns.
    rules : mapping of str to Rule, float or "off", optional
        Instead of `mixllm_engine.signals.RULES`: what a signal says, only its weight, or that it is ignored. The
        signals are ``"parser_error"``, ``"validation_error"`` (arguments or an answer that don't fit their schema),
        ``"tool_error"``, ``"retry"`` (of a `Runnable.with_retry`), and ``"regenerate"``: the same person's messages
        again in the same ``thread_id``.

    Raises
    ------
    ConfigError
        If a rule is for no signal, or says something else.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> handler = MixLLMFeedbackHandler(tiny_router(), rules={"tool_error": "off", "retry": 0.1})
    """

    def __init__(self, router: Router | HasRouter, *, rules: Rules | None = None) -> None:
        self._log = SignalLog(router_of(router), rules or {})
        self._lock = threading.Lock()
        self._asked: OrderedDict[str, tuple[str, UUID, str]] = OrderedDict()  # by thread: messages, root, decision
        self._asking: dict[UUID, tuple[str, str]] = {}  # thread and messages of every model run that is open

    # -- what happens ------------------------------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look for a second attempt, for mistakes that the model is told of, and for a question asked again."""
        self._notice_retry(tags, parent_run_id)
        last = messages[-1] if messages else []
        if last and isinstance(last[-1], ToolMessage) and _tells_mistake(last[-1]):
            self._log.tell("validation_error", OPEN_RUNS.around(parent_run_id), unless_any=True)
        # What is given to the model itself arrives as its session; what is given to a chain or graph, in the context.
        thread = kwargs.get("invocation_params", {}).get("session") or thread_of(ensure_config())
        if thread is not None:
            self._notice_regenerate(thread, _digest(last), run_id, parent_run_id)

    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Note the decision behind an answer."""
        around = OPEN_RUNS.around(parent_run_id)
        with self._lock:
            asked = self._asking.pop(run_id, None)
        for decision_id in decisions_in(response):
            self._log.made(decision_id, around)
            if asked:
                self._remember(*asked, (around or [run_id])[-1], decision_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget a call without an answer; whose failure it was, the router has recorded."""
        with self._lock:
            self._asking.pop(run_id, None)

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look for a second attempt."""
        self._notice_retry(tags, parent_run_id)

    def on_chain_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Look for an answer that can't be read."""
        if isinstance(error, OutputParserException):
            self._log.tell("parser_error", [run_id, *OPEN_RUNS.around(parent_run_id)])
        elif _is_validation(error):
            self._log.tell("validation_error", [run_id, *OPEN_RUNS.around(parent_run_id)])
        self._log.close(run_id, is_root=parent_run_id is None)

    def on_chain_end(
        self, outputs: dict[str, Any], *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Forget a run that went well."""
        self._log.close(run_id, is_root=parent_run_id is None)

    def on_tool_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Look for a call that a tool could not carry out."""
        # A cancelled task, or a graph that waits for a person, is nobody's fault.
        if isinstance(error, Exception) and not _is_a(error, "GraphBubbleUp"):
            signal: Signal = "validation_error" if _is_validation(error) else "tool_error"
            self._log.tell(signal, OPEN_RUNS.around(parent_run_id))

    # -- what it says ------------------------------------------------------------------------------------------------

    def _notice_retry(self, tags: Sequence[str] | None, parent_run_id: UUID | None) -> None:
        if any(_RETRIED.fullmatch(tag) for tag in tags or ()):
            self._log.tell("retry", OPEN_RUNS.around(parent_run_id))

    def _notice_regenerate(self, thread: str, digest: str, run_id: UUID, parent_run_id: UUID | None) -> None:
        root = (OPEN_RUNS.around(parent_run_id) or [run_id])[-1]
        with self._lock:
            before = self._asked.get(thread)
            self._asking[run_id] = (thread, digest)
        if before and before[0] == digest and before[1] != root:  # within one root, agents ask on in their tool loops
            self._log.blame("regenerate", before[2])

    def _remember(self, thread: str, digest: str, root: UUID, decision_id: str) -> None:
        with self._lock:
            self._asked[thread] = (digest, root, decision_id)
            self._asked.move_to_end(thread)
            if len(self._asked) > _MOST_THREADS:
                self._asked.popitem(last=False)


def _is_validation(error: BaseException) -> bool:
    return isinstance(error, ValidationError) or _is_a(error, "StructuredOutputError")


def _is_a(error: BaseException, name: str) -> bool:
    """Tell a class of LangChain's agents or of LangGraph, which need not be installed."""
    return any(kind.__name__ == name for kind in type(error).mro())


def _tells_mistake(message: ToolMessage) -> bool:
    return message.status == "error" or _MISTAKE in message.text


def _digest(messages: Sequence[BaseMessage]) -> str:
    """Return what tells whether a person's messages are the same again, without keeping them."""
    said = "\0".join(message.text for message in messages if isinstance(message, HumanMessage))
    return hashlib.sha256(said.encode()).hexdigest()
