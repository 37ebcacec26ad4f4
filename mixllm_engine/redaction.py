"""What must not be shown, stored, pickled or logged: which parameters hold secrets, and errors that repeat them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

HIDDEN: Final = "***"
# Parameters of LiteLLM such as aws_secret_access_key, azure_ad_token, vertex_credentials and extra_headers.
_SECRET: Final = re.compile(
    r"(?<![a-z])(api_?key|key|token|secret|credentials?|password|auth|authorization|headers?|cookies?)(?![a-z])",
    re.IGNORECASE,
)
# What is shorter is a placeholder such as "none"; to hide it would spoil any text.
_SHORTEST: Final = 8


def is_secret(name: str) -> bool:
    """Tell by its name whether a parameter or an environment variable may hold a secret.

    Examples
    --------
    >>> [name for name in ("aws_secret_access_key", "X-Api-Key", "max_tokens", "monkey") if is_secret(name)]
    ['aws_secret_access_key', 'X-Api-Key']
    """
    return bool(_SECRET.search(name))


def without_secrets(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters without those that hold secrets, at any depth; what holds no text holds no secret.

    Examples
    --------
    >>> without_secrets({"temperature": 1, "stop_token_ids": [2], "extra_body": {"auth": "sk-1", "user": "ada"}})
    {'temperature': 1, 'stop_token_ids': [2], 'extra_body': {'user': 'ada'}}
    """
    return {name: _plain(value) for name, value in params.items() if not (is_secret(name) and any(_texts(value)))}


def secrets_in(params: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts that `without_secrets` leaves out."""
    for name, value in params.items():
        if is_secret(name):
            yield from _texts(value)
        else:
            for nested in _mappings(value):
                yield from secrets_in(nested)


def without_password(address: str) -> str:
    """Return an address without a user, a password, or parts of its query that hold a secret.

    Examples
    --------
    >>> without_password("https://ada:1234@host:8080/v1?api-version=2&api-key=5678")
    'https://host:8080/v1?api-version=2'
    """
    try:
        parts = urlsplit(address)
    except ValueError:  # a broken IPv6 address; nothing can be told apart in it
        return HIDDEN
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = [pair for pair in query if not is_secret(pair[0])]
    shown = parts.query if len(kept) == len(query) else urlencode(kept)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=shown))


def secrets_of_environment() -> list[str]:
    """Return the values of the environment variables that are named like secrets: LiteLLM reads its keys there."""
    return [value for name, value in os.environ.items() if is_secret(name)]


def redact(error: BaseException, secrets: Collection[str]) -> None:
    """Replace secrets in the texts of an error, and of those that led to it, where they stand.

    Providers repeat a key that they refuse, and their libraries chain three or four errors with the same message.

    Parameters
    ----------
    error : BaseException
        Changed in place, so that whoever raises, logs or traces it shows no secret.
    secrets : collection of str
        Those of fewer than 8 characters are left alone.

    Examples
    --------
    >>> error = ValueError("wrong key sk-0123456789")
    >>> redact(error, ["sk-0123456789"])
    >>> error
    ValueError('wrong key ***')
    """
    known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
    waiting, seen = [error], set[int]()
    while known and waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if (args := _hidden(one.args, known)) != one.args:
            one.args = args
        vars(one).update({name: _hidden(value, known) for name, value in vars(one).items()})
        led_to_it = (one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ()))
        waiting += [other for other in led_to_it if other is not None]


def _hidden(value: Any, secrets: Collection[str]) -> Any:
    """Return texts, and plain collections of them, without secrets; anything else as it is."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
    elif type(value) is dict:
        return {key: _hidden(one, secrets) for key, one in value.items()}
    elif type(value) in (list, tuple):
        return type(value)(_hidden(one, secrets) for one in value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_secrets(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _mappings(one)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)
