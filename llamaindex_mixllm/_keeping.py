"""What a `MixLLM` was made of, as plain data without keys: that is what is serialised and pickled."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

from llama_index.core.llms.llm import LLM
from sqlalchemy.engine import make_url

from llamaindex_mixllm._delegates import described
from mixllm_engine import Candidate, CandidateError, ConfigError

Plain = str | dict[str, Any]

_HIDDEN = "***"  # SQLAlchemy's
_ENDPOINT = ("api_key", "api_base", "base_url")


def read_candidates(
    given: Iterable[str | Candidate | LLM | Mapping[str, Any]],
) -> tuple[list[str | Candidate], dict[str, LLM]]:
    """Tell plain candidates, and those that were serialised, from LlamaIndex LLMs.

    Returns
    -------
    pool : list of str or Candidate
        All of them, for a router.
    models : dict of str to LLM
        The LlamaIndex LLMs by the names that they have in the pool.
    """
    if isinstance(given, str | Candidate | LLM):
        raise CandidateError("candidates must be a list of candidates, got a single one; put it in brackets")
    pool: list[str | Candidate] = []
    models: dict[str, LLM] = {}
    for one in given:
        if isinstance(one, LLM):
            candidate = described(one)
            models[candidate.name] = one
            pool.append(candidate)
        else:
            pool.append(Candidate(**one) if isinstance(one, Mapping) else one)
    return pool, models


def plain(candidate: str | Candidate) -> Plain:
    """Return a candidate as plain data; keys, headers and what else is secret is left to the environment.

    Examples
    --------
    >>> plain(Candidate(name="a", model="openai/a", api_key="sk-1", params={"temperature": 1, "azure_ad_token": "x"}))
    {'name': 'a', 'model': 'openai/a', 'params': {'temperature': 1}}
    """
    if isinstance(candidate, str):
        return candidate
    shown = candidate.without_secrets()
    fields = {field.name: getattr(shown, field.name) for field in dataclasses.fields(shown)}
    return {name: value for name, value in fields.items() if value not in (None, {})}


def plain_store(store: str | PathLike[str] | None) -> str | None:
    """Return where a store is, without a password.

    Examples
    --------
    >>> plain_store("postgresql://ada:1234@db/mixllm")
    'postgresql://ada:***@db/mixllm'
    """
    if store is None:
        return None
    place = os.fspath(store)
    return make_url(place).render_as_string(hide_password=True) if "://" in place else place


def check_store(store: str | PathLike[str] | None) -> str | PathLike[str] | None:
    """Return a store that can be opened, or raise `ConfigError` if its password was left out."""
    if _lacks_password(store):
        raise ConfigError(f"the password of {store} was not kept: give store=... again")
    return store


def check_portable(candidates: object, models: Iterable[str], store: str | None) -> None:
    """Raise `TypeError` if another process could not make what this one has."""
    advice = "send llm.to_dict(), and give the rest to MixLLM.from_dict there"
    if candidates is None:
        raise TypeError(f"a MixLLM with router= can't be pickled: give it candidates= and store= instead, or {advice}")
    if list(models):
        raise TypeError(f"a MixLLM with LlamaIndex LLMs can't be pickled, for they may hold keys: {advice}")
    if _lacks_password(store):
        raise TypeError(f"a MixLLM can't be pickled with the password of its store: {advice}")


def check_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a call, or raise `ConfigError` if they can't be given to one."""
    for name in _ENDPOINT:
        if name in params:
            raise ConfigError(f"{name} can't be given per call, which may go to anyone: give it to the Candidate")
    if "model" in params:
        raise ConfigError("model can't be given per call: say force='<name of a candidate>'")
    if "stream" in params:
        raise ConfigError("stream can't be given to a call: ask by stream_chat or stream_complete")
    return params


def check_models(models: Mapping[str, LLM] | Iterable[str], names: Iterable[str]) -> dict[str, LLM]:
    """Return the LlamaIndex LLMs by name.

    Raises
    ------
    ConfigError
        If they are the names alone, as after serialising, or one of them is not in the pool.
    """
    if not isinstance(models, Mapping):
        wanted = {name: "llm" for name in models}
        if not wanted:
            return {}
        raise ConfigError(
            f"LlamaIndex LLMs are no part of to_dict, for they may hold keys: give models={wanted!r} to from_dict, "
            "each name with its LLM"
        )
    known = set(names)
    for name, llm in models.items():
        if name not in known:
            raise ConfigError(f"models names {name!r}, which is not in the pool: {', '.join(map(repr, sorted(known)))}")
        if not isinstance(llm, LLM):
            raise ConfigError(f"models[{name!r}] must be a LlamaIndex LLM, got {type(llm).__name__}")
    return dict(models)


def _lacks_password(store: str | PathLike[str] | None) -> bool:
    return isinstance(store, str) and "://" in store and make_url(store).password == _HIDDEN
