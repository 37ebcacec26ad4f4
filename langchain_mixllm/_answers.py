"""What delegates answer -> what LangChain gets, marked with where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import BaseModel

from mixllm_engine import Candidate, Decision, Outcome
from mixllm_engine.calling.routed import Reader
from mixllm_engine.calling.usage import Usage
from mixllm_engine.prediction.cost import cost_usd

METADATA_KEY = "mixllm"
_ID_PREFIX = "mixllm-"
# Strings are joined and floats refused when chunks are merged, so these stand on exactly one.
_ON_ONE_CHUNK = ("model_name", "response_cost", METADATA_KEY)


def noted(message: BaseMessage | None) -> Mapping[str, Any]:
    """Return what an answer says of where it came from; nothing if it is none of ours."""
    said = message.response_metadata.get(METADATA_KEY) if message else None
    return said if isinstance(said, Mapping) else {}


def result_usage(result: ChatResult) -> Usage:
    """Read the usage of a whole answer."""
    message = result.generations[0].message if result.generations else None
    return _usage(message.usage_metadata) if isinstance(message, AIMessage) else Usage()


def _chunk_usage(chunk: ChatGenerationChunk) -> Usage | None:
    message = chunk.message
    return _usage(message.usage_metadata) if isinstance(message, AIMessage) and message.usage_metadata else None


def _usage(said: UsageMetadata | None) -> Usage:
    if said is None:
        return Usage()
    cached = said.get("input_token_details", {}).get("cache_read")
    counts = {"prompt_tokens": said["input_tokens"], "completion_tokens": said["output_tokens"]}
    return Usage.from_openai({**counts, "prompt_tokens_details": {"cached_tokens": cached}})


def _is_token(chunk: ChatGenerationChunk) -> bool:
    message = chunk.message
    calls = isinstance(message, AIMessageChunk) and message.tool_call_chunks
    return bool(message.content or calls or message.additional_kwargs.get("reasoning_content"))


CHUNK_READER: Reader[ChatGenerationChunk] = Reader(is_token=_is_token, usage=_chunk_usage)


def annotated(result: ChatResult, decision: Decision, candidate: Candidate, session: str | None = None) -> ChatResult:
    """Mark a whole answer, and make its metadata plain JSON."""
    cost = _cost(candidate, result_usage(result))
    for generation in result.generations:
        message = generation.message
        message.id = _ID_PREFIX + decision.decision_id
        message.additional_kwargs = plain(message.additional_kwargs)
        message.response_metadata = {
            **_without_singles(message.response_metadata),
            **_origin(decision, candidate, session),
            **cost,
        }
        generation.generation_info = plain(generation.generation_info)
    result.llm_output = plain(result.llm_output)
    return result


class StreamNotes:
    """Marks the chunks of one stream: origin on the first, usage and cost on one of its own at the end.

    Some providers report usage on every chunk, which merging would add up; the last report counts.
    """

    def __init__(self, decision: Decision, session: str | None = None) -> None:
        self._decision = decision
        self._session = session
        self._candidate: Candidate | None = None
        self._usage: UsageMetadata | None = None

    def mark(self, candidate: Candidate, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """Mark a chunk that is passed on."""
        message = chunk.message
        message.id = _ID_PREFIX + self._decision.decision_id
        message.response_metadata = _without_singles(message.response_metadata)
        if self._candidate is None:
            self._candidate = candidate
            message.response_metadata |= _origin(self._decision, candidate, self._session)
        if isinstance(message, AIMessageChunk):
            self._usage, message.usage_metadata = message.usage_metadata or self._usage, None
            message.chunk_position = None  # `last` follows
        if chunk.generation_info:
            chunk.generation_info = _without_singles(chunk.generation_info)
        return chunk

    def last(self) -> ChatGenerationChunk:
        """Return the chunk that ends the stream.

        Without one, LangChain adds its own, under another id.
        """
        cost = _cost(self._candidate, _usage(self._usage)) if self._candidate else {}
        message = AIMessageChunk(
            content="",
            id=_ID_PREFIX + self._decision.decision_id,
            usage_metadata=self._usage,
            response_metadata=cost,
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)


def _origin(decision: Decision, candidate: Candidate, session: str | None) -> dict[str, Any]:
    """Say who answered, which after a fallback is another than was decided, and how the conversation was named."""
    origin: dict[str, Any] = {
        "decision_id": decision.decision_id,
        "candidate": candidate.name,
        "model": candidate.model,
        "propensity": float(decision.propensity),
        "explored": bool(decision.explored),
    }
    if session is not None:
        origin["session"] = session
    return {"model_name": candidate.model, METADATA_KEY: origin}


def _without_singles(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key not in _ON_ONE_CHUNK}


def _cost(candidate: Candidate, usage: Usage) -> dict[str, float]:
    """Return the cost by the pool's prices, under the name that `ChatLiteLLM` gives it."""
    outcome = Outcome(
        candidate=candidate.name,
        prompt_tokens=usage.prompt_tokens,
        response_tokens=usage.response_tokens,
        cached_tokens=usage.cached_tokens,
    )
    cost = cost_usd(candidate, outcome)
    return {} if cost is None else {"response_cost": cost}


def plain(value: Any) -> Any:
    """Turn LiteLLM's objects, which LangChain can't serialise, into plain data."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
