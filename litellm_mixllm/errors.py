"""Failures as LiteLLM's own exceptions, so that its routers, its proxy and its users know what to do about them.

Where every candidate failed, what the last one raised is raised again, with a note of all the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from litellm import exceptions
from openai import OpenAIError

from mixllm_engine import AllCandidatesFailedError, ContextWindowError, MissingKeyError, MixLLMError, StoreError
from mixllm_engine.errors import StoreUnavailableError

_KINDS: tuple[tuple[type[MixLLMError], type[Exception]], ...] = (
    (ContextWindowError, exceptions.ContextWindowExceededError),
    (MissingKeyError, exceptions.AuthenticationError),
    (StoreUnavailableError, exceptions.ServiceUnavailableError),
    (StoreError, exceptions.InternalServerError),
    (MixLLMError, exceptions.BadRequestError),
)


@contextmanager
def as_litellm_errors(model: str, provider: str) -> Iterator[None]:
    """Raise the failures of a call as LiteLLM does; its own pass unchanged."""
    try:
        yield
    except AllCandidatesFailedError as error:
        last = next(reversed(error.causes.values()), None)
        if not isinstance(last, OpenAIError):
            raise _translated(last if isinstance(last, MixLLMError) else error, model, provider) from error
        last.add_note(str(error))
        vars(last)["decision_id"] = error.decision_id
        raise last from last.__cause__
    except MixLLMError as error:
        raise _translated(error, model, provider) from error


def unknown_model(model: str, provider: str, known: list[str]) -> Exception:
    """Return the error for a model that nobody registered."""
    names = ", ".join(f"{provider}/{name}" for name in known) or "none"
    message = f"no router is registered as {provider}/{model}; registered: {names}"
    return exceptions.NotFoundError(message=message, model=model, llm_provider=provider)


def _translated(error: MixLLMError, model: str, provider: str) -> Exception:
    if isinstance(error, AllCandidatesFailedError):  # of failures that are none of LiteLLM's
        made: Exception = exceptions.APIConnectionError(message=str(error), llm_provider=provider, model=model)
        vars(made)["decision_id"] = error.decision_id
        return made
    kind = next(kind for ours, kind in _KINDS if isinstance(error, ours))
    return kind(message=str(error), model=model, llm_provider=provider)  # type: ignore[call-arg]  # all but Exception
