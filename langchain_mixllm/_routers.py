"""The router that stands for the candidates which a chat model was given instead of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakSet

from langchain_core.language_models import BaseChatModel

from langchain_mixllm._foreign import candidate_of
from mixllm_engine import Candidate, ConfigError, Router

Given = str | Candidate | BaseChatModel

_made_here: WeakSet[Router] = WeakSet()


def make_router(fields: Mapping[str, Any]) -> Router:
    """Make the router for a chat model's fields, or raise `ConfigError` if there are no candidates."""
    if fields.get("candidates") is None:
        raise ConfigError("ChatMixLLM needs router=Router(...), or candidates=[...] to make one from")
    given: Sequence[Given] = fields["candidates"]
    candidates = [candidate_of(one) if isinstance(one, BaseChatModel) else one for one in given]
    router = Router(candidates, config=fields.get("config"), store=fields.get("store"))
    _made_here.add(router)
    return router


def check_either(router: Router, *instead: Any) -> None:
    """Raise `ConfigError` if there is both a router and what one is made from; copies of a chat model have both."""
    if router not in _made_here and any(instead):
        raise ConfigError("candidates, store and config make a router: give either them or router=")


def picklable(candidates: Sequence[Given] | None, models: Any) -> list[str | Candidate]:
    """Return candidates without secrets, from which another process can make the router anew.

    Raises
    ------
    TypeError
        If there are none, or chat models among them.
    """
    if candidates is None:
        raise TypeError("a ChatMixLLM with router= can't be pickled: give it candidates= and store= instead")
    described = [one for one in candidates if not isinstance(one, BaseChatModel)]
    if models or len(described) < len(candidates):
        raise TypeError("chat models may hold keys: a ChatMixLLM with any can't be pickled, give it Candidates instead")
    return [one if isinstance(one, str) else one.without_secrets() for one in described]
