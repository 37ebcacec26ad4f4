"""LangChain's messages and keyword arguments -> the query that is routed, and the arguments of the calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, convert_to_openai_messages

from mixllm_engine import Candidate, ConfigError, Decision, Query
from mixllm_engine.calling.messages import query_from_messages

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
        As delegates understand them.
    given : mapping
        Arguments from the call and the chat model; they win over a candidate's own parameters.
    timeout_s : float
        For candidates and calls that say nothing else.
    """

    decision: Decision
    messages: list[BaseMessage]
    given: Mapping[str, Any]
    timeout_s: float

    def arguments(self, candidate: Candidate) -> dict[str, Any]:
        """Return the keyword arguments for a hook of the candidate's delegate."""
        return {"messages": self.messages, "timeout": self.timeout_s, **candidate.params, **self.given}


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


def query_from(messages: Sequence[BaseMessage], params: Mapping[str, Any]) -> Query:
    """Build the query for messages that are `normalised`."""
    return query_from_messages(
        convert_to_openai_messages(messages),
        tools=params.get("tools"),
        response_format=params.get("response_format"),
        max_output_tokens=params.get("max_tokens") or params.get("max_completion_tokens"),
    )


def normalised(message: BaseMessage) -> BaseMessage:
    """Rewrite what `ChatLiteLLM` drops or passes on although LiteLLM refuses it; the message itself stays as it is."""
    changes: dict[str, Any] = {}
    if isinstance(message, HumanMessage) and message.name:
        changes["additional_kwargs"] = {"name": message.name, **message.additional_kwargs}
    if isinstance(message.content, list) and any(map(_is_anthropic_image, message.content)):
        changes["content"] = [_image_url(block) if _is_anthropic_image(block) else block for block in message.content]
    return message.model_copy(update=changes) if changes else message


def _is_anthropic_image(block: Any) -> bool:
    return isinstance(block, Mapping) and block.get("type") == "image" and isinstance(block.get("source"), Mapping)


def _image_url(block: Any) -> dict[str, Any]:
    source = block["source"]
    url = source["url"] if source.get("type") == "url" else f"data:{source['media_type']};base64,{source['data']}"
    return {"type": "image_url", "image_url": {"url": url}}
