"""A strategy for `litellm.Router`: among the deployments that LiteLLM finds healthy, the one that suits the query best.

LiteLLM keeps everything else: cooldowns, health checks, tags, orders, retries and fallbacks between groups. It is asked
who is healthy before the decision, and makes the last choice itself among the deployments of the chosen candidate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from litellm.router import Router as LiteLLMRouter
from litellm.types.router import RouterRateLimitError

from litellm_mixllm.answers import PREFIX
from litellm_mixllm.asking import as_query, terms_in
from litellm_mixllm.errors import as_litellm_errors
from litellm_mixllm.outcomes import Outcomes
from mixllm_engine import ConfigError, Decision, Router

_EXCLUDED = "_excluded_deployment_ids"
_CALL_ID = "litellm_call_id"
_PLAIN = "simple-shuffle"
_PROVIDER = "mixllm"


class MixLLMStrategy:
    """Choose among the deployments of a `litellm.Router`, and learn from what they bring.

    A deployment is the candidate whose name is its ``model_info["id"]``, else the one with its model. Several may be
    the same candidate; LiteLLM chooses among these by their weights. Groups of models in which no deployment is a
    candidate go on as without this strategy. Terms stand in a call's ``metadata={"mixllm": {"budget": "low"}}``.

    Feedback: `litellm_mixllm.decision_id_of` of the answer. Where the caller, or the proxy, set a ``litellm_call_id``,
    that is a reference for `Router.feedback` instead.

    Parameters
    ----------
    router : Router
        Who decides and learns.

    Examples
    --------
    >>> import litellm
    >>> from litellm_mixllm import decision_id_of
    >>> from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
    >>> with ScriptedServer() as server:
    ...     server.script("cheap", Reply(text="Good day."))
    ...     router = tiny_router(api_base=server.base_url)
    ...     address = {"api_base": server.base_url, "api_key": "none"}
    ...     models = [{"model_name": "any", "litellm_params": {"model": f"openai/{name}", **address}}
    ...               for name in ("cheap", "dear")]
    ...     llms = litellm.Router(model_list=models)
    ...     with MixLLMStrategy(router).attach(llms):
    ...         hello = [{"role": "user", "content": "Hello?"}]
    ...         answer = llms.completion("any", hello, metadata={"mixllm": {"force": "cheap"}})
    >>> answer.choices[0].message.content, router.feedback(decision_id_of(answer), 1.0).status
    ('Good day.', 'applied')
    """

    def __init__(self, router: Router) -> None:
        self.router = router
        self._outcomes = Outcomes(router)
        self._attached: LiteLLMRouter | None = None
        self._before: dict[str, Any] = {}

    def attach(self, litellm_router: LiteLLMRouter) -> Self:
        """Become the strategy of a `litellm.Router`; a context manager that ends it.

        Raises
        ------
        ConfigError
            If this is one's strategy already, that one has another strategy, or none of its deployments is a candidate.
        """
        if self._attached is not None:
            raise ConfigError("this strategy is attached already; make another one for another litellm.Router")
        if litellm_router.routing_strategy != _PLAIN:
            raise ConfigError(
                f"the litellm.Router has routing_strategy={litellm_router.routing_strategy!r}; leave it at {_PLAIN!r}, "
                "which MixLLM takes the place of"
            )
        if not any(self._candidate(one) for one in litellm_router.get_model_list() or ()):
            known = ", ".join(f"{one.name} ({one.model})" for one in self.router.candidates)
            raise ConfigError(
                "no deployment of the litellm.Router is a candidate: give it the name of one as model_info id, or the "
                f"model of one; the pool has {known}"
            )
        names = ("get_available_deployment", "async_get_available_deployment")
        self._before = {name: vars(litellm_router)[name] for name in names if name in vars(litellm_router)}
        self._attached = litellm_router
        litellm_router.set_custom_routing_strategy(self)  # type: ignore[arg-type]  # its base class returns None
        self._outcomes.listen()
        return self

    def detach(self) -> None:
        """Give the `litellm.Router` back what it had before."""
        if self._attached is None:
            return
        for name in ("get_available_deployment", "async_get_available_deployment"):
            vars(self._attached).pop(name, None)
        vars(self._attached).update(self._before)
        self._attached = None
        self._outcomes.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()

    # -- what LiteLLM calls ------------------------------------------------------------------------------------------

    def get_available_deployment(
        self,
        model: str,
        messages: list[dict[str, str]] | None = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return the deployment for a call."""
        llms, kwargs = self._litellm_router(), {} if request_kwargs is None else request_kwargs
        own: Callable[..., Any] = LiteLLMRouter.get_available_deployment.__get__(llms)
        asked = {"messages": messages, "input": input, "specific_deployment": specific_deployment}
        if self._is_to_decide(model, messages, specific_deployment):
            healthy = _healthy(lambda excluded: own(model, **asked, request_kwargs={**kwargs, _EXCLUDED: excluded}))
            with as_litellm_errors(model, _PROVIDER):
                self._decide(healthy, messages or [], kwargs)
        return own(model, **asked, request_kwargs=kwargs)

    async def async_get_available_deployment(
        self,
        model: str,
        messages: list[dict[str, str]] | None = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return the deployment for a call without blocking."""
        llms, kwargs = self._litellm_router(), {} if request_kwargs is None else request_kwargs
        own: Callable[..., Any] = LiteLLMRouter.async_get_available_deployment.__get__(llms)
        asked = {"messages": messages, "input": input, "specific_deployment": specific_deployment}
        if self._is_to_decide(model, messages, specific_deployment):
            healthy = await llms.async_get_healthy_deployments(model=model, **asked, request_kwargs=dict(kwargs))
            if isinstance(healthy, list):
                with as_litellm_errors(model, _PROVIDER):
                    await asyncio.to_thread(self._decide, healthy, messages or [], kwargs)
        return await own(model=model, **asked, request_kwargs=kwargs)

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _litellm_router(self) -> LiteLLMRouter:
        if self._attached is None:
            raise ConfigError("this strategy is of no litellm.Router: use strategy.attach(litellm_router)")
        return self._attached

    def _is_to_decide(self, model: str, messages: object, specific: bool | None) -> bool:
        group = self._litellm_router().get_model_list(model_name=model) or []
        return bool(messages) and not specific and any(self._candidate(one) for one in group)

    def _candidate(self, deployment: Mapping[str, Any]) -> str | None:
        """Return the name of the candidate that a deployment is."""
        names = {candidate.name for candidate in self.router.candidates}
        if (named := _id(deployment)) in names:
            return named
        model = deployment["litellm_params"]["model"]
        return next((one.name for one in self.router.candidates if model in (one.model, one.name)), None)

    def _decide(self, healthy: Sequence[Mapping[str, Any]], messages: list[Any], kwargs: dict[str, Any]) -> None:
        """Decide among healthy deployments, and leave LiteLLM no others to choose from."""
        candidates = {_id(one): self._candidate(one) for one in healthy}
        if not any(candidates.values()):
            return  # LiteLLM says best why there is nobody
        metadata = kwargs.get("metadata") or {}
        terms = terms_in(metadata)
        resting = {candidate.name for candidate in self.router.candidates} - set(candidates.values())
        terms["deny"] = [*(terms.get("deny") or ()), *sorted(resting)]
        terms.setdefault("session", kwargs.get("litellm_session_id"))
        decision = self.router.decide(as_query(messages, kwargs), **terms)
        others = [one for one, candidate in candidates.items() if candidate != decision.candidate]
        kwargs[_EXCLUDED] = [*(kwargs.get(_EXCLUDED) or ()), *others]
        kwargs["metadata"] = {**metadata, **self._outcomes.expect(decision)}
        self._name_call(decision, kwargs)

    def _name_call(self, decision: Decision, kwargs: dict[str, Any]) -> None:
        """Let the id of LiteLLM's call, which stands in every answer, lead to the decision."""
        given = kwargs.get(_CALL_ID)
        if isinstance(given, str) and not given.startswith(PREFIX):
            self.router.link(decision.decision_id, given)
        else:
            kwargs[_CALL_ID] = PREFIX + decision.decision_id


def _id(deployment: Mapping[str, Any]) -> str:
    return str((deployment.get("model_info") or {}).get("id"))


def _healthy(ask: Callable[[list[str]], Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Ask LiteLLM for one deployment after the other, until it has no more."""
    found: dict[str, Mapping[str, Any]] = {}
    while True:
        try:
            one = ask(list(found))
        except RouterRateLimitError:
            return list(found.values())
        if _id(one) in found:
            return list(found.values())
        found[_id(one)] = one
