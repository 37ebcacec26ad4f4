"""Candidate -> the LangChain chat model that answers for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from pydantic import SecretStr

from mixllm_engine import Candidate, ConfigError
from mixllm_engine.calling import litellm_client

if TYPE_CHECKING:
    from langchain_mixllm._chat_litellm import Delegate


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
    places = {(other.model.partition("/")[0], other.api_base) for other in pool if other.api_key is None}
    if len(places) > 1:
        names = ", ".join(sorted(f"{provider} at {address or 'its own address'}" for provider, address in places))
        raise ConfigError(f"one api_key can't serve several providers ({names}): give each Candidate its own")
    return replace(candidate, api_key=key)


class Delegates:
    """One delegate per candidate, made on first use and made anew when the candidate has changed.

    Threads that race make two of them, of which one stays: they are equal.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[Candidate, Delegate]] = {}

    def get(self, candidate: Candidate) -> Delegate:
        """Return a candidate's delegate, or raise `MissingKeyError` that names the variable to set."""
        litellm_client.require_key(candidate)
        known = self._made.get(candidate.name)
        if known is None or known[0] != candidate:
            known = self._made[candidate.name] = (candidate, _make(candidate))
        return known[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Begin anew: delegates hold modules and connections, and are cheap to make."""
        return type(self)()

    def __reduce__(self) -> tuple[type[Delegates], tuple[()]]:
        """Begin anew in another process too; a delegate holds its candidate's key."""
        return (Delegates, ())


def _make(candidate: Candidate) -> Delegate:
    # The candidate's own parameters are no part of it: they are merged with those of each call.
    return delegate_class()(
        model=candidate.model,
        api_base=candidate.api_base,
        api_key=litellm_client.endpoint_key(candidate),
        cache=False,
    )
