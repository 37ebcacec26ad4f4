"""`ChatMixLLM`: every call is routed, answered, recorded, and can be given feedback.

All four hooks of a LangChain chat model walk the same path::

    messages, kwargs --_messages, _calls--> query + terms --Router.decide--> decision
                                                                                |
                    mixllm_engine.calling.routed  (attempts, fallback before the first token, outcomes)
                                                                                |
    answer or chunks <--_answers, _errors-- the same hook of the candidate's own chat model  (_delegates)

That is a `ChatLiteLLM` (_chat_litellm), or any chat model that was given (_foreign). Its hooks are called, not its
``invoke``: a call is one LLM run, and its usage is counted once. Conversion of messages, tool calls and reasoning is
its own; `_tools` prepares tools and schemas before a candidate is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from os import PathLike
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput, ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, ensure_config
from langchain_core.utils import secret_from_env
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PrivateAttr, SecretStr, model_validator

from langchain_mixllm._answers import CHUNK_READER, StreamNotes, annotated, result_usage
from langchain_mixllm._calls import PARAMETERS, TERMS, Call, QueryExtractor, query_from, split
from langchain_mixllm._delegates import Answering, Delegates, foreign_models
from langchain_mixllm._errors import as_langchain_errors
from langchain_mixllm._loops import decide
from langchain_mixllm._profiles import common_profile
from langchain_mixllm._references import Teachable
from langchain_mixllm._routers import check_either, make_router, picklable
from langchain_mixllm._runs import linking, without_links
from langchain_mixllm._sessions import ConfiguredChatModel, session_from, terms_of
from langchain_mixllm._tools import Method, Schema, Tool, structured_output, tool_arguments
from mixllm_engine import Candidate, Router, RouterConfig, __version__
from mixllm_engine.calling import routed
from mixllm_engine.decision.budget import Budget


class ChatMixLLM(ConfiguredChatModel, Teachable):
    """A chat model that sends every call to the LLM that suits it best, and learns from feedback.

    Every field from `budget` to `session`, `temperature`, `max_tokens`, `timeout`, `stop` and `max_retries` can also be
    given per call: ``llm.invoke(question, budget="low")``; the former also in the ``configurable`` of the call's config
    or of the graph's around it. ``model="name"`` per call is LangChain's way to say `force`.

    Parameters
    ----------
    router : Router, optional
        Who decides and learns. Shared by reference with every copy of this model.
    candidates : sequence of str, Candidate or BaseChatModel, optional
        Instead of a router: the pool of one that is made here. A chat model is named as LiteLLM names its model, which
        must have a price there; else describe it by a `Candidate` and give it in `models`.
    models : mapping of str to BaseChatModel, optional
        Chat models that answer for candidates, by name. The others are called through LiteLLM.
    store : path or URL, optional
        Where that router keeps decisions and feedback; in memory where not given.
    config : RouterConfig, optional
        That router's settings.
    budget : str or float, optional
        ``"very_low"`` to ``"very_high"``, or dollars per query on average.
    willingness_to_pay : float, optional
        The paper's lambda, instead of a budget.
    max_wait_s : float, optional
        An answer that is later than this is worth nothing.
    allow, deny : sequence of str, optional
        Names or wildcards of the candidates that may, or may not, be chosen.
    force : str, optional
        The candidate to take, whatever its score.
    session : str, optional
        The conversation that calls belong to. Where it is not given: ``config["configurable"]["thread_id"]``, of the
        call or of the graph around it; else calls with tools name it and find the name in their history.
    query_extractor : callable, optional
        From all messages to the text that is routed on: the person's last request where not given.
    temperature, max_tokens, stop : optional
        Sent to whoever answers; they win over a candidate's own parameters.
    timeout : float, optional
        Longest time for one attempt through LiteLLM, in seconds; the router's configuration says it where not given.
    max_retries : int, optional
        How many further candidates are tried after a failure, each once; all that are eligible where not given.
    api_key : str, optional
        For the candidates that have no key of their own, if all of these are at one provider. Read from the
        environment variable ``MIXLLM_API_KEY`` where not given. Never for chat models that were given.
    profile : mapping, optional
        Abilities and limits for LangChain's agents: what all candidates have when the model is made, where not given.
    streaming : bool, optional
        Whether ``invoke`` streams. ``False`` keeps ``stream`` from streaming; ``None`` leaves it to the caller.

    Examples
    --------
    >>> from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
    >>> with ScriptedServer() as server:
    ...     for name in ("cheap", "dear"):
    ...         server.script(name, Reply(text=f"{name} says hello"))
    ...     llm = ChatMixLLM(router=tiny_router(api_base=server.base_url), budget="very_low")
    ...     streamed = [chunk.text for chunk in llm.stream("Hello?", model="dear")]
    >>> "".join(streamed)
    'dear says hello'
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    candidates: Sequence[str | Candidate | InstanceOf[BaseChatModel]] | None = Field(
        default=None, exclude=True, repr=False
    )
    models: Mapping[str, InstanceOf[BaseChatModel]] | None = Field(default=None, exclude=True, repr=False)
    store: str | PathLike[str] | None = Field(default=None, exclude=True, repr=False)
    config: RouterConfig | None = Field(default=None, exclude=True, repr=False)
    router: Router = Field(default_factory=make_router, exclude=True, repr=False)

    budget: Budget | None = None
    willingness_to_pay: float | None = None
    max_wait_s: float | None = None
    allow: Sequence[str] | None = None
    deny: Sequence[str] = ()
    force: str | None = None
    query_extractor: QueryExtractor | None = Field(default=None, exclude=True, repr=False)

    temperature: float | None = None
    max_tokens: int | None = None
    timeout: float | None = None
    stop: list[str] | None = None
    max_retries: int | None = Field(default=None, ge=0)
    api_key: SecretStr | None = Field(
        default_factory=secret_from_env("MIXLLM_API_KEY", default=None), exclude=True, repr=False
    )
    # Not False by default: models that are rebuilt from their fields (configurable_fields) would have it set, and
    # LangChain takes a False that was set for a refusal to stream.
    streaming: bool | None = None

    _delegates: Delegates = PrivateAttr()

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_either(self.router, self.candidates, self.store, self.config)
        self._delegates = Delegates(foreign_models(self.candidates or (), self.models, self.router))
        self._add_version("mixllm", __version__)
        self.callbacks = linking(self.callbacks, self.router)
        return self

    # -- answering ---------------------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = self._decide(messages, stop, kwargs)
        with as_langchain_errors():
            candidate, result = routed.call(
                self.router, call.decision, lambda c: self._answering(c).generate(call, c), result_usage
            )
        return annotated(result, call.decision, candidate, call.session)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = await asyncio.to_thread(self._decide, messages, stop, kwargs)
        with as_langchain_errors():
            candidate, result = await routed.acall(
                self.router, call.decision, lambda c: self._answering(c).agenerate(call, c), result_usage
            )
        return annotated(result, call.decision, candidate, call.session)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call = self._decide(messages, stop, kwargs)
        notes = StreamNotes(call.decision, call.session)
        answers = routed.stream(self.router, call.decision, lambda c: self._answering(c).stream(call, c), CHUNK_READER)
        with as_langchain_errors(), closing(answers):
            for candidate, chunk in answers:
                marked = notes.mark(candidate, chunk)
                if run_manager:
                    run_manager.on_llm_new_token(marked.text, chunk=marked)
                yield marked
        yield notes.last()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = await asyncio.to_thread(self._decide, messages, stop, kwargs)
        notes = StreamNotes(call.decision, call.session)
        answers = routed.astream(
            self.router, call.decision, lambda c: self._answering(c).astream(call, c), CHUNK_READER
        )
        with as_langchain_errors():
            async with aclosing(answers):
                async for candidate, chunk in answers:
                    marked = notes.mark(candidate, chunk)
                    if run_manager:
                        await run_manager.on_llm_new_token(marked.text, chunk=marked)
                    yield marked
        yield notes.last()

    def _decide(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]) -> Call:
        """Choose who answers. The async hooks do this in a thread: it encodes the query and writes to the store."""
        self._delegates.prepare(self.router.candidates)
        terms, params = split({**terms_of(ensure_config()), **kwargs}, {name: getattr(self, name) for name in TERMS})
        max_retries = params.pop("max_retries", self.max_retries)
        standing = {name: value for name in PARAMETERS if (value := getattr(self, name)) is not None}
        stops = {"stop": stop} if stop else {"stop": self.stop} if self.stop else {}
        given = {**standing, **params, **stops}
        is_new = False
        if terms["session"] is None:
            terms["session"], is_new = session_from(messages, has_tools=bool(given.get("tools")))
        query = query_from(messages, given, self.query_extractor)
        with as_langchain_errors():
            decision = decide(self.router, query, messages, terms)
        if max_retries is not None:
            decision = replace(decision, ranking=decision.ranking[: max_retries + 1])
        return Call(
            decision=decision,
            messages=messages,
            given=given,
            timeout_s=self.router.config.calling.timeout_s,
            session=terms["session"] if is_new else None,
        )

    def _answering(self, candidate: Candidate) -> Answering:
        return self._delegates.get(candidate, self.api_key, self.router.candidates)

    # -- tools and schemas -------------------------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to whoever answers; only candidates that support tools are eligible then.

        Parameters
        ----------
        tools : sequence
            Functions, tools, pydantic classes or definitions.
        tool_choice : str, bool or dict, optional
            ``"any"`` or ``True`` demands a call, a tool's name demands that one; ``"auto"`` and ``"none"`` as usual.
        strict : bool, optional
            Whether arguments must fit the schema exactly.
        **kwargs
            Bound too, such as ``parallel_tool_calls`` or ``response_format``.
        """
        return self.bind(**tool_arguments(tools, tool_choice, strict), **kwargs)

    def with_structured_output(
        self,
        schema: Schema,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a runnable whose answers have the form of a schema.

        Parameters
        ----------
        schema : dict or type
            JSON schema, tool definition, pydantic class or TypedDict. An instance of a pydantic class is returned as
            one, anything else as a dict.
        method : str
            ``"json_schema"``, ``"function_calling"``, or ``"json_mode"``, which relies on the prompt for the form.
        include_raw : bool
            Return ``{"raw": message, "parsed": ..., "parsing_error": ...}``, and raise no parsing error.
        strict : bool, optional
            Whether the provider must keep to the schema exactly: by default with ``"json_schema"`` only.
        """
        if kwargs:
            raise ValueError(f"unknown arguments: {', '.join(kwargs)}; allowed: method, include_raw, strict")
        return structured_output(self, schema, method=method, include_raw=include_raw, strict=strict)

    # -- what LangChain asks -----------------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "mixllm-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What tells two models apart, in traces and in the keys of LangChain's cache. Nothing secret."""
        pool = self.router.candidates
        names = (*TERMS, *PARAMETERS, "stop", "max_retries")
        return {
            "candidates": {candidate.name: candidate.model for candidate in pool},
            "endpoints": self._delegates.fingerprint(pool),
            **{name: value for name in names if (value := getattr(self, name)) not in (None, (), [])},
        }

    def _resolve_model_profile(self) -> ModelProfile:
        return common_profile(self.router.candidates)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "mixllm"
        params["ls_model_name"] = kwargs.get("model") or kwargs.get("force") or self.force or "mixllm/auto"
        return params

    # -- copies ------------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the settings; the router, with its locks and what it learned, and chat models stay shared."""
        shared = [self.router, *(foreign.model for foreign in self._delegates.foreign.values())]
        return super().__deepcopy__({**(memo or {}), **{id(kept): kept for kept in shared}})

    def __getstate__(self) -> dict[Any, Any]:
        """Leave out the router, which another process makes anew from the candidates, and all keys."""
        state = super().__getstate__()
        fields = {name: value for name, value in state["__dict__"].items() if name not in ("router", "_serialized")}
        unlinked = {
            "candidates": picklable(self.candidates, self.models),
            "api_key": None,
            "callbacks": without_links(self.callbacks),
        }
        return {**state, "__dict__": {**fields, **unlinked}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Make the router anew."""
        super().__setstate__(state)
        self.router = make_router(self.__dict__)
        self.callbacks = linking(self.callbacks, self.router)
