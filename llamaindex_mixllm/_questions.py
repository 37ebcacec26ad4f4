"""What a call is routed by: the person's question, whether a tool loop is under way, and the run that it belongs to.

A prompt says more than what is asked: documents, the output of tools, instructions. None of these may choose the
candidate, so the question is looked for where it can be known::

    question=...                      of the call
    MixLLM.query_extractor            of the person who set the LLM up
    the template's query_str          what query engines put into their prompts (`Prompted`)
    the last request of the person    in a conversation; what ReAct says in the person's name is none
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.prompts import BasePromptTemplate
from llama_index_instrumentation.dispatcher import active_instrument_tags

SESSION_TAG = "mixllm.session"
"""Instrument tag that names the session of the calls inside ``with instrument_tags({"mixllm.session": "chat-7"}):``."""

_RUN_TAG = "llamaindex.run_id"  # set by LlamaIndex's workflows, and hence by its agents
_QUESTIONS = ("query_str", "question")
# A ReAct agent hands tool outputs and complaints to the model as if the person said them.
_SAID_BY_REACT = ("Observation: ", "Error while parsing the output: ")


class Prompted(list[ChatMessage]):
    """Messages that were made of a template, with the question that went into it."""

    def __init__(self, messages: Sequence[ChatMessage], question: str | None) -> None:
        super().__init__(messages)
        self.question = question


def question_in(prompt: BasePromptTemplate, arguments: Mapping[str, Any]) -> str | None:
    """Return the question among the variables of a template, or ``None``.

    Examples
    --------
    >>> from llama_index.core.prompts import PromptTemplate
    >>> question_in(PromptTemplate("{context_str} {query_str}"), {"context_str": "...", "query_str": "Why?"})
    'Why?'
    """
    values = {**prompt.kwargs, **arguments}
    found = (values.get(name) for name in _QUESTIONS)
    return next((value for value in found if isinstance(value, str) and value.strip()), None)


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """What is asked in a conversation, and where it stands.

    Attributes
    ----------
    requests : tuple of str
        All that the person said.
    in_tool_loop : bool
        Tools were called since the last request: the answer to that is still being worked out.
    prompted : str, optional
        The question in the template that the messages were made of.
    """

    requests: tuple[str, ...]
    in_tool_loop: bool
    prompted: str | None = None

    @classmethod
    def of(cls, messages: Sequence[ChatMessage]) -> Conversation:
        """Read a conversation.

        Examples
        --------
        >>> said = [("user", "1 + 2?"), ("assistant", "Thought: ... Action: add"), ("user", "Observation: 3")]
        >>> Conversation.of([ChatMessage(role=role, content=content) for role, content in said])
        Conversation(requests=('1 + 2?',), in_tool_loop=True, prompted=None)
        """
        requests: list[str] = []
        in_tool_loop, role = False, MessageRole.SYSTEM
        for message in messages:
            before, role = role, message.role
            by_react = before == MessageRole.ASSISTANT and _is_said_by_react(message)
            if role == MessageRole.USER and not by_react:
                requests.append(message.content or "")
                in_tool_loop = False
            in_tool_loop = in_tool_loop or by_react or _is_of_a_tool(message)
        prompted = messages.question if isinstance(messages, Prompted) else None
        return cls(requests=tuple(requests), in_tool_loop=in_tool_loop, prompted=prompted)

    @property
    def question(self) -> str | None:
        """The question of the template, or the last request, if it has any text."""
        last = self.prompted or (self.requests[-1] if self.requests else "")
        return last if last.strip() else None

    def session(self, *, with_tools: bool) -> str | None:
        """Return what the calls of one agent's run, or of one tool loop, have in common; ``None`` = no loop can come.

        Parameters
        ----------
        with_tools : bool
            Whether tools are offered: this call may begin a loop.
        """
        tags = active_instrument_tags.get()
        if SESSION_TAG in tags:
            return str(tags[SESSION_TAG])
        run = tags.get(_RUN_TAG)
        if run is None and not (with_tools or self.in_tool_loop):
            return None
        # A run may hold several conversations; outside of runs, all that the person said tells conversations apart.
        said = (str(run), *self.requests[-1:]) if run is not None else self.requests
        return f"loop-{blake2b(repr(said).encode(), digest_size=16).hexdigest()}"


def _is_said_by_react(message: ChatMessage) -> bool:
    return message.role == MessageRole.USER and (message.content or "").startswith(_SAID_BY_REACT)


def _is_of_a_tool(message: ChatMessage) -> bool:
    if message.role in (MessageRole.TOOL, MessageRole.FUNCTION):
        return True
    calls = any(isinstance(block, ToolCallBlock) for block in message.blocks)
    return calls or bool(message.additional_kwargs.get("tool_calls"))
