"""One HTTP request per attempt, fallback before the first token only, and streams that close."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from litellm.exceptions import MidStreamFallbackError, RateLimitError

from langchain_mixllm import ChatMixLLM
from mixllm_engine import AllCandidatesFailedError, Candidate, MissingKeyError, Router
from mixllm_engine.testing import Cut, Failure, Hang, HashingEncoder, Reply, ScriptedServer, tiny_pool
from tests.langchain.conftest import Ask

LONG = Reply(text="word " * 200, token_delay_s=0.05)


def decision_of(message: Any) -> str:
    return str(message.response_metadata["mixllm"]["decision_id"])


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(status=429), "rate_limit"),
        (Failure(status=500), "unavailable"),
        (Failure(status=401), "auth"),
        (Hang(seconds=5), "timeout"),
    ],
    ids=["429", "500", "401", "timeout"],
)
async def test_a_failure_costs_one_request_and_the_next_answers(
    ask: Ask, llm: ChatMixLLM, server: ScriptedServer, failure: Any, kind: str
) -> None:
    server.script("cheap", failure)
    message = await ask(llm, "Hello?", timeout=0.3 if kind == "timeout" else 5)

    assert message.text == "Hello from dear to you"
    assert (server.count("cheap"), server.count("dear")) == (1, 1)
    assert message.response_metadata["mixllm"]["candidate"] == "dear"
    assert message.response_metadata["model_name"] == "openai/dear"
    outcomes = llm.router.explain(decision_of(message)).outcomes
    assert [(outcome.candidate, outcome.error) for outcome in outcomes] == [("cheap", kind), ("dear", None)]
    assert llm.feedback(message, 1.0).candidate == "dear"


async def test_the_models_own_timeout_holds(ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
    server.script("cheap", Hang(seconds=5))

    assert (await ask(ChatMixLLM(router=llm.router, budget="very_low", timeout=0.3), "Hello?")).text[:15] == (
        "Hello from dear"
    )


async def test_max_retries_limits_the_further_candidates(ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
    server.script("cheap", Failure(status=500))

    with pytest.raises(AllCandidatesFailedError, match="all 1 candidates failed"):
        await ask(llm, "Hello?", max_retries=0)
    assert server.count("dear") == 0


async def test_all_fail(ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
    server.script("cheap", Failure(status=429))
    server.script("dear", Failure(status=500))

    with pytest.raises(AllCandidatesFailedError, match="all 2 candidates failed") as caught:
        await ask(llm, "Hello?")

    assert list(caught.value.causes) == ["cheap", "dear"]
    assert isinstance(caught.value.causes["cheap"], RateLimitError)
    assert (server.count("cheap"), server.count("dear")) == (1, 1)
    assert llm.feedback(caught.value.decision_id, 0.0).status == "applied"


async def test_an_answer_that_breaks_off_is_not_begun_again(
    ask: Ask, llm: ChatMixLLM, server: ScriptedServer, request: pytest.FixtureRequest
) -> None:
    server.script("cheap", Cut(text="One two three four", after_tokens=2))
    if "stream" in request.node.name:
        with pytest.raises(MidStreamFallbackError, match="closed connection|not completed"):
            await ask(llm, "Hello?")
        assert (server.count("cheap"), server.count("dear")) == (1, 0)
    else:  # nobody has seen anything of it yet
        assert (await ask(llm, "Hello?")).text == "Hello from dear to you"
        assert (server.count("cheap"), server.count("dear")) == (1, 1)


def test_what_was_streamed_before_a_break_stays(llm: ChatMixLLM, server: ScriptedServer) -> None:
    server.script("cheap", Cut(text="One two three four", after_tokens=2))
    seen = []
    with pytest.raises(MidStreamFallbackError, match="closed connection"):
        for chunk in llm.stream("Hello?"):
            seen.append(chunk)

    assert "".join(chunk.text for chunk in seen) == "One two"
    (outcome,) = llm.router.explain(decision_of(seen[0])).outcomes
    assert outcome.error == "broken_stream"


class TestKeys:
    @pytest.fixture
    def mixed(self, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ChatMixLLM:
        monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
        keyless = Candidate(name="claude", model="anthropic/claude-x", input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
        pool = [keyless, *tiny_pool(api_base=server.base_url)]
        return ChatMixLLM(router=Router(pool, encoder=HashingEncoder(), seed=0), willingness_to_pay=0.0)

    async def test_others_answer_where_a_key_is_missing(self, ask: Ask, mixed: ChatMixLLM) -> None:
        message = await ask(mixed, "Hello?", allow=["claude", "cheap"])

        assert message.response_metadata["mixllm"]["candidate"] == "cheap"

    async def test_the_error_names_the_variable(self, ask: Ask, mixed: ChatMixLLM) -> None:
        with pytest.raises(AllCandidatesFailedError, match="set ANTHROPIC_API_KEY") as caught:
            await ask(mixed, "Hello?", force="claude")
        assert isinstance(caught.value.causes["claude"], MissingKeyError)

    async def test_a_candidates_own_key_is_sent(self, ask: Ask, server: ScriptedServer) -> None:
        (candidate,) = tiny_pool(api_base=server.base_url, names=["cheap"])
        own = replace(candidate, api_key="sk-own")
        await ask(ChatMixLLM(router=Router([own], encoder=HashingEncoder())), "Hello?")

        assert server.requests[-1].api_key == "sk-own"

    async def test_the_models_key_serves_those_without_one(self, ask: Ask, server: ScriptedServer) -> None:
        cheap, dear = tiny_pool(api_base=server.base_url)
        own = replace(dear, api_key="sk-own")
        model = ChatMixLLM(router=Router([cheap, own], encoder=HashingEncoder()), api_key="sk-common")  # type: ignore[arg-type]
        await ask(model, "Hello?", force="cheap")
        await ask(model, "Hello?", force="dear")

        assert [request.api_key for request in server.requests] == ["sk-common", "sk-own"]

    async def test_no_key_is_sent_to_an_endpoint_of_ones_own(
        self, ask: Ask, llm: ChatMixLLM, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-paid")
        await ask(llm, "Hello?")

        assert server.requests[-1].api_key != "sk-paid"

    async def test_one_key_for_several_providers_is_refused(self, ask: Ask, mixed: ChatMixLLM) -> None:
        model = ChatMixLLM(router=mixed.router, api_key="sk-common")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="one api_key can't serve several providers"):
            await ask(model, "Hello?")


class TestLeavingEarly:
    """A consumer that goes away ends the HTTP response; nobody is blamed."""

    @pytest.fixture(autouse=True)
    def _long(self, server: ScriptedServer) -> None:
        server.script("cheap", LONG)

    async def settled(self, llm: ChatMixLLM, server: ScriptedServer, decision_id: str) -> None:
        seen = await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 1.0)
        assert not seen.finished
        (outcome,) = llm.router.explain(decision_id).outcomes
        assert outcome.error == "cancelled"
        stats = llm.router.stats()
        assert stats["candidates"]["cheap"]["labels"] == 0
        assert stats["candidates"]["cheap"]["in_flight"] == 0
        assert stats["feedback_applied"] == 0
        assert server.count("dear") == 0
        assert llm.router.decide("Next?", willingness_to_pay=0.0).candidate == "cheap"  # it is not paused either

    async def test_break(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        seen = []
        for chunk in llm.stream("Hello?"):
            seen.append(chunk)
            break
        await self.settled(llm, server, decision_of(seen[0]))

    async def test_close(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        with closing(llm.stream("Hello?")) as chunks:  # type: ignore[type-var]
            first = next(chunks)
        await self.settled(llm, server, decision_of(first))

    async def test_async_break(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        seen = []
        async for chunk in llm.astream("Hello?"):
            seen.append(chunk)
            break
        await self.settled(llm, server, decision_of(seen[0]))

    async def test_async_close(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        async with aclosing(llm.astream("Hello?")) as chunks:  # type: ignore[type-var]
            first = await anext(chunks)
        await self.settled(llm, server, decision_of(first))

    async def test_break_of_a_chain(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        async for _ in (llm | StrOutputParser()).astream("Hello?"):
            break
        await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 1.0)

    async def test_cancelled_stream(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        seen: list[Any] = []

        async def consume() -> None:
            async for chunk in llm.astream("Hello?"):
                seen.append(chunk)

        task = asyncio.create_task(consume())
        while not seen:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.settled(llm, server, decision_of(seen[0]))

    async def test_cancelled_call(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        task = asyncio.create_task(llm.ainvoke("Hello?"))
        while not server.count("cheap"):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 1.0)
        stats = llm.router.stats()
        assert (stats["decisions"], stats["outcomes"], stats["candidates"]["cheap"]["in_flight"]) == (1, 1, 0)
        assert server.count("dear") == 0
