"""An exception of a provider -> the kind of failure. Classes lie about the cause, so the HTTP status decides first.

LiteLLM reports a refused connection as a 500, a missing key as a 500 or a 401, and a 401 as a bad request.
"""

from __future__ import annotations

import asyncio

from mixllm_engine.errors import MissingKeyError
from mixllm_engine.types import ErrorKind

_BY_STATUS: dict[int, ErrorKind] = {
    400: "bad_request",
    401: "auth",
    403: "auth",
    404: "not_found",
    408: "timeout",
    413: "context_window",
    422: "bad_request",
    429: "rate_limit",
    504: "timeout",
}
# Parts of class names, of any provider's library, in the order in which they are looked for.
_BY_NAME: tuple[tuple[str, ErrorKind], ...] = (
    ("contextwindow", "context_window"),
    ("contextoverflow", "context_window"),
    ("timeout", "timeout"),
    ("ratelimit", "rate_limit"),
    ("authentication", "auth"),
    ("permissiondenied", "auth"),
    ("midstream", "broken_stream"),
    ("apiconnection", "unavailable"),
    ("connect", "unavailable"),
    ("serviceunavailable", "unavailable"),
    ("internalserver", "unavailable"),
    ("badgateway", "unavailable"),
    ("notfounderror", "not_found"),
    ("badrequest", "bad_request"),
    ("invalidrequest", "bad_request"),
    ("budgetexceeded", "rate_limit"),
    ("apiresponsevalidation", "unavailable"),
    ("apierror", "unavailable"),
    ("remoteprotocol", "broken_stream"),
)


def classify(error: BaseException) -> ErrorKind | None:
    """Return the kind of a provider's failure, or ``None`` if this is no provider's failure but a bug.

    Examples
    --------
    >>> classify(TimeoutError())
    'timeout'
    >>> classify(TypeError("no such argument")) is None
    True
    """
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit):
        return "cancelled"
    if isinstance(error, MissingKeyError):
        return "auth"
    names = [cls.__name__.lower() for cls in type(error).__mro__]
    if any("contextwindow" in name or "contextoverflow" in name for name in names):
        return "context_window"
    if getattr(error, "code", None) == "context_length_exceeded":  # worded as LiteLLM doesn't know it
        return "context_window"
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 400:
        return _BY_STATUS.get(status, "unavailable" if status >= 500 else "bad_request")
    for name in names:
        for part, kind in _BY_NAME:
            if part in name:
                return kind
    return "unavailable" if isinstance(error, OSError) else None
