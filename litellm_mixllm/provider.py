"""A provider for LiteLLM whose models are routers: each call to ``mixllm/auto`` is answered by one of its candidates.

How a call flows::

    litellm.completion(model="mixllm/auto", ...)      LiteLLM's callbacks, cost and budget see this call alone
      -> asking.Asked                                 terms for the router, parameters for the candidate
      -> Router.decide                                before a stream is returned; never on the event loop
      -> RoutedClient                                 one HTTP request per attempt, fallback before the first token
      -> labelling                                    id, name of the model, cost
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Generator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from itertools import islice
from typing import Any

from litellm.llms.custom_llm import CustomLLM
from litellm.types.utils import ModelResponseStream

from litellm_mixllm import labelling
from litellm_mixllm.asking import Asked
from litellm_mixllm.errors import as_litellm_errors, unknown_model
from mixllm_engine import Decision, Router
from mixllm_engine.calling import RoutedClient

# LiteLLM's callbacks are told of the outer call.
_HIDDEN = {"no-log": True}


class MixLLMProvider(CustomLLM):
    """Routers as models of a provider of LiteLLM's; `register` puts one in place.

    For `litellm.custom_provider_map`, or the ``custom_handler`` in a proxy's configuration.

    Parameters
    ----------
    routers : mapping of str to Router
        Who answers, by the name of the model behind ``<provider>/``. May be changed while it serves.
    """

    def __init__(self, routers: Mapping[str, Router]) -> None:
        super().__init__()
        self.routers = routers

    # LiteLLM calls all four by keyword and from a worker thread on its async paths, so what comes before the first
    # `await` does not block the event loop. It runs in the caller's context: `track_decisions` sees the decision.

    def completion(self, *args: Any, **given: Any) -> Any:
        """Return a whole answer."""
        with self._errors(given):
            client, asked, decision = self._decided(given)
            return labelling.whole(client.complete(asked.messages, asked.params, decision=decision))

    def acompletion(self, *args: Any, **given: Any) -> Any:
        """Decide, and return what waits for a whole answer."""
        with self._errors(given):
            client, asked, decision = self._decided(given)
        return self._awaited(given, client.acomplete(asked.messages, asked.params, decision=decision))

    def streaming(self, *args: Any, **given: Any) -> Generator[Any, None, None]:
        """Return the chunks of an answer that has begun."""
        with self._errors(given):
            client, asked, decision = self._decided(given)
            answer = client.stream(asked.messages, asked.params, decision=decision)
            chunks = labelling.chunks(answer, given["model"])
            # LiteLLM expects the request to be made by now: what fails later, it takes for a stream that broke off.
            begun = list(islice(chunks, 1))
        return self._streamed(given, begun, chunks)

    def astreaming(self, *args: Any, **given: Any) -> Any:
        """Decide, and return the chunks of an answer, to be read without blocking; the request is made by the first.

        LiteLLM takes a failure before the first chunk for a `MidStreamFallbackError`, unless it is the caller's fault
        (a status from 400 to 499 but 429); its ``original_exception`` is what failed.
        """
        with self._errors(given):
            client, asked, decision = self._decided(given)
        answer = client.astream(asked.messages, asked.params, decision=decision)
        return self._astreamed(given, labelling.achunks(answer, given["model"]))

    def _decided(self, given: Mapping[str, Any]) -> tuple[RoutedClient, Asked, Decision]:
        router = self._router(given)
        asked = Asked.of(given)
        asked.params.update(_HIDDEN)
        return RoutedClient(router), asked, router.decide(asked.query, **asked.terms)

    def _router(self, given: Mapping[str, Any]) -> Router:
        routers = dict(self.routers)
        if (router := routers.get(given["model"])) is None:
            raise unknown_model(given["model"], _provider(given), sorted(routers))
        return router

    @contextmanager
    def _errors(self, given: Mapping[str, Any]) -> Iterator[None]:
        with as_litellm_errors(given["model"], _provider(given)):
            yield

    async def _awaited(self, given: Mapping[str, Any], answer: Awaitable[Any]) -> Any:
        with self._errors(given):
            return labelling.whole(await answer)

    def _streamed(
        self,
        given: Mapping[str, Any],
        begun: list[ModelResponseStream],
        rest: Generator[ModelResponseStream, None, None],
    ) -> Generator[ModelResponseStream, None, None]:
        with self._errors(given), closing(rest):
            yield from begun
            yield from rest

    async def _astreamed(
        self, given: Mapping[str, Any], chunks: AsyncGenerator[ModelResponseStream, None]
    ) -> AsyncGenerator[ModelResponseStream, None]:
        with self._errors(given):
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk


def _provider(given: Mapping[str, Any]) -> str:
    settings = given.get("litellm_params") or {}
    return str(settings.get("custom_llm_provider") or "mixllm")
