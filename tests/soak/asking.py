"""The ways to ask. Each returns what was answered, with the reference that its surface takes feedback by."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage
from llama_index.core.base.llms.types import ChatMessage

from langchain_mixllm import ChatMixLLM
from llamaindex_mixllm import MixLLM
from mixllm_engine import FeedbackReceipt, Router
from mixllm_engine.calling import Routed, RoutedClient


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was answered, or the beginning of it.

    Attributes
    ----------
    text : str
        What was read.
    decision_id, candidate : str
        Where it says that it came from.
    feedback : callable
        Gives feedback on it by the surface that it came through.
    """

    text: str
    decision_id: str
    candidate: str
    feedback: Callable[[float, str], FeedbackReceipt]


class Surfaces:
    """One router, and what people meet it as."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.client = RoutedClient(router)
        self.chat = ChatMixLLM(router=router)
        self.llm = MixLLM(router=router)

    def of_engine(self, chunks: list[Routed]) -> Answer:
        decision = chunks[0].decision
        return Answer(
            text="".join(chunk.text for chunk in chunks),
            decision_id=decision.decision_id,
            candidate=chunks[0].candidate.name,
            feedback=lambda reward, key: self.router.feedback(decision, reward, key),
        )

    def of_langchain(self, chunks: list[AIMessage]) -> Answer:
        said = next(chunk.response_metadata["mixllm"] for chunk in chunks if "mixllm" in chunk.response_metadata)
        first = chunks[0]
        return Answer(
            text="".join(chunk.text for chunk in chunks),
            decision_id=said["decision_id"],
            candidate=said["candidate"],
            feedback=lambda reward, key: self.chat.feedback(first, reward, key),
        )

    def of_llamaindex(self, chunks: list[Any]) -> Answer:
        last = chunks[-1]
        said = cast(Mapping[str, Any], last.raw)["mixllm"]
        decision_id = said["decision_id"]
        return Answer(
            text=last.message.content if hasattr(last, "message") else last.text,
            decision_id=decision_id,
            candidate=said["candidate"],
            feedback=lambda reward, key: self.llm.feedback(decision_id, reward, key),
        )


Way = Callable[[Surfaces, str, bool], Answer]
AsyncWay = Callable[[Surfaces, str, bool], Awaitable[Answer]]


def taken(chunks: Generator[Any, None, None], leave: bool) -> list[Any]:
    """Read a stream, or leave it when the first words have come."""
    with closing(chunks):
        read = []
        for chunk in chunks:
            read.append(chunk)
            if leave and said(chunk):
                break
        return read


async def ataken(chunks: AsyncGenerator[Any, None], leave: bool) -> list[Any]:
    """Do as `taken` does, without blocking."""
    async with aclosing(chunks):
        read = []
        async for chunk in chunks:
            read.append(chunk)
            if leave and said(chunk):
                break
        return read


def said(chunk: Any) -> str:
    """Return the words in a chunk of any surface."""
    return str(chunk.delta if hasattr(chunk, "delta") else chunk.text)


def _engine(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _llamaindex(prompt: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=prompt)]


async def _acomplete(to: Surfaces, prompt: str, leave: bool) -> Answer:
    return to.of_engine([await to.client.acomplete(_engine(prompt))])


async def _astream(to: Surfaces, prompt: str, leave: bool) -> Answer:
    decision = await to.client.adecide(_engine(prompt))
    return to.of_engine(await ataken(to.client.astream(_engine(prompt), decision=decision), leave))


async def _ainvoke(to: Surfaces, prompt: str, leave: bool) -> Answer:
    return to.of_langchain([await to.chat.ainvoke(prompt)])


async def _chat_astream(to: Surfaces, prompt: str, leave: bool) -> Answer:
    return to.of_langchain(await ataken(cast(AsyncGenerator[Any, None], to.chat.astream(prompt)), leave))


async def _achat(to: Surfaces, prompt: str, leave: bool) -> Answer:
    return to.of_llamaindex([await to.llm.achat(_llamaindex(prompt))])


async def _astream_chat(to: Surfaces, prompt: str, leave: bool) -> Answer:
    return to.of_llamaindex(await ataken(await to.llm.astream_chat(_llamaindex(prompt)), leave))


WHOLE: Mapping[str, Way] = {
    "engine.complete": lambda to, prompt, leave: to.of_engine([to.client.complete(_engine(prompt))]),
    "langchain.invoke": lambda to, prompt, leave: to.of_langchain([to.chat.invoke(prompt)]),
    "llamaindex.complete": lambda to, prompt, leave: to.of_llamaindex([to.llm.complete(prompt, formatted=True)]),
}
STREAMED: Mapping[str, Way] = {
    "engine.stream": lambda to, prompt, leave: to.of_engine(taken(to.client.stream(_engine(prompt)), leave)),
    "langchain.stream": lambda to, prompt, leave: to.of_langchain(
        taken(cast(Generator[Any, None, None], to.chat.stream(prompt)), leave)
    ),
    "llamaindex.stream_chat": lambda to, prompt, leave: to.of_llamaindex(
        taken(cast(Generator[Any, None, None], to.llm.stream_chat(_llamaindex(prompt))), leave)
    ),
}
AWHOLE: Mapping[str, AsyncWay] = {
    "engine.acomplete": _acomplete,
    "langchain.ainvoke": _ainvoke,
    "llamaindex.achat": _achat,
}
ASTREAMED: Mapping[str, AsyncWay] = {
    "engine.astream": _astream,
    "langchain.astream": _chat_astream,
    "llamaindex.astream_chat": _astream_chat,
}
