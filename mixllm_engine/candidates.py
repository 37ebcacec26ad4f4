"""The pool of candidates: what each costs, what it can do, and which of them may answer a query.

Prices, limits and abilities that a candidate leaves open come from the model map that LiteLLM carries. The map is
read as a file: importing LiteLLM takes seconds, and its import would ask the network for a newer map.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mixllm_engine.errors import CandidateError, ConfigError, QueryError, UnknownCandidateError, UnknownPriceError
from mixllm_engine.types import CAPABILITIES, Candidate, Capability, Vector

_MAP_FILE = "model_prices_and_context_window_backup.json"
_PER_MTOK = 1_000_000
_LONGEST_NAME = 256  # what has room in a store
# field of Candidate -> (key in LiteLLM's map, factor)
_NUMBERS = {
    "input_usd_per_mtok": ("input_cost_per_token", _PER_MTOK),
    "output_usd_per_mtok": ("output_cost_per_token", _PER_MTOK),
    "cached_input_usd_per_mtok": ("cache_read_input_token_cost", _PER_MTOK),
    "context_window": ("max_input_tokens", 1),
    "max_output_tokens": ("max_output_tokens", 1),
}
_ABILITIES: dict[Capability, str] = {
    "tools": "supports_function_calling",
    "json_schema": "supports_response_schema",
    "images": "supports_vision",
    "pdf": "supports_pdf_input",
    "audio": "supports_audio_input",
}


@cache
def _model_map() -> Mapping[str, Mapping[str, Any]]:
    spec = importlib.util.find_spec("litellm")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / _MAP_FILE
        if path.is_file():
            entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
            return entries
    return {}


def _map_entry(model: str) -> Mapping[str, Any]:
    """Find a model in LiteLLM's map: by its full name, else without the provider if the provider is the entry's."""
    entries = _model_map()
    if model in entries:
        return entries[model]
    provider, _, rest = model.partition("/")
    entry = entries.get(rest, {})
    return entry if str(entry.get("litellm_provider", "")).startswith(provider) else {}


def resolve(candidate: str | Candidate) -> Candidate:
    """Check a candidate and fill what it leaves open from LiteLLM's map.

    Parameters
    ----------
    candidate : str or Candidate
        A LiteLLM model name is short for a candidate of that name and model.

    Returns
    -------
    Candidate
        With both prices known and every ability ``True`` or ``False``.

    Raises
    ------
    UnknownPriceError
        If a price is neither given nor in the map.
    CandidateError
        If a value makes no sense.
    """
    if isinstance(candidate, str):
        candidate = Candidate(name=candidate, model=candidate)
    if not isinstance(candidate, Candidate):
        raise CandidateError(f"a candidate is a LiteLLM model name or a Candidate, not {type(candidate).__name__}")
    _check_types(candidate)
    if not candidate.name.strip() or not candidate.model.strip():
        raise CandidateError(f"a candidate needs a name and a model, got {candidate.name!r} and {candidate.model!r}")
    entry = _map_entry(candidate.model)
    found: dict[str, Any] = {}
    for attribute, (key, factor) in _NUMBERS.items():
        if getattr(candidate, attribute) is None and isinstance(entry.get(key), int | float):
            found[attribute] = entry[key] * factor
    for capability, key in _ABILITIES.items():
        if getattr(candidate, f"supports_{capability}") is None:
            found[f"supports_{capability}"] = bool(entry.get(key, False))
    resolved = dataclasses.replace(candidate, **found)
    _check(resolved)
    return resolved


def _check_types(candidate: Candidate) -> None:
    """Refuse values of other types, as files may hold them, and names that no store can keep."""
    for name in ("name", "model", "api_base"):
        value = getattr(candidate, name)
        if value is None and name == "api_base":
            continue
        if not is_plain(value):
            raise CandidateError(f"a candidate's {name} must be plain text, got {value!r}")
    if len(candidate.name) > _LONGEST_NAME:
        raise CandidateError(f"a candidate's name has at most {_LONGEST_NAME} characters, got {len(candidate.name)}")
    for name in (*_NUMBERS, "tokens_per_s", "startup_s"):
        value = getattr(candidate, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.number)):
            raise CandidateError(f"candidate {candidate.name!r}: {name}={value!r} must be a number")
    for capability in CAPABILITIES:
        value = getattr(candidate, f"supports_{capability}")
        if value is not None and not isinstance(value, bool):
            raise CandidateError(f"candidate {candidate.name!r}: supports_{capability}={value!r} must be true or false")
    if not isinstance(candidate.params, Mapping) or not all(isinstance(name, str) for name in candidate.params):
        raise CandidateError(f"candidate {candidate.name!r}: params must be a mapping of names to values")


def is_plain(text: object) -> bool:
    """Tell whether this is a text that every store can keep: no NUL in it, and no half of a character."""
    if not isinstance(text, str) or "\0" in text:
        return False
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


def _check(candidate: Candidate) -> None:
    prices = ("input_usd_per_mtok", "output_usd_per_mtok")
    missing = [name for name in prices if getattr(candidate, name) is None]
    if missing:
        raise UnknownPriceError(
            f"no price is known for candidate {candidate.name!r} (model {candidate.model!r}): "
            f"give {' and '.join(f'{name}=...' for name in missing)}, in US dollars per million tokens"
        )
    for name in (*prices, "cached_input_usd_per_mtok", "startup_s"):
        value = getattr(candidate, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise CandidateError(
                f"candidate {candidate.name!r}: {name}={value!r} must be a finite number of at least 0"
            )
    for name in ("context_window", "max_output_tokens", "tokens_per_s"):
        value = getattr(candidate, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise CandidateError(f"candidate {candidate.name!r}: {name}={value!r} must be a finite number above 0")


class Pool:
    """An immutable set of candidates in the order of their names, with prices and limits as arrays.

    The order in which they are given does not matter: neither to scores and ties nor to exploring draws.

    Parameters
    ----------
    candidates : iterable of str or Candidate
        Model names or candidates; names must be unique.

    Raises
    ------
    CandidateError
        If there is none, a name occurs twice, or one can't be resolved.
    """

    def __init__(self, candidates: Iterable[str | Candidate]) -> None:
        if isinstance(candidates, str | Candidate):
            raise CandidateError("candidates must be a list of candidates, got a single one; put it in brackets")
        if not isinstance(candidates, Iterable):
            given = type(candidates).__name__
            raise CandidateError(f"candidates must be a list of LiteLLM model names or Candidate objects, got {given}")
        resolved = [resolve(candidate) for candidate in candidates]
        self.candidates = tuple(sorted(resolved, key=lambda candidate: candidate.name))
        if not self.candidates:
            raise CandidateError("a router needs at least one candidate; give LiteLLM model names or Candidate objects")
        self.names = tuple(candidate.name for candidate in self.candidates)
        self.index = {name: position for position, name in enumerate(self.names)}
        if len(self.index) < len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise CandidateError(f"candidate names must be unique; given more than once: {', '.join(map(repr, twice))}")

    def __len__(self) -> int:
        """Count the candidates."""
        return len(self.candidates)

    def __getitem__(self, name: str) -> Candidate:
        """Return a candidate by name, or raise `UnknownCandidateError` that lists the names."""
        return self.candidates[self.position(name)]

    def position(self, name: str) -> int:
        """Return a candidate's place in every array, or raise `UnknownCandidateError`."""
        if not isinstance(name, str) or name not in self.index:
            raise UnknownCandidateError(f"unknown candidate {name!r}; the pool has {', '.join(map(repr, self.names))}")
        return self.index[name]

    @cached_property
    def input_price(self) -> Vector:
        """Dollars per prompt token, shape (K,)."""
        return self._array("input_usd_per_mtok") / _PER_MTOK

    @cached_property
    def output_price(self) -> Vector:
        """Dollars per response token, shape (K,)."""
        return self._array("output_usd_per_mtok") / _PER_MTOK

    @cached_property
    def window(self) -> Vector:
        """Context windows in tokens, infinite where unknown, shape (K,)."""
        return self._array("context_window", unknown=np.inf)

    @cached_property
    def longest_answer(self) -> Vector:
        """Output limits in tokens, infinite where unknown, shape (K,)."""
        return self._array("max_output_tokens", unknown=np.inf)

    @cached_property
    def smallest_window(self) -> float:
        """The smallest context window in tokens."""
        return float(self.window.min())

    def _array(self, attribute: str, unknown: float = 0.0) -> Vector:
        values = (getattr(candidate, attribute) for candidate in self.candidates)
        return np.array([unknown if value is None else value for value in values], dtype=np.float64)

    def excluded(
        self,
        *,
        needs: Iterable[Capability] = (),
        tokens: int = 0,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] = (),
    ) -> dict[int, str]:
        """Say which candidates may not answer, and why.

        Parameters
        ----------
        needs : iterable of str
            Capabilities that the answer needs.
        tokens : int
            Prompt and reserved answer, which the context window must hold.
        allow, deny : sequence of str
            Names or wildcards such as ``"openai/*"``; ``deny`` wins.

        Returns
        -------
        dict of int to str
            Reason by position; candidates that are not in it may answer.
        """
        reasons: dict[int, str] = {}
        if tokens > self.smallest_window:
            for position in np.flatnonzero(self.window < tokens).tolist():
                window = int(self.window[position])
                reasons[position] = f"context window of {window} tokens is less than the {tokens} needed"
        for need in needs:
            reasons |= self._unable(need)
        if allow is not None or not isinstance(deny, tuple) or deny:
            reasons |= self._unwanted(allow, deny)
        return reasons

    def _unable(self, need: Capability) -> dict[int, str]:
        if not isinstance(need, str) or need not in CAPABILITIES:
            raise QueryError(f"unknown capability {need!r}; allowed: {', '.join(CAPABILITIES)}")
        reason = f"does not support {need} (say supports_{need}=True if it does)"
        return {position: reason for position, c in enumerate(self.candidates) if not c.supports(need)}

    def _unwanted(self, allow: Sequence[str] | None, deny: Sequence[str]) -> dict[int, str]:
        for which, patterns in (("allow", allow), ("deny", deny)):
            if patterns is not None and (isinstance(patterns, str) or not isinstance(patterns, Sequence | Set)):
                raise ConfigError(f"{which}={patterns!r} must be a list of names or wildcards")
        allow, deny = None if allow is None else tuple(allow), tuple(deny or ())
        self._check_patterns((*(allow or ()), *deny))
        reasons = {}
        for position, name in enumerate(self.names):
            if any(fnmatchcase(name, pattern) for pattern in deny):
                reasons[position] = "denied for this call"
            elif allow is not None and not any(fnmatchcase(name, pattern) for pattern in allow):
                reasons[position] = "not among those allowed for this call"
        return reasons

    def _check_patterns(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            if not isinstance(pattern, str) or not any(fnmatchcase(name, pattern) for name in self.names):
                known = ", ".join(map(repr, self.names))
                raise ConfigError(f"{pattern!r} in allow or deny matches no candidate; the pool has {known}")

    def joined(self, candidate: str | Candidate, like: str | None = None) -> Pool:
        """Return a pool that has one candidate more; if it is like another, that one must be in this pool."""
        if like is not None:
            self.position(like)
        return Pool((*self.candidates, resolve(candidate)))

    def without(self, name: str) -> Pool:
        """Return a pool that has one candidate less."""
        gone = self[name]
        return Pool(candidate for candidate in self.candidates if candidate is not gone)
