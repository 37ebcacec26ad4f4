"""`MixLLMMiddleware`: routes every model call of an agent between any chat models, and learns from feedback.

A call walks the path of all others (`mixllm_engine.calling.routed`): decided, tried with one candidate after the other,
recorded. What is called is the agent's own handler with the chosen model in its request, so that tools, structured
output and provider-specific middleware see the model that really answers. `_agent_calls` watches over each attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

try:
    from langchain.agents.middleware.types import AgentMiddleware, AgentState, ModelRequest
    from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
    from langchain.chat_models import init_chat_model
except ImportError as error:
    raise ImportError(
        'MixLLMMiddleware needs langchain, which is not installed: pip install "mixllm[agents]"'
    ) from error

from langchain_mixllm._agent_calls import AgentCall, Attempt, Response, as_failures
from langchain_mixllm._calls import QueryExtractor
from langchain_mixllm._delegates import Delegates, LiteLLMModel, foreign_models
from langchain_mixllm._foreign import ForeignModel
from langchain_mixllm._messages import for_litellm
from langchain_mixllm._references import Teachable
from langchain_mixllm._sessions import session_from
from langchain_mixllm.chat_models import ChatMixLLM
from langchain_mixllm.runnables import Decider
from mixllm_engine import Candidate, ConfigError, Router
from mixllm_engine.calling import routed
from mixllm_engine.decision.budget import Budget

Request: TypeAlias = ModelRequest[Any]


class MixLLMMiddleware(AgentMiddleware[AgentState[Any], Any, Any], Teachable):
    """Sends every model call of an agent to the LLM that suits it best, and learns from feedback.

    The query is the person's last message; tools, response format and attachments decide who is eligible. The thread
    is the session, and inside a tool loop the candidate never changes. The model that the agent was made with is never
    called. Put this middleware last, so that nothing but the model's own call is inside.

    Terms can also be given per call, in the config's ``configurable``: ``budget``, ``force`` and the like.

    Parameters
    ----------
    router : Router
        Who decides and learns.
    models : mapping of str to BaseChatModel or str, optional
        Who answers for a candidate, by its name: a chat model, or a text that ``init_chat_model`` understands. A
        `ChatLiteLLM` is made from the `Candidate` where none is given.
    budget : str or float, optional
        ``"very_low"`` to ``"very_high"``, or dollars per query on average.
    willingness_to_pay : float, optional
        The paper's lambda, instead of a budget.
    max_wait_s : float, optional
        An answer that is later than this is worth nothing.
    allow, deny : sequence of str, optional
        Names or wildcards of the candidates that may, or may not, be chosen.
    query_extractor : callable, optional
        From the messages to the text that is routed, where this is not the person's last message.

    Raises
    ------
    ConfigError
        If a model is none that an agent can call.
    UnknownCandidateError
        If `models` has a name that is not in the pool.

    Examples
    --------
    >>> from langchain.agents import create_agent
    >>> from langchain_core.language_models import FakeListChatModel
    >>> from mixllm_engine.testing import tiny_router
    >>> models = {name: FakeListChatModel(responses=[f"Hello from {name}."]) for name in ("cheap", "dear")}
    >>> middleware = MixLLMMiddleware(tiny_router(), models=models, budget="very_low")
    >>> agent = create_agent(models["dear"], middleware=[middleware])
    >>> answer = agent.invoke({"messages": [("user", "Hello?")]})["messages"][-1]
    >>> answer.text, answer.response_metadata["mixllm"]["candidate"]
    ('Hello from cheap.', 'cheap')
    >>> middleware.feedback(answer, 1.0).status
    'applied'
    """

    def __init__(
        self,
        router: Router,
        models: Mapping[str, BaseChatModel | str] | None = None,
        *,
        budget: Budget | None = None,
        willingness_to_pay: float | None = None,
        max_wait_s: float | None = None,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] = (),
        query_extractor: QueryExtractor | None = None,
    ) -> None:
        super().__init__()
        self.router = router
        self._decider = Decider(
            router=router,
            budget=budget,
            willingness_to_pay=willingness_to_pay,
            max_wait_s=max_wait_s,
            allow=allow,
            deny=deny,
            query_extractor=query_extractor,
        )
        given = {name: _chat_model(name, model) for name, model in (models or {}).items()}
        self._delegates = Delegates(foreign_models((), given, router))

    def wrap_model_call(self, request: Request, handler: Callable[[Request], Response]) -> Response:
        """Answer one model call of the agent.

        Raises
        ------
        AllCandidatesFailedError
            If every candidate failed; it is also the exception that LangChain has for the last failure.
        ConfigError
            If the agent's own model routes too.
        """
        with as_failures():
            call = self._decide(request)

            def attempt(candidate: Candidate) -> Attempt:
                with call.attempt(candidate) as attempt:
                    attempt.response = handler(self._request(request, candidate))
                return attempt

            _, answer = routed.call(self.router, call.decision, attempt, Attempt.usage)
        self.router.link(call.decision.decision_id, *answer.names)
        return answer.outcome()

    async def awrap_model_call(self, request: Request, handler: Callable[[Request], Awaitable[Response]]) -> Response:
        """Do as `wrap_model_call` does, without blocking."""
        with as_failures():
            call = await asyncio.to_thread(self._decide, request)

            async def attempt(candidate: Candidate) -> Attempt:
                with call.attempt(candidate) as attempt:
                    attempt.response = await handler(self._request(request, candidate))
                return attempt

            _, answer = await routed.acall(self.router, call.decision, attempt, Attempt.usage)
        await asyncio.to_thread(self.router.link, call.decision.decision_id, *answer.names)
        return answer.outcome()

    def _decide(self, request: Request) -> AgentCall:
        if isinstance(request.model, ChatMixLLM):
            raise ConfigError(
                "this agent's model is a ChatMixLLM, which routes by itself, so every call would be decided twice: "
                "leave MixLLMMiddleware out, or make the agent with one of the models that it routes between"
            )
        self._delegates.prepare(self.router.candidates)
        needs = _needs(request)
        session, is_new = session_from(request.messages, has_tools="tools" in needs)
        system = [request.system_message] if request.system_message else []
        decision = self._decider.choose([*system, *request.messages], needs, session)
        return AgentCall(decision=decision, session=session if is_new else None)

    def _request(self, request: Request, candidate: Candidate) -> Request:
        """Return the request as a candidate's model takes it; the agent's own settings win over its parameters."""
        settings = {**candidate.params, **request.model_settings}
        answering = self._delegates.get(candidate, None, self.router.candidates)
        if isinstance(answering, ForeignModel):
            return request.override(model=answering.model, model_settings=settings)
        return request.override(
            model=cast(LiteLLMModel, answering).delegate,
            messages=cast(list[AnyMessage], for_litellm(request.messages)),
            model_settings={"timeout": self.router.config.calling.timeout_s, **settings},
        )


def _needs(request: Request) -> dict[str, Any]:
    """Return what a request asks of the candidate, in OpenAI's form."""
    tools = [tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in request.tools]
    needs: dict[str, Any] = {"max_tokens": request.model_settings.get("max_tokens")}
    wanted = request.response_format
    if isinstance(wanted, ProviderStrategy):
        needs |= wanted.to_model_kwargs()
    elif wanted is not None:
        # A schema without a strategy is left to LangChain, for which every model can do it that has tools.
        schema = wanted.schema if isinstance(wanted, AutoStrategy) else wanted
        strategy = schema if isinstance(schema, ToolStrategy) else ToolStrategy(schema)
        tools += [{"name": spec.name, "parameters": spec.json_schema} for spec in strategy.schema_specs]
    return {**needs, "tools": tools} if tools else needs


def _chat_model(name: str, given: BaseChatModel | str) -> BaseChatModel:
    model = init_chat_model(given) if isinstance(given, str) else given
    if isinstance(model, ChatMixLLM):
        raise ConfigError(f"models[{name!r}] is a ChatMixLLM, which routes by itself: decisions would nest")
    if not isinstance(model, BaseChatModel):
        raise ConfigError(
            f"models[{name!r}] is a {type(model).__name__}: give a chat model with nothing bound or wrapped around it, "
            "or its name for init_chat_model"
        )
    return model
