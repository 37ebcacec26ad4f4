"""`MixLLM`: one LLM for LlamaIndex that is several, and chooses among them for every call.

How a call flows::

    chat, complete, ... (8)         LlamaIndex's callbacks and spans report the call, once
      -> _prepare                   kwargs -> terms for the router, parameters for the model
           -> _messages.to_openai   ChatMessage -> OpenAI's form
           -> _questions            what the call is routed by: the question, the run that it belongs to
           -> _decide               Router.decide, before a stream is returned
      -> _events.report             one routing event
      -> calling.routed             one HTTP request per attempt, fallback before the first token, outcome recorded
           -> _calls                through LiteLLM, or to a LlamaIndex LLM (_delegates)
      -> _answers                   response or chunk -> ChatResponse, CompletionResponse
    chat_with_tools, agents, structured_predict
      -> _tools                     BaseTool -> parameters; ToolCallBlock -> ToolSelection
    feedback
      -> feedback.references        response -> decisions -> Router.feedback
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from os import PathLike
from typing import Annotated, Any, Literal, Self, cast

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import LLM, ToolSelection
from llama_index.core.tools.types import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr, WithJsonSchema

from llamaindex_mixllm import _keeping, _tools
from llamaindex_mixllm._answers import StreamedAnswer, chat_response, completion_response
from llamaindex_mixllm._calls import READER, Call, usage_of
from llamaindex_mixllm._events import report
from llamaindex_mixllm._messages import to_openai
from llamaindex_mixllm._questions import Conversation
from llamaindex_mixllm._streams import aconverted, aobserved, converted, observed
from llamaindex_mixllm._templates import TemplatedLLM
from llamaindex_mixllm.feedback import references
from mixllm_engine import Candidate, ConfigError, Decision, FeedbackReceipt, Router
from mixllm_engine.calling import Routed, Terms, litellm_client, routed
from mixllm_engine.calling.messages import query_from_messages
from mixllm_engine.config import BudgetWord
from mixllm_engine.crediting import Credit

QueryExtractor = Annotated[Callable[[Sequence[ChatMessage]], str | None], WithJsonSchema({"type": "string"})]

_TERMS = tuple(Terms.__annotations__)


class MixLLM(TemplatedLLM):
    """An LLM that routes each call to the candidate that suits it best, and learns from feedback.

    A call may give the fields from `budget` to `max_tokens` as keyword arguments, and ``question="..."``, the text by
    which it is routed where that is not the person's last request. Its other keyword arguments go to the model.

    Within an agent's run, and in any tool loop, the candidate stays. It is known by LlamaIndex's own run id and by what
    the person said; `session`, or the instrument tag ``"mixllm.session"``, says it for whole conversations.

    Parameters
    ----------
    router : Router, optional
        Who decides and learns. Several LLMs and selectors may share one.
    candidates : iterable of str, Candidate or LLM, optional
        Instead of a router: what to make one of. A LlamaIndex LLM goes by the name of its model. It keeps its own
        settings and retries (give it ``max_retries=0``), and tells LlamaIndex's dispatcher of its calls beside MixLLM.
    models : mapping of str to LLM, optional
        LlamaIndex LLMs that answer for candidates of the pool, by name.
    store : path or URL, optional
        With `candidates`: where decisions and feedback are kept.
    **fields
        The fields below, and those of every LlamaIndex LLM, such as ``system_prompt``.

    Examples
    --------
    >>> from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
    >>> with ScriptedServer() as server:
    ...     server.script("cheap", Reply(text="Paris."))
    ...     llm = MixLLM(router=tiny_router(api_base=server.base_url), budget="low")
    ...     answer = llm.complete("What is the capital of France?")
    >>> answer.text, answer.raw["mixllm"]["candidate"]
    ('Paris.', 'cheap')
    >>> llm.feedback(answer, 1.0).status
    'applied'
    """

    model_config = ConfigDict(extra="forbid")

    candidates: list[str | dict[str, Any]] | None = Field(None, repr=False, description="The pool, without keys.")
    models: list[str] = Field(default_factory=list, description="The candidates that are LlamaIndex LLMs.")
    store: str | None = Field(None, repr=False, description="Where decisions and feedback are kept; no password.")
    budget: BudgetWord | float | None = Field(None, description="A word, or dollars per query on average.")
    willingness_to_pay: float | None = Field(None, description="The paper's lambda, instead of a budget.")
    max_wait_s: float | None = Field(None, description="The paper's tau: later answers are worth nothing.")
    allow: list[str] | None = Field(None, description="Names or wildcards of the candidates that may answer.")
    deny: list[str] | None = Field(None, description="Names or wildcards of the candidates that may not.")
    force: str | None = Field(None, description="The candidate that answers, whatever its score.")
    session: str | None = Field(None, description="The conversation; inside its tool loops the candidate stays.")
    temperature: float | None = Field(None, description="Sampling temperature; else the candidate's own.")
    max_tokens: int | None = Field(None, gt=0, description="Longest answer; the context window must hold it too.")
    context_window: Literal["smallest", "largest"] | Annotated[int, Field(gt=0)] = Field(
        "smallest",
        description="How much LlamaIndex may pack into a prompt: what every candidate takes, what the roomiest takes "
        "(the others are then left out of long prompts), or a number of tokens.",
    )
    query_extractor: QueryExtractor | None = Field(
        None, exclude=True, repr=False, description="Messages -> the question that they are routed by, if it knows."
    )
    _router: Router = PrivateAttr()
    _models: dict[str, LLM] = PrivateAttr()

    def __init__(
        self,
        *,
        router: Router | None = None,
        candidates: Iterable[str | Candidate | LLM | Mapping[str, Any]] | None = None,
        models: Mapping[str, LLM] | Iterable[str] = (),
        store: str | PathLike[str] | None = None,
        **fields: Any,
    ) -> None:
        if (router is None) == (candidates is None):
            raise ConfigError(
                "give router=Router(...), or candidates=[...] to make one of; an LLM with router= is restored by "
                "MixLLM.from_dict(data, router=router)"
            )
        if router is not None and store is not None:
            raise ConfigError("the router has a store already; give store=... together with candidates=[...] only")
        pool, answering = _keeping.read_candidates(candidates or ())
        names = [one if isinstance(one, str) else one.name for one in (router.candidates if router else pool)]
        answering |= _keeping.check_models(models, names)
        kept = None if candidates is None else [_keeping.plain(candidate) for candidate in pool]
        fields.update(candidates=kept, models=sorted(answering), store=_keeping.plain_store(store))
        super().__init__(**fields)
        self._router = router or Router(pool, store=_keeping.check_store(store))
        self._models = answering

    @classmethod
    def class_name(cls) -> str:
        """Return the name that serialised components carry."""
        return "MixLLM"

    @property
    def router(self) -> Router:
        """Who decides and learns."""
        return self._router

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex plans with: it packs prompts by the window, and gives tools to models that take them."""
        reachable = [candidate for candidate in self.router.candidates if self._may_answer(candidate.name)]
        windows = [candidate.context_window for candidate in reachable if candidate.context_window]
        policy = self.context_window
        if isinstance(policy, str):
            window = (min if policy == "smallest" else max)(windows, default=DEFAULT_CONTEXT_WINDOW)
        else:
            window = policy
        return LLMMetadata(
            context_window=window,
            num_output=self.max_tokens or DEFAULT_NUM_OUTPUTS,
            is_chat_model=True,
            is_function_calling_model=any(candidate.supports("tools") for candidate in reachable),
            model_name=self.force or "mixllm",
        )

    def _may_answer(self, name: str) -> bool:
        if self.force is not None:
            return name == self.force
        allowed = self.allow is None or any(fnmatchcase(name, pattern) for pattern in self.allow)
        return allowed and not any(fnmatchcase(name, pattern) for pattern in self.deny or ())

    # -- feedback ----------------------------------------------------------------------------------------------------

    def feedback(self, ref: object, score: float, key: str = "user", *, credit: Credit = "last") -> FeedbackReceipt:
        """Learn how good an answer was.

        Parameters
        ----------
        ref : ChatResponse, CompletionResponse, AgentOutput, Decision or str, or what `track_decisions` collected
            The answer, or the decision behind it, or the decision's id; several are those of one run.
        score : float
            Quality in [0, 1].
        key : str
            Who judges. The same key again replaces the value; several keys are averaged.
        credit : str
            Of several decisions, which the score is for: ``"last"``, ``"all"`` or ``"discounted"``.
        """
        return self.router.feedback(references(ref), score, key, credit=credit)

    # -- the eight ways to ask ---------------------------------------------------------------------------------------

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        return chat_response(self._complete(messages, kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation without blocking."""
        return chat_response(await self._acomplete(messages, kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Decide now, and return the answer to a conversation as it comes; the call begins with the first `next`."""

        def start() -> ChatResponseGen:
            return converted(self._stream(messages, kwargs), StreamedAnswer().chat)

        return observed(llm_chat_callback, self, messages, kwargs, start)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Do as `stream_chat` does, without blocking."""

        async def start() -> ChatResponseAsyncGen:
            return aconverted(await self._astream(messages, kwargs), StreamedAnswer().chat)

        return await aobserved(llm_chat_callback, self, messages, kwargs, start)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        return completion_response(self._complete(self._asked(prompt, formatted), kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt without blocking."""
        return completion_response(await self._acomplete(self._asked(prompt, formatted), kwargs))

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Decide now, and return the answer to a prompt as it comes; the call begins with the first `next`."""

        def start() -> CompletionResponseGen:
            return converted(self._stream(self._asked(prompt, formatted), kwargs), StreamedAnswer().completion)

        return observed(llm_completion_callback, self, prompt, kwargs, start)

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """Do as `stream_complete` does, without blocking."""

        async def start() -> CompletionResponseAsyncGen:
            chunks = await self._astream(self._asked(prompt, formatted), kwargs)
            return aconverted(chunks, StreamedAnswer().completion)

        return await aobserved(llm_completion_callback, self, prompt, kwargs, start)

    # -- one path below them -----------------------------------------------------------------------------------------

    def _complete(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> Routed:
        call = self._prepare(messages, kwargs)
        report(call.decision)
        candidate, answer = routed.call(self.router, call.decision, call.complete, usage_of)
        return Routed(decision=call.decision, candidate=candidate, response=answer)

    async def _acomplete(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> Routed:
        call = await asyncio.to_thread(self._prepare, messages, kwargs)
        report(call.decision)
        candidate, answer = await routed.acall(self.router, call.decision, call.acomplete, usage_of)
        return Routed(decision=call.decision, candidate=candidate, response=answer)

    def _stream(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> Generator[Routed, None, None]:
        call = self._prepare(messages, kwargs)
        report(call.decision)
        return converted(routed.stream(self.router, call.decision, call.stream, READER), call.labelled)

    async def _astream(
        self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]
    ) -> AsyncGenerator[Routed, None]:
        call = await asyncio.to_thread(self._prepare, messages, kwargs)
        report(call.decision)
        return aconverted(routed.astream(self.router, call.decision, call.astream, READER), call.labelled)

    def _prepare(self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any]) -> Call:
        """Convert and decide. It reads files, encodes and writes to the store: not for the event loop."""
        if len(self._models) < len(self.router.candidates):
            litellm_client.load_litellm()  # takes seconds the first time: not to be counted as a candidate's latency
        sent, conversation = to_openai(messages), Conversation.of(messages)
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        given = {**own, **{name: value for name, value in kwargs.items() if name not in (*_TERMS, "question")}}
        params = _keeping.check_params({name: value for name, value in given.items() if value is not None})
        terms = self._terms(kwargs)
        if "session" not in terms:
            terms["session"] = conversation.session(with_tools=bool(params.get("tools")))
        extracted = self.query_extractor(messages) if self.query_extractor is not None else None
        question = kwargs.get("question") or extracted or conversation.question
        routing = {**params, "question": question, "in_tool_loop": conversation.in_tool_loop}
        return Call(
            decision=self._decide(sent, routing, terms),
            messages=messages,
            sent=sent,
            params=params,
            timeout_s=self.router.config.calling.timeout_s,
            models=self._models,
        )

    def _terms(self, kwargs: Mapping[str, Any]) -> Terms:
        """Return what the router is told; what a call says counts more than the fields."""
        said = {name: kwargs[name] for name in _TERMS if name in kwargs}
        terms = {name: getattr(self, name) for name in _TERMS}
        if said.get("budget") is not None or said.get("willingness_to_pay") is not None:
            terms.update(budget=None, willingness_to_pay=None)  # they say the same thing in two ways
        terms.update(said)
        return cast(Terms, {name: value for name, value in terms.items() if value is not None})

    def _decide(self, messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any], terms: Terms) -> Decision:
        """Choose for messages in OpenAI's form; `params` also say the question and whether a tool loop is under way."""
        query = query_from_messages(
            messages,
            tools=params.get("tools"),
            response_format=params.get("response_format"),
            max_output_tokens=params.get("max_tokens") or params.get("max_completion_tokens"),
        )
        asked = replace(query, text=params["question"] or query.text, in_tool_loop=params["in_tool_loop"])
        return self.router.decide(asked, **terms)

    def _asked(self, prompt: str, formatted: bool) -> list[ChatMessage]:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return [ChatMessage(role=MessageRole.USER, content=prompt)]

    # -- tools -------------------------------------------------------------------------------------------------------

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: str | dict[str, Any] | None = None,
        must_call: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments for `chat`; the history itself is left as it is."""
        messages = list(chat_history or ())
        if user_msg is not None:
            messages.append(ChatMessage(content=user_msg) if isinstance(user_msg, str) else user_msg)
        required = tool_required or must_call
        params = _tools.tool_params(tools, tool_choice, required=required, parallel=allow_parallel_tool_calls)
        return {"messages": messages, **params, **kwargs}

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Keep one tool call where several were not allowed."""
        return response if allow_parallel_tool_calls else _tools.with_one_call(response)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tool calls of an answer or a chunk."""
        return _tools.selections(response, error_on_no_tool_call=error_on_no_tool_call)

    # -- copying -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Restore what `to_dict` wrote; keys come from the environment.

        Parameters
        ----------
        data : dict
            Written by `to_dict`.
        **kwargs
            Instead of what is written, as for `MixLLM`: a ``router`` or ``models`` where the LLM had them, or
            ``candidates`` with their keys.
        """
        made = {"candidates", "store"} if kwargs.get("router") is not None else set()
        return super().from_dict({name: value for name, value in data.items() if name not in made}, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Copy the settings; the router is shared, for a copy of what was learned would learn on its own."""
        return self.model_copy()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings and the candidates without their keys; another process makes a router of them."""
        _keeping.check_portable(self.candidates, self.models, self.store)
        kept = {name: value for name, value in self.__dict__.items() if name != "callback_manager"}
        return _made, (type(self), kept)


def _made(cls: type[MixLLM], fields: dict[str, Any]) -> MixLLM:
    return cls(**fields)
