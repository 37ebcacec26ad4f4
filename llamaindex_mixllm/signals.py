"""`MixLLMEventHandler`: what goes wrong behind an answer, seen by LlamaIndex's instrumentation, becomes feedback."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_index.core.output_parsers.base import OutputParserException
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from llama_index_instrumentation.span import BaseSpan
from llama_index_instrumentation.span_handlers import BaseSpanHandler
from pydantic import PrivateAttr, ValidationError

from llamaindex_mixllm._events import MixLLMRoutingEvent
from mixllm_engine import Router
from mixllm_engine.holders import HasRouter, router_of
from mixllm_engine.signals import Rules, Signal, SignalLog


class MixLLMEventHandler(BaseEventHandler):
    """Turns what goes wrong in structured output and agents into feedback on the decisions behind it.

    Signals are ``"parser_error"`` (a structured answer that can't be read), ``"validation_error"`` (one that does not
    fit its class) and ``"tool_error"`` (a tool that an agent called fails). Each is for the last decision in the
    innermost span around it that made any, once, under the key ``"auto:<signal>"``: a person's judgement stands beside
    it and outweighs it.

    Parameters
    ----------
    router : Router, or anything with one
        Who learns; an `MixLLM` will do.
    rules : mapping of str to Rule, float or "off", optional
        Instead of `mixllm_engine.signals.RULES`: what a signal says, only its weight, or that it is ignored.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> handler = MixLLMEventHandler(tiny_router(), rules={"tool_error": "off"})
    >>> with handler.watching():
    ...     pass  # or handler.install(), for the life of the process
    """

    _log: SignalLog = PrivateAttr()
    _spans: _Spans = PrivateAttr()

    def __init__(self, router: Router | HasRouter, *, rules: Rules | None = None) -> None:
        super().__init__()
        self._log = SignalLog(router_of(router), rules or {})
        self._spans = _Spans(self._log)

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the handler."""
        return "MixLLMEventHandler"

    def install(self) -> None:
        """Watch all of LlamaIndex from now on; to do it again changes nothing."""
        root = get_dispatcher()
        if self not in root.event_handlers:
            root.add_event_handler(self)
            root.add_span_handler(self._spans)

    def remove(self) -> None:
        """Watch no longer."""
        root = get_dispatcher()
        root.event_handlers = [handler for handler in root.event_handlers if handler is not self]
        root.span_handlers = [handler for handler in root.span_handlers if handler is not self._spans]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch all of LlamaIndex in a block."""
        self.install()
        try:
            yield
        finally:
            self.remove()

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Note a decision in all spans around it."""
        if isinstance(event, MixLLMRoutingEvent):
            self._log.made(event.decision_id, self._spans.around(event.span_id))

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


class _Spans(BaseSpanHandler[BaseSpan]):
    """The spans that are open, and how they end."""

    _log: SignalLog = PrivateAttr()

    def __init__(self, log: SignalLog) -> None:
        super().__init__()
        # The base class shares its default containers between all handlers.
        self.open_spans, self.completed_spans, self.dropped_spans, self.current_span_ids = {}, [], [], {}
        self._log = log

    def around(self, span_id: str | None) -> list[str]:
        """Return a span and those around it, the root last."""
        found = []
        while span_id is not None:
            found.append(span_id)
            span = self.open_spans.get(span_id)
            span_id = span.parent_id if span else None
        return found

    def new_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        parent_span_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BaseSpan:
        """Remember the parent."""
        return BaseSpan(id_=id_, parent_id=parent_span_id)

    def prepare_to_exit_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        result: Any | None = None,
        **kwargs: Any,
    ) -> BaseSpan | None:
        """Look for a tool that failed: an agent catches the error, and tells the LLM."""
        output = getattr(result, "tool_output", None)  # of a ToolCallResult, the result of an agent's step
        if getattr(output, "is_error", False):
            invalid = isinstance(getattr(output, "exception", None), ValidationError)
            self._log.tell("validation_error" if invalid else "tool_error", self.around(id_))
        return self._close(id_)

    def prepare_to_drop_span(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        err: BaseException | None = None,
        **kwargs: Any,
    ) -> BaseSpan | None:
        """Look for an answer that can't be read."""
        signal = _signal(err, id_)
        if signal is not None:  # an error passes through several spans, and some of them give it another name
            self._log.tell(signal, self.around(id_), unless_any=True)
        return self._close(id_)

    def _close(self, span_id: str) -> BaseSpan | None:
        span = self.open_spans.get(span_id)
        if span is not None:
            self._log.close(span_id, is_root=span.parent_id is None)
        return span


def _signal(error: BaseException | None, span_id: str) -> Signal | None:
    if error is None:
        return None
    if any(isinstance(one, ValidationError) for one in (error, error.__cause__, error.__context__)):
        return "validation_error"
    if isinstance(error, OutputParserException | json.JSONDecodeError):
        return "parser_error"
    # LlamaIndex's programs say no more than this where an answer has no tool call, or no JSON in it.
    structured = "structured_predict" in span_id or "Program." in span_id
    return "parser_error" if structured and type(error) is ValueError else None


MixLLMEventHandler.model_rebuild()
