"""Fallback to the next candidate, before the first token only; and keys. See `test_gotchas_calls` for the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from litellm.exceptions import RateLimitError

from langchain_mixllm import ChatMixLLM
from langchain_mixllm._errors import BrokenAnswerError
from mixllm_engine import AllCandidatesFailedError, Candidate, MissingKeyError, Router
from mixllm_engine.testing import Cut, Failure, HashingEncoder, Reply, ScriptedServer, tiny_pool
from tests.langchain.conftest import Ask


def decision_of(message: Any) -> str:
    return str(message.response_metadata["mixllm"]["decision_id"])


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
        with pytest.raises(BrokenAnswerError, match="closed connection|not completed"):
            await ask(llm, "Hello?")
        assert (server.count("cheap"), server.count("dear")) == (1, 0)
    else:  # nobody has seen anything of it yet
        assert (await ask(llm, "Hello?")).text == "Hello from dear to you"
        assert (server.count("cheap"), server.count("dear")) == (1, 1)


@pytest.mark.parametrize("clean", [True, False])
async def test_an_answer_that_breaks_off_before_it_begins(
    ask: Ask, router: Router, server: ScriptedServer, clean: bool
) -> None:
    server.script("cheap", Cut(text="One two three four", after_tokens=0, clean=clean))
    with ScriptedServer() as other:  # so that nobody is sent down the connection that was just cut
        other.script("dear", Reply(text="Hello from dear"))
        cheap, dear = router.candidates
        apart = Router([cheap, replace(dear, api_base=other.base_url)], config=router.config, encoder=HashingEncoder())
        assert (await ask(ChatMixLLM(router=apart, budget="very_low"), "Hello?")).text == "Hello from dear"
        assert (server.count("cheap"), other.count("dear")) == (1, 1)


def test_what_was_streamed_before_a_break_stays(llm: ChatMixLLM, server: ScriptedServer) -> None:
    server.script("cheap", Cut(text="One two three four", after_tokens=2))
    seen = []
    with pytest.raises(BrokenAnswerError, match="closed connection"):
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
