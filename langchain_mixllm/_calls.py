"""LangChain's messages and keyword arguments -> the query that is routed, and the arguments of the calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_mixllm._messages import for_litellm, outlines
from mixllm_engine import Candidate, ConfigError, Decision, Query, QueryError
from mixllm_engine.calling.messages import query_from_messages

QueryExtractor = Callable[[list[BaseMessage]], str]
"""What is routed on, of all messages of a call."""

TERMS = ("budget", "willingness_to_pay", "max_wait_s", "allow", "deny", "force", "session")
"""What a chat model or one call may say to the router; see `mixllm_engine.Router.decide`."""

PARAMETERS = ("temperature", "max_tokens", "timeout")
"""What a chat model says to every candidate."""

# LangChain's own: they speak to its tracer and to its choice of hook, not to a model.
_FRAMEWORK = ("ls_structured_output_format", "structured_output_format", "stream")
# A key or an address fits one candidate, and a call may go to any.
_ENDPOINT = ("api_key", "api_base", "base_url")


@dataclass(frozen=True, kw_only=True)
class Call:
    """A decided call: what all attempts have in common.

    Attributes
    ----------
    decision : Decision
        Who is to answer, and who if that fails.
    messages : list of BaseMessage
        As they were given.
    given : mapping
        Arguments from the call and the chat model; they win over a candidate's own parameters.
    timeout_s : float
        For candidates and calls that say nothing else.
    session : str, optional
        The name that this call gave its conversation, for later calls to find in the answer.
    """

    decision: Decision
    messages: list[BaseMessage]
    given: Mapping[str, Any]
    timeout_s: float
    session: str | None = None

    @cached_property
    def for_litellm(self) -> list[BaseMessage]:
        """The messages in the form in which `ChatLiteLLM` takes them."""
        return for_litellm(self.messages)

    def arguments(self, candidate: Candidate) -> dict[str, Any]:
        """Return the arguments for a candidate; its own parameters hold where the call says nothing."""
        return {**candidate.params, **self.given}


def split(kwargs: Mapping[str, Any], standing: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell what is for the router from what is for the model.

    Parameters
    ----------
    kwargs : mapping
        The keyword arguments of one call.
    standing : mapping
        The chat model's own terms, which hold where the call says nothing.

    Returns
    -------
    terms, params : dict
        Arguments of `Router.decide`, and of the model.

    Raises
    ------
    ConfigError
        If the call names a key or an address, or two different candidates.
    """
    given = dict(kwargs)
    for name in _ENDPOINT:
        if name in given:
            raise ConfigError(f"{name} can't be given per call, which may go to anyone: give it to the Candidate")
    for name in _FRAMEWORK:
        given.pop(name, None)
    said = {name: given.pop(name) for name in TERMS if name in given}
    if (model := given.pop("model", None)) is not None:
        if said.get("force", model) not in (None, model):
            raise ConfigError(f"model={model!r} and force={said['force']!r} name two candidates: give one of them")
        said["force"] = model
    # A budget is one way to say lambda: what the call says replaces either.
    replaced = {"budget", "willingness_to_pay"} if said.keys() & {"budget", "willingness_to_pay"} else set()
    terms = {name: value for name, value in standing.items() if name not in replaced} | said
    terms["deny"] = terms.get("deny") or ()
    return terms, given


def query_from(
    messages: list[BaseMessage], params: Mapping[str, Any], extractor: QueryExtractor | None = None
) -> Query:
    """Build the query for a conversation: the person's last request, or what the extractor says.

    Raises
    ------
    QueryError
        If there is nothing to route.
    """
    query = query_from_messages(
        outlines(messages),
        tools=params.get("tools"),
        response_format=params.get("response_format"),
        max_output_tokens=params.get("max_tokens") or params.get("max_completion_tokens"),
    )
    if extractor is None:
        return query
    text = extractor(messages)
    if not isinstance(text, str) or not text.strip():
        raise QueryError(f"query_extractor must return the text to route on, not {text!r}")
    return replace(query, text=text)
