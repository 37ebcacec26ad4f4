"""Every error that MixLLM raises on purpose.

Each class is also a standard-library error, so that callers who know nothing of MixLLM still catch the right thing::

    MixLLMError
    ├── ConfigError (ValueError)               a knob, budget word or combination that is not allowed
    ├── CandidateError (ValueError)            a candidate that can't be used as described
    │   ├── UnknownPriceError                  no price given and none in LiteLLM's map
    │   └── UnknownCandidateError (LookupError)    a name that is not in the pool
    ├── QueryError (ValueError)                an empty or unusable query
    ├── NoEligibleCandidateError (LookupError) every candidate is excluded; holds the reasons
    │   └── ContextWindowError                 the prompt fits no candidate's window
    ├── FeedbackError (ValueError)             a reward outside [0, 1]
    │   └── FeedbackTokenError                 a signed reference that is altered, expired or not ours
    ├── UnknownDecisionError (LookupError)     feedback or an outcome for a decision that the store doesn't hold
    ├── TableError (ValueError)                a table of outcomes that can't be learned from
    ├── EncoderError (RuntimeError)            weights that are missing, damaged or not the pinned ones
    ├── StateError (ValueError)                saved state that is damaged, foreign or of another version
    ├── StoreError (RuntimeError)              a database that is damaged, foreign or out of reach
    │   └── StoreUnavailableError              ... out of reach, or full: the same may succeed later
    └── CallError (RuntimeError)               calls to LLMs
        ├── MissingKeyError                    the provider's key is not set
        └── AllCandidatesFailedError           every attempt failed; holds every cause
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class MixLLMError(Exception):
    """Base of all errors of this package."""


class ConfigError(MixLLMError, ValueError):
    """A knob, budget or combination of arguments that is not allowed."""


class CandidateError(MixLLMError, ValueError):
    """A candidate can't be used as it is described."""


class UnknownPriceError(CandidateError):
    """A candidate has no price of its own and LiteLLM's map knows none."""


class UnknownCandidateError(CandidateError, LookupError):
    """A name that is not in the pool."""


class QueryError(MixLLMError, ValueError):
    """A query that can't be routed: empty, or with an unusable embedding."""


class NoEligibleCandidateError(MixLLMError, LookupError):
    """Every candidate is excluded for this query.

    Attributes
    ----------
    reasons : dict of str to str
        Why each candidate is excluded, by name.
    """

    def __init__(self, message: str, reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


class ContextWindowError(NoEligibleCandidateError):
    """The prompt is longer than every candidate's context window."""


class FeedbackError(MixLLMError, ValueError):
    """A reward that is not a number in [0, 1]."""


class FeedbackTokenError(FeedbackError):
    """A signed reference that was altered, has expired, or was signed with another secret."""


class UnknownDecisionError(MixLLMError, LookupError):
    """The store holds no decision with this id."""


class TableError(MixLLMError, ValueError):
    """A table of outcomes that can't be learned from."""


class EncoderError(MixLLMError, RuntimeError):
    """Encoder weights are missing, damaged, or not the pinned ones."""


class StateError(MixLLMError, ValueError):
    """Saved state is damaged, foreign, or of another version."""


class StoreError(MixLLMError, RuntimeError):
    """A store is damaged, foreign, or out of reach."""


class StoreUnavailableError(StoreError):
    """The database can't be reached or takes no more; the same may succeed later."""


class CallError(MixLLMError, RuntimeError):
    """A call to an LLM failed."""


class MissingKeyError(CallError):
    """A candidate's provider needs a key that is not set."""


class AllCandidatesFailedError(CallError):
    """Every candidate that was tried failed.

    Attributes
    ----------
    decision_id : str
        The decision whose attempts failed.
    causes : dict of str to BaseException
        The error of each candidate that was tried, by name, in the order of the attempts.
    """

    def __init__(self, decision_id: str, causes: Mapping[str, BaseException]) -> None:
        lines = "; ".join(f"{name}: {type(cause).__name__}: {_first_line(cause)}" for name, cause in causes.items())
        super().__init__(f"all {len(causes)} candidates failed for decision {decision_id}: {lines}")
        self.decision_id = decision_id
        self.causes = dict(causes)

    def __reduce__(self) -> tuple[Callable[..., AllCandidatesFailedError], tuple[Any, ...]]:
        """Survive copying between processes; of a provider's error only type and text go, not its HTTP request."""
        causes = {name: _told(cause) for name, cause in self.causes.items()}
        return (_again, (type(self), str(self), {**vars(self), "causes": causes}))


def _again(cls: type[AllCandidatesFailedError], message: str, state: Mapping[str, Any]) -> AllCandidatesFailedError:
    error = cls.__new__(cls, message)
    vars(error).update(state)
    return error


def _told(cause: BaseException) -> BaseException:
    """Return one of our errors as it is; the headers of another one's request hold the key, its body the prompt."""
    return cause if isinstance(cause, MixLLMError) else CallError(f"{type(cause).__name__}: {cause}")


def _first_line(cause: BaseException, limit: int = 200) -> str:
    text = str(cause).strip().splitlines()
    return text[0][:limit] if text else "no message"
