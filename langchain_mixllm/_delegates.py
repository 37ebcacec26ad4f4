"""Candidate -> the LangChain chat model that answers for it: a `ChatLiteLLM` of our own, or one that was given."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, Self
from weakref import WeakKeyDictionary

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import SecretStr

from langchain_mixllm._calls import Call
from langchain_mixllm._foreign import ForeignModel, candidate_of, unwrapped
from mixllm_engine import Candidate, ConfigError, Router, UnknownCandidateError
from mixllm_engine.calling import litellm_client

if TYPE_CHECKING:
    from langchain_mixllm._chat_litellm import Delegate

_names: WeakKeyDictionary[Router, set[str]] = WeakKeyDictionary()


class Answering(Protocol):
    """Who answers calls: the four hooks of a chat model."""

    def generate(self, call: Call, candidate: Candidate) -> ChatResult:
        """Return an answer."""
        ...

    async def agenerate(self, call: Call, candidate: Candidate) -> ChatResult:
        """Return an answer without blocking."""
        ...

    def stream(self, call: Call, candidate: Candidate) -> Iterator[ChatGenerationChunk]:
        """Yield an answer in chunks."""
        ...

    def astream(self, call: Call, candidate: Candidate) -> AsyncIterator[ChatGenerationChunk]:
        """Yield an answer in chunks without blocking."""
        ...


def foreign_models(
    candidates: Sequence[str | Candidate | BaseChatModel],
    models: Mapping[str, BaseChatModel] | None,
    router: Router,
) -> dict[str, ForeignModel]:
    """Return the chat models that were given, by the names of their candidates.

    Raises
    ------
    UnknownCandidateError
        If `models` has a name that never was in the router's pool.
    """
    pool = [candidate.name for candidate in router.candidates]
    # A model that is rebuilt from its fields may name a candidate that has left the pool meanwhile.
    known = _names.setdefault(router, set())
    known.update(pool)
    if unknown := [name for name in models or {} if name not in known]:
        raise UnknownCandidateError(
            f"models= names {', '.join(map(repr, unknown))}, but the pool has {', '.join(map(repr, pool))}"
        )
    among_candidates = {candidate_of(given).name: given for given in candidates if isinstance(given, BaseChatModel)}
    return {name: ForeignModel(model) for name, model in {**among_candidates, **(models or {})}.items()}


@cache
def delegate_class() -> type[Delegate]:
    """Import what takes seconds, on first use; LiteLLM first, with its bundled price map."""
    litellm_client.load_litellm()
    from langchain_mixllm._chat_litellm import Delegate

    return Delegate


def with_key(candidate: Candidate, key: SecretStr | None, pool: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the chat model's key, if it has none of its own.

    Raises
    ------
    ConfigError
        If that key would go to several providers or endpoints.
    """
    if key is None or candidate.api_key is not None:
        return candidate
    keyless = [other for other in pool if other.api_key is None]
    if len({(other.model.partition("/")[0], other.api_base) for other in keyless}) > 1:
        names = ", ".join(repr(other.name) for other in keyless)  # not the addresses, which may hold passwords
        raise ConfigError(f"one api_key can't serve several providers or addresses, as of {names}: give each its own")
    return replace(candidate, api_key=key)


class LiteLLMModel:
    """Calls the four hooks of a `ChatLiteLLM`."""

    def __init__(self, delegate: Delegate) -> None:
        self.delegate = delegate

    def generate(self, call: Call, candidate: Candidate) -> ChatResult:
        """Return an answer."""
        return self.delegate._generate(stream=False, **self._arguments(call, candidate))

    async def agenerate(self, call: Call, candidate: Candidate) -> ChatResult:
        """Return an answer without blocking."""
        return await self.delegate._agenerate(stream=False, **self._arguments(call, candidate))

    def stream(self, call: Call, candidate: Candidate) -> Iterator[ChatGenerationChunk]:
        """Yield an answer in chunks."""
        return self.delegate._stream(**self._arguments(call, candidate))

    def astream(self, call: Call, candidate: Candidate) -> AsyncIterator[ChatGenerationChunk]:
        """Yield an answer in chunks without blocking."""
        return self.delegate._astream(**self._arguments(call, candidate))

    def _arguments(self, call: Call, candidate: Candidate) -> dict[str, Any]:
        given = call.arguments(candidate)
        if given.get("tools"):
            # It knows which choices the model's provider takes together with what else is sent.
            binding = self.delegate.bind_tools(given.pop("tools"), given.pop("tool_choice", None), **given)
            _, bound = unwrapped(binding, self.delegate)
            given = {name: value for name, value in bound.items() if name != "tool_choice" or value is not None}
        return {"messages": call.for_litellm, "timeout": call.timeout_s, **given}


class Delegates:
    """Who answers for each candidate: what was given, else a `ChatLiteLLM`.

    The latter is made on first use, and made anew when the candidate has changed. Threads that race make two of them,
    of which one stays: they are equal.

    Parameters
    ----------
    foreign : mapping of str to ForeignModel
        Chat models that were given, by name of the candidate.
    """

    def __init__(self, foreign: Mapping[str, ForeignModel]) -> None:
        self.foreign = foreign
        self._made: dict[str, tuple[Candidate, LiteLLMModel]] = {}

    def get(self, candidate: Candidate, key: SecretStr | None, pool: Sequence[Candidate]) -> Answering:
        """Return who answers for a candidate.

        Parameters
        ----------
        candidate : Candidate
            Of the pool.
        key : SecretStr, optional
            For candidates that have none of their own.
        pool : sequence of Candidate
            All candidates.

        Raises
        ------
        MissingKeyError
            If the provider needs a key; it names the variable to set.
        ConfigError
            If the key would go to several providers or endpoints.
        """
        if candidate.name in self.foreign:
            return self.foreign[candidate.name]
        keyed = with_key(candidate, key, [other for other in pool if other.name not in self.foreign])
        litellm_client.require_key(keyed)
        known = self._made.get(candidate.name)
        if known is None or known[0] != keyed:
            known = self._made[candidate.name] = (keyed, _make(keyed))
        return known[1]

    def prepare(self, pool: Sequence[Candidate]) -> None:
        """Import what takes seconds the first time, so that it is not counted as anybody's latency."""
        if any(candidate.name not in self.foreign for candidate in pool):
            delegate_class()

    def fingerprint(self, pool: Sequence[Candidate]) -> str:
        """Return what tells endpoints apart that must not share their cached answers.

        Nothing can be read from it: addresses and parameters may hold secrets.
        """
        given = [(name, model.fingerprint) for name, model in sorted(self.foreign.items())]
        endpoints = repr([given, *((c.api_base, sorted(c.params.items())) for c in pool)])
        return hashlib.sha256(endpoints.encode()).hexdigest()[:16]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Begin anew: delegates hold modules and connections, and are cheap to make. What was given is shared."""
        return type(self)(self.foreign)

    def __reduce__(self) -> tuple[type[Delegates], tuple[dict[str, ForeignModel]]]:
        """Begin anew in another process too; a delegate holds its candidate's key."""
        return (Delegates, ({},))


def _make(candidate: Candidate) -> LiteLLMModel:
    # The candidate's own parameters are no part of it: they are merged with those of each call.
    delegate = delegate_class()(
        model=candidate.model,
        api_base=candidate.api_base,
        api_key=litellm_client.endpoint_key(candidate),
        cache=False,
    )
    return LiteLLMModel(delegate)
