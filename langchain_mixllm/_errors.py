"""Failures as LangChain's own exceptions too, so that its middleware knows what to do about them.

``except AllCandidatesFailedError`` and ``except ModelRateLimitError`` both catch what is raised here. The class is that
of the last attempt's failure; whether a retry makes sense is asked of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)

from mixllm_engine import AllCandidatesFailedError
from mixllm_engine.calling.failures import classify
from mixllm_engine.errors import CallError, ContextWindowError, MixLLMError
from mixllm_engine.types import ErrorKind

_RETRYABLE = ("rate_limit", "timeout", "unavailable", "broken_stream")


class _Failed(AllCandidatesFailedError, ModelError):
    """Every candidate that was tried failed."""

    def __init__(self, decision_id: str, causes: Mapping[str, BaseException]) -> None:
        super().__init__(decision_id, causes)
        self.is_retryable = any(classify(cause) in _RETRYABLE for cause in causes.values())


class FailedAuthenticationError(_Failed, ModelAuthenticationError):
    """The last candidate refused its key, or has none."""


class FailedPermissionError(_Failed, ModelPermissionDeniedError):
    """The last candidate's key does not allow this."""


class FailedRateLimitError(_Failed, ModelRateLimitError):
    """The last candidate's rate limit is reached."""


class FailedTimeoutError(_Failed, ModelTimeoutError):
    """The last candidate did not answer in time."""


class FailedConnectionError(_Failed, ModelConnectionError):
    """The last candidate could not be reached, or its answer broke off."""


class FailedAPIError(_Failed, ModelAPIError):
    """The last candidate's server failed."""


class FailedContextOverflowError(_Failed, ContextOverflowError):
    """The prompt was too long for the last candidate."""


class FailedInvalidRequestError(_Failed, ModelInvalidRequestError):
    """The last candidate found the request wrong."""


class FailedNotFoundError(_Failed, ModelNotFoundError):
    """The last candidate's model is not known at its endpoint."""


class PromptOverflowError(ContextWindowError, ContextOverflowError):
    """The prompt is longer than every candidate's context window."""


class BrokenAnswerError(CallError, ModelConnectionError):
    """An answer broke off after some of it had been passed on, so nobody else could begin it again."""


_BY_KIND: dict[ErrorKind, type[_Failed]] = {
    "auth": FailedAuthenticationError,
    "rate_limit": FailedRateLimitError,
    "timeout": FailedTimeoutError,
    "unavailable": FailedAPIError,
    "broken_stream": FailedConnectionError,
    "context_window": FailedContextOverflowError,
    "bad_request": FailedInvalidRequestError,
    "not_found": FailedNotFoundError,
}


@contextmanager
def as_langchain_errors() -> Iterator[None]:
    """Raise the failures of a call as LangChain's exceptions too; what is no failure of a model passes unchanged."""
    try:
        yield
    except AllCandidatesFailedError as error:
        if (kind := _class_for(error)) is None:
            raise
        raise kind(error.decision_id, error.causes) from error.__cause__
    except ContextWindowError as error:
        raise PromptOverflowError(str(error), error.reasons) from error
    except (MixLLMError, ModelError):
        raise
    except Exception as error:  # a provider's, after the first token; a bug has no kind and stays what it is
        if classify(error) is None:
            raise
        raise BrokenAnswerError(f"the answer broke off: {type(error).__name__}: {error}") from error


def _class_for(error: AllCandidatesFailedError) -> type[_Failed] | None:
    last = next(reversed(error.causes.values()), None)
    kind = classify(last) if last is not None else None
    if kind is None or last is None:
        return None
    if kind == "auth" and getattr(last, "status_code", None) == 403:
        return FailedPermissionError
    if kind == "unavailable" and any("connect" in cls.__name__.lower() for cls in type(last).__mro__):
        return FailedConnectionError
    return _BY_KIND.get(kind)
