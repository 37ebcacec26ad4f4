"""One call of an agent's model, while it is under way and when it has answered.

LangChain has no place for what a router knows about a call. So a callback handler, first among those of the attempt,
notes in the answer who gave it, before anybody else sees it, and notices when somebody has seen some of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast
from uuid import UUID

from langchain.agents.middleware.types import ModelResponse
from langchain.agents.structured_output import StructuredOutputError
from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, GenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphBubbleUp

from langchain_mixllm._answers import CHUNK_READER, METADATA_KEY, annotated, plain, result_usage
from langchain_mixllm._errors import as_langchain_errors
from langchain_mixllm._runs import runs_around_here
from mixllm_engine import Candidate, Decision
from mixllm_engine.calling.failures import classify
from mixllm_engine.calling.usage import Usage

Response: TypeAlias = ModelResponse[Any]


@dataclass(frozen=True, kw_only=True)
class AgentCall:
    """A decided call.

    Attributes
    ----------
    decision : Decision
        Who is to answer, and who if that fails.
    session : str, optional
        The name that this call gave its conversation, for later calls to find in the answer.
    """

    decision: Decision
    session: str | None

    @contextmanager
    def attempt(self, candidate: Candidate) -> Iterator[Attempt]:
        """Watch over one candidate's model.

        An answer that does not fit the agent's schema is an answer: its error is kept for later.
        """
        attempt = Attempt(self, candidate)
        token = var_child_runnable_config.set(_with_first(attempt, ensure_config()))
        try:
            yield attempt
        except StructuredOutputError as error:
            attempt.error = error
        except GraphBubbleUp as error:
            raise _LeftError(error) from error
        except Exception as error:
            if attempt.is_seen and classify(error) is not None:
                raise _MidStreamError(error) from error
            raise
        finally:
            var_child_runnable_config.reset(token)

    def marked(self, message: AIMessage, candidate: Candidate) -> AIMessage:
        """Return a copy of an answer that says where it came from, under its own id and model name."""
        result = ChatResult(generations=[ChatGeneration(message=message.model_copy())])
        noted = annotated(result, self.decision, candidate, self.session).generations[0].message.response_metadata
        own_name = message.response_metadata.get("model_name", noted["model_name"])
        return message.model_copy(update={"response_metadata": {**plain(noted), "model_name": own_name}})


class Attempt(BaseCallbackHandler):
    """What one candidate's model says, and what becomes of it."""

    run_inline = True  # chunks are marked before others see them

    def __init__(self, call: AgentCall, candidate: Candidate) -> None:
        self.is_seen = False
        self.response: Response | None = None
        self.error: StructuredOutputError | None = None
        self._call = call
        self._candidate = candidate
        self._runs: list[str] = []
        self._is_noted = False

    # -- while it answers --------------------------------------------------------------------------------------------

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Remember the run, which may lead feedback to the decision."""
        self._runs.append(str(run_id))

    def on_llm_new_token(
        self, token: Any, *, chunk: GenerationChunk | ChatGenerationChunk | None = None, **kwargs: Any
    ) -> None:
        """Note on the first chunk where it came from, and whether anybody can have seen some of the answer."""
        if not isinstance(chunk, ChatGenerationChunk):
            return
        if not self._is_noted:
            self._is_noted = True
            origin = self._call.marked(AIMessage(""), self._candidate).response_metadata[METADATA_KEY]
            chunk.message.response_metadata = {**chunk.message.response_metadata, METADATA_KEY: origin}
        self.is_seen = self.is_seen or CHUNK_READER.is_token(chunk)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        """Note on the answer where it came from."""
        for generation in (generation for several in response.generations for generation in several):
            if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
                generation.message = self._call.marked(generation.message, self._candidate)

    # -- when it has answered ----------------------------------------------------------------------------------------

    @property
    def answer(self) -> AIMessage | None:
        """The message of the model."""
        if self.error is not None:
            return self.error.ai_message
        messages = self.response.result if self.response else []
        return next((message for message in messages if isinstance(message, AIMessage)), None)

    @property
    def names(self) -> list[str]:
        """What leads feedback to the decision, besides the message itself."""
        own = [self.answer.id] if self.answer and self.answer.id else []
        return [*own, *self._runs, *runs_around_here()]

    def usage(self) -> Usage:
        """Return what the answer used; nothing is known of one that LangChain's cache remembered."""
        answer = self.answer
        # LangChain writes the cost of what its cache remembered, and of nothing else.
        if answer is None or "total_cost" in (answer.usage_metadata or ()):
            return Usage()
        return result_usage(ChatResult(generations=[ChatGeneration(message=answer)]))

    def outcome(self) -> Response:
        """Return the agent's response, or raise what was kept; the answer says where it came from."""
        if self.error is not None:
            self.error.ai_message = self._call.marked(self.error.ai_message, self._candidate)
            raise self.error
        response = cast(Response, self.response)
        marked = [self._call.marked(m, self._candidate) if isinstance(m, AIMessage) else m for m in response.result]
        return replace(response, result=marked)


class _MidStreamError(Exception):
    """A model failed when some of its answer had been seen: nobody else may begin it again."""


class _LeftError(asyncio.CancelledError):
    """LangGraph leaves the agent, as for an interrupt: to the router the call was cancelled, and nobody failed."""


@contextmanager
def as_failures() -> Iterator[None]:
    """Raise failures as LangChain's exceptions too."""
    with as_langchain_errors():
        try:
            yield
        except (_MidStreamError, _LeftError) as marked:
            cause: Exception = marked.args[0]
            raise cause from cause.__cause__


def _with_first(handler: BaseCallbackHandler, config: RunnableConfig) -> RunnableConfig:
    """Return a config whose first callback handler is the given one."""
    callbacks = config.get("callbacks")
    if not isinstance(callbacks, BaseCallbackManager):
        return {**config, "callbacks": [handler, *(callbacks or [])]}
    manager = callbacks.copy()
    manager.handlers.insert(0, handler)
    manager.inheritable_handlers.insert(0, handler)
    return {**config, "callbacks": manager}
