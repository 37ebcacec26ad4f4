"""LangChain's runs -> decisions: whoever has only the id of a run, hours later, can still give feedback on its answer.

A run knows its parent, and nobody tells a chat model about the parent's parent. So `OPEN_RUNS` watches every run of the
process while it is open (LangChain's `register_configure_hook` adds it to all of them), and a `Linker` among a model's
own callbacks links each decision with the runs around it when its answer is complete.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Self
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, Callbacks
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers.context import register_configure_hook

from langchain_mixllm._answers import noted
from mixllm_engine import Router, UnknownDecisionError

# Runs whose end nobody reports, as of a stream that was dropped, make room at last.
_MOST_OPEN = 100_000


class OpenRuns(BaseCallbackHandler):
    """The parents of all runs that are under way: chains, tools and retrievers."""

    run_inline = True  # it is quicker than a thread
    ignore_llm = True  # a model has no runs below it
    ignore_chat_model = True

    def __init__(self) -> None:
        self._parents: dict[UUID, UUID | None] = {}

    def around(self, run_id: UUID | None) -> list[UUID]:
        """Return a run and those around it, the root last."""
        found = []
        while run_id is not None:
            found.append(run_id)
            run_id = self._parents.get(run_id)
        return found

    def _begin(self, run_id: UUID, parent_run_id: UUID | None) -> None:
        self._parents[run_id] = parent_run_id
        if len(self._parents) > _MOST_OPEN:
            self._parents.pop(next(iter(self._parents)), None)

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember the parent."""
        self._begin(run_id, parent_run_id)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember the parent."""
        self._begin(run_id, parent_run_id)

    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember the parent."""
        self._begin(run_id, parent_run_id)

    def _end(self, result: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._parents.pop(run_id, None)

    on_chain_end = on_chain_error = _end  # type: ignore[assignment]
    on_tool_end = on_tool_error = _end  # type: ignore[assignment]
    on_retriever_end = on_retriever_error = _end  # type: ignore[assignment]


OPEN_RUNS = OpenRuns()
_hook: ContextVar[OpenRuns | None] = ContextVar("mixllm_open_runs", default=OPEN_RUNS)
register_configure_hook(_hook, inheritable=True)


def runs_around_here() -> list[str]:
    """Return the ids of the runs in which the calling code is, the root last; none outside of any."""
    config = var_child_runnable_config.get()
    callbacks = config.get("callbacks") if config else None
    parent = callbacks.parent_run_id if isinstance(callbacks, BaseCallbackManager) else None
    return [str(run_id) for run_id in OPEN_RUNS.around(parent)]


class Linker(BaseCallbackHandler):
    """Links each decision of a router with the run of its answer, and the runs around it.

    It belongs among a model's own callbacks: they see no other model's runs.
    """

    def __init__(self, router: Router) -> None:
        self._router = router

    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Link what an answer says that it came from."""
        names = [str(run_id), *map(str, OPEN_RUNS.around(parent_run_id))]
        for decision_id in decisions_in(response):
            try:
                self._router.link(decision_id, *names)
            except UnknownDecisionError:
                continue  # an answer from a cache that outlived the log of its decision

    def __repr__(self) -> str:
        """Be short: it stands in the model's own."""
        return "Linker()"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Stay the same: a copy of a model shares its router."""
        return self


def decisions_in(response: LLMResult) -> list[str]:
    """Return the ids of the decisions that a model's answers came from."""
    found = []
    for generation in (generation for several in response.generations for generation in several):
        message = generation.message if isinstance(generation, ChatGeneration) else None
        decision_id = noted(message).get("decision_id") if isinstance(message, AIMessage) else None
        if isinstance(decision_id, str):
            found.append(decision_id)
    return found


def linking(callbacks: Callbacks, router: Router) -> Callbacks:
    """Return a model's callbacks with the `Linker` of its router."""
    without = without_links(callbacks)
    if isinstance(without, BaseCallbackManager):
        without.add_handler(Linker(router), inherit=False)
        return without
    return [*(without or ()), Linker(router)]


def without_links(callbacks: Callbacks) -> Callbacks:
    """Return a model's callbacks without any `Linker`."""
    if isinstance(callbacks, BaseCallbackManager):
        manager = callbacks.copy()
        for handler in [handler for handler in manager.handlers if isinstance(handler, Linker)]:
            manager.remove_handler(handler)
        return manager
    return [handler for handler in callbacks or () if not isinstance(handler, Linker)] or None
