"""`MixLLMRunnable`: the decision alone, as a step of a chain or a graph that calls its LLMs itself.

`Decider` holds what all surfaces share that decide but leave the call to somebody else: this runnable, the middleware
and the decision model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableConfig, RunnableSerializable, ensure_config
from pydantic import BaseModel, ConfigDict, Field

from langchain_mixllm._calls import TERMS, QueryExtractor, query_from, split
from langchain_mixllm._loops import decide
from langchain_mixllm._references import CandidateName as CandidateName  # public here, where it is returned
from langchain_mixllm._references import Teachable
from langchain_mixllm._sessions import session_from, terms_of
from mixllm_engine import ConfigError, Decision, QueryError, Router
from mixllm_engine.decision.budget import Budget

Routable: TypeAlias = LanguageModelInput | BaseMessage | Mapping[str, Any]
"""What can be routed: what a chat model takes, or the state of a graph under ``"messages"`` or ``"input"``."""

_STATE_KEYS = ("messages", "input")
# What a call may say about itself besides its terms: it counts for what a candidate must be able to do.
_ABOUT_THE_CALL = ("tools", "response_format", "max_tokens", "max_completion_tokens")


class Decider(BaseModel, Teachable):
    """What decides, and on which terms; see `MixLLMRunnable` for the parameters."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    router: Router = Field(exclude=True, repr=False)
    budget: Budget | None = None
    willingness_to_pay: float | None = None
    max_wait_s: float | None = None
    allow: Sequence[str] | None = None
    deny: Sequence[str] = ()
    force: str | None = None
    session: str | None = None
    query_extractor: QueryExtractor | None = Field(default=None, exclude=True, repr=False)

    def choose(
        self, messages: list[BaseMessage], given: Mapping[str, Any], session: str | None, excluded: Sequence[str] = ()
    ) -> Decision:
        """Choose who answers a conversation; terms may also stand in the ``configurable`` of the config around.

        Parameters
        ----------
        messages : list of BaseMessage
            The whole prompt.
        given : mapping
            Terms for this call, which win, and what it says about itself, such as its tools.
        session : str, optional
            The conversation, where no term names it.
        excluded : sequence of str
            Candidates that may not be chosen, whatever the terms say.

        Raises
        ------
        ConfigError
            If something is given that no decision depends on.
        """
        terms, about = split({**terms_of(ensure_config()), **given}, {name: getattr(self, name) for name in TERMS})
        if unknown := about.keys() - set(_ABOUT_THE_CALL):
            allowed = ", ".join((*TERMS, *_ABOUT_THE_CALL))
            raise ConfigError(f"no decision depends on {', '.join(sorted(unknown))}; allowed are {allowed}")
        query = query_from(messages, about, self.query_extractor)
        terms["session"] = terms.get("session") or session
        terms["deny"] = (*terms["deny"], *excluded)
        return decide(self.router, query, messages, terms)


class MixLLMRunnable(RunnableSerializable[Routable, Decision | CandidateName], Decider):
    """Say who should answer; nobody is called.

    For graphs and chains that call their LLMs themselves: as a node, as a conditional edge, before a branch. Every
    parameter from `budget` to `session` can also be given per call, by keyword, by ``bind``, or in the config's
    ``configurable``. So can what the answer needs: ``tools``, ``response_format`` and ``max_tokens``.

    Parameters
    ----------
    router : Router
        Who decides and learns.
    output : str
        ``"decision"`` for the `Decision`, ``"name"`` for the chosen candidate's name, a text that feedback accepts too.
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
        The conversation; by default the ``thread_id`` of the config.
    query_extractor : callable, optional
        From the messages to the text that is routed, where this is not the person's last message.

    Examples
    --------
    >>> from mixllm_engine.testing import tiny_router
    >>> route = MixLLMRunnable(router=tiny_router(), output="name", budget="very_low")
    >>> name = route.invoke({"messages": [("user", "Hello?")]})
    >>> name, route.invoke("Hello?", config={"configurable": {"force": "dear"}})
    ('cheap', 'dear')
    >>> route.feedback(name, 1.0).candidate
    'cheap'
    """

    output: Literal["decision", "name"] = "decision"

    def invoke(self, input: Routable, config: RunnableConfig | None = None, **kwargs: Any) -> Decision | CandidateName:
        """Choose who answers.

        Parameters
        ----------
        input : str, message, sequence of messages, prompt value, or mapping
            What is asked; a mapping holds it under ``"messages"`` or ``"input"``.
        config : RunnableConfig, optional
            May hold terms, and the thread.
        **kwargs
            Terms, and what the answer needs.

        Raises
        ------
        ConfigError, QueryError, UnknownCandidateError, NoEligibleCandidateError
            As `Router.decide` does.
        """
        return self._call_with_config(self._route, input, config, **kwargs)

    async def ainvoke(
        self, input: Routable, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Decision | CandidateName:
        """Do as `invoke` does, without blocking: a decision encodes the query and writes to the store."""
        return await self._acall_with_config(self._aroute, input, config, **kwargs)

    def _route(self, given: Routable, **kwargs: Any) -> Decision | CandidateName:
        messages = messages_of(given)
        session, _ = session_from(messages, has_tools=False)
        decision = self.choose(messages, kwargs, session)
        return decision if self.output == "decision" else CandidateName.of(decision)

    async def _aroute(self, given: Routable, **kwargs: Any) -> Decision | CandidateName:
        return await asyncio.to_thread(self._route, given, **kwargs)


def messages_of(given: Any) -> list[BaseMessage]:
    """Return what is to be routed as messages.

    Raises
    ------
    QueryError
        If there are none.
    """
    match given:
        case str():
            return [HumanMessage(given)]
        case BaseMessage():
            return [given]
        case PromptValue():
            return given.to_messages()
        case Mapping():
            for name in _STATE_KEYS:
                if name in given:
                    return messages_of(given[name])
        case Sequence() if given:
            return convert_to_messages(given)
    raise QueryError(
        f"a {type(given).__name__} can't be routed as it is: give a text, messages, a prompt value, "
        'or a mapping with one of these under "messages" or "input"'
    )
