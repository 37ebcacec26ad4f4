"""What a candidate answered -> what the caller of ``mixllm/...`` gets: the same, with the decision and its cost.

LiteLLM charges what an answer says that it cost, where it says so: here, what the router reckons by the candidate's
prices. The candidate's own call is hidden from LiteLLM's callbacks (``no-log``), so that each answer counts once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing, closing
from typing import Any

from litellm.types.utils import ModelResponseStream, Usage

from litellm_mixllm.answers import NOTED, PREFIX
from mixllm_engine import Outcome
from mixllm_engine.calling import Routed
from mixllm_engine.calling.client import CHUNK_READER
from mixllm_engine.calling.usage import Usage as Tokens
from mixllm_engine.prediction.cost import cost_usd


def whole(routed: Routed) -> Any:
    """Return a whole answer that says where it came from and what it cost."""
    response = routed.response
    response.id = PREFIX + routed.decision.decision_id
    response.model = routed.candidate.model
    # LiteLLM's proxy writes the model that was asked for into its answers; this it sends as an HTTP header, behind
    # "llm_provider-".
    response._hidden_params = {**_noted(routed), "additional_headers": {"x-mixllm-candidate": routed.candidate.name}}
    if (cost := _cost_usd(routed)) is not None:
        response._hidden_params["response_cost"] = response.usage.cost = cost
    return response


def chunks(routed: Generator[Routed, None, None], asked: str) -> Generator[ModelResponseStream, None, None]:
    """Yield the chunks of an answer in the order that LiteLLM needs; `asked` is the model that was asked for."""
    parting = _Parting(asked)
    with closing(routed):
        for one in routed:
            yield from parting.now(one)
    yield from parting.end


async def achunks(routed: AsyncGenerator[Routed, None], asked: str) -> AsyncGenerator[ModelResponseStream, None]:
    """Do as `chunks` does, without blocking."""
    parting = _Parting(asked)
    async with aclosing(routed):
        async for one in routed:
            for chunk in parting.now(one):
                yield chunk
    for chunk in parting.end:
        yield chunk


class _Parting:
    """Parts what can be passed on from what has to wait for the end of the stream.

    LiteLLM reads nothing of a provider after the finish reason. That comes last, therefore, and the usage before it.
    """

    def __init__(self, asked: str) -> None:
        self.end: list[ModelResponseStream] = []
        self._asked: str | None = asked

    def now(self, routed: Routed) -> Iterator[ModelResponseStream]:
        """Yield what of a chunk can be passed on."""
        chunk = routed.response
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            billed = Usage(**{**usage.model_dump(), "cost": _cost_usd(routed)})
            self.end.insert(0, self._made(routed, choices=[], usage=billed))
        for choice in chunk.choices[:1]:
            why, delta = choice.finish_reason, choice.delta
            if why:
                self.end.append(self._made(routed, choices=[{"index": 0, "delta": {}, "finish_reason": why}]))
            if (why is None and usage is None) or CHUNK_READER.is_token(chunk):
                yield self._made(routed, choices=[{"index": 0, "delta": delta, "logprobs": choice.logprobs}])

    def _made(self, routed: Routed, **parts: Any) -> ModelResponseStream:
        # LiteLLM names an answer that it puts together by the first model that differs from the first chunk's; its own
        # chunks at the end of a stream bear the name that was asked for. So must the first, or that name would win.
        model, self._asked = self._asked or routed.candidate.model, None
        made = ModelResponseStream(
            id=PREFIX + routed.decision.decision_id, created=routed.response.created, model=model, **parts
        )
        made._hidden_params = _noted(routed)
        return made


def _noted(routed: Routed) -> dict[str, Any]:
    noted = {"decision_id": routed.decision.decision_id, "candidate": routed.candidate.name}
    return {NOTED: noted, "provider_response_model": routed.candidate.model}


def _cost_usd(routed: Routed) -> float | None:
    used = Tokens.from_openai(routed.response.usage)
    outcome = Outcome(
        candidate=routed.candidate.name,
        prompt_tokens=used.prompt_tokens,
        response_tokens=used.response_tokens,
        cached_tokens=used.cached_tokens,
    )
    return cost_usd(routed.candidate, outcome)
