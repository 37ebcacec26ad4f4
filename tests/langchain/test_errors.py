"""What goes wrong reaches the caller as our error and as LangChain's, which its middleware acts on."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware, SummarizationMiddleware
from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda

from langchain_mixllm import ChatMixLLM
from langchain_mixllm._errors import FailedConnectionError, as_langchain_errors
from mixllm_engine import (
    AllCandidatesFailedError,
    CallError,
    Candidate,
    ContextWindowError,
    MissingKeyError,
    NoEligibleCandidateError,
    Router,
)
from mixllm_engine.testing import Cut, Failure, Hang, HashingEncoder, Reply, ScriptedServer, tiny_pool
from tests.langchain.conftest import Ask

CASES: list[Any] = [
    (Failure(status=401), ModelAuthenticationError, False),
    (Failure(status=403), ModelPermissionDeniedError, False),
    (Failure(status=400), ModelInvalidRequestError, False),
    (Failure(status=404), ModelNotFoundError, False),
    (Failure(status=429), ModelRateLimitError, True),
    (Failure(status=500), ModelAPIError, True),
    (Failure(status=503), ModelAPIError, True),
    (Hang(seconds=5), ModelTimeoutError, True),
    (
        Failure(status=400, message="This model's maximum context length is 9 tokens", code="context_length_exceeded"),
        ContextOverflowError,
        False,
    ),
]


@pytest.mark.parametrize(("failure", "kind", "retryable"), CASES, ids=[case[1].__name__ for case in CASES])
async def test_a_failure_is_langchains_too(
    ask: Ask, llm: ChatMixLLM, server: ScriptedServer, failure: Any, kind: type[ModelError], retryable: bool
) -> None:
    server.script("cheap", failure)
    with pytest.raises(kind) as caught:
        await ask(llm, "Hello?", force="cheap", timeout=0.3 if kind is ModelTimeoutError else 5)

    assert isinstance(caught.value, AllCandidatesFailedError)
    assert caught.value.is_retryable is retryable
    assert caught.value.__cause__ is caught.value.causes["cheap"]


def test_it_survives_copying_between_processes() -> None:
    with pytest.raises(ModelTimeoutError) as caught, as_langchain_errors():
        raise AllCandidatesFailedError("d", {"a": TimeoutError("late")})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.decision_id, again.is_retryable) == (type(caught.value), "d", True)


async def test_an_endpoint_that_nobody_answers_at(ask: Ask) -> None:
    pool = tiny_pool(api_base="http://127.0.0.1:9/v1")
    llm = ChatMixLLM(router=Router(pool, encoder=HashingEncoder()))
    with pytest.raises(AllCandidatesFailedError) as caught:
        await ask(llm, "Hello?")
    assert isinstance(caught.value, ModelConnectionError | ModelAPIError)
    assert caught.value.is_retryable


async def test_the_last_failure_names_it_and_any_may_be_worth_a_retry(
    ask: Ask, llm: ChatMixLLM, server: ScriptedServer
) -> None:
    server.script("cheap", Failure(status=429))
    server.script("dear", Failure(status=401))
    with pytest.raises(ModelAuthenticationError) as caught:
        await ask(llm, "Hello?")
    assert caught.value.is_retryable


async def test_a_missing_key(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    keyless = Candidate(name="claude", model="anthropic/claude-x", input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
    llm = ChatMixLLM(router=Router([keyless], encoder=HashingEncoder()))
    with pytest.raises(ModelAuthenticationError, match="set ANTHROPIC_API_KEY") as caught:
        await ask(llm, "Hello?")
    assert isinstance(caught.value.__cause__, MissingKeyError)


async def test_a_prompt_that_fits_nobody(ask: Ask, llm: ChatMixLLM) -> None:
    with pytest.raises(ContextOverflowError, match="more than the context window of every candidate") as caught:
        await ask(llm, "word " * 100_000)
    assert isinstance(caught.value, ContextWindowError)
    assert caught.value.reasons.keys() == {"cheap", "dear"}
    assert not caught.value.is_retryable


async def test_who_cannot_and_who_may_not_answer_is_no_model_error(ask: Ask, llm: ChatMixLLM) -> None:
    with pytest.raises(NoEligibleCandidateError) as caught:
        await ask(llm, "Hello?", deny=["*"])
    assert not isinstance(caught.value, ModelError)


async def test_an_answer_that_breaks_off(llm: ChatMixLLM, server: ScriptedServer) -> None:
    server.script("cheap", Cut(text="One two three four", after_tokens=2))
    with pytest.raises(ModelConnectionError, match="the answer broke off") as caught:
        list(llm.stream("Hello?", force="cheap"))
    assert isinstance(caught.value, CallError)
    assert caught.value.is_retryable
    with pytest.raises(ModelConnectionError, match="the answer broke off"):
        [chunk async for chunk in llm.astream("Hello?", force="cheap")]


def test_bugs_and_interruptions_stay_what_they_are() -> None:
    for error in (
        KeyError("x"),
        GeneratorExit(),
        KeyboardInterrupt(),
        AllCandidatesFailedError("d", {"a": KeyError()}),
    ):
        with pytest.raises(type(error)) as caught, as_langchain_errors():
            raise error
        assert caught.value is error


def test_a_connection_that_fails_by_its_class() -> None:
    refused = type("APIConnectionError", (Exception,), {})("refused")
    with pytest.raises(FailedConnectionError), as_langchain_errors():
        raise AllCandidatesFailedError("d", {"a": refused})


def test_langchains_retry_middleware_acts_on_it(llm: ChatMixLLM, server: ScriptedServer) -> None:
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False, on_failure="error")
    one = ChatMixLLM(router=llm.router, force="cheap")
    server.script("cheap", [Failure(status=429), Failure(status=503), Reply(text="At last")])
    result = create_agent(one, middleware=[retry]).invoke({"messages": [HumanMessage("Hello?")]})
    assert result["messages"][-1].text == "At last"
    assert server.count("cheap") == 3

    server.script("cheap", Failure(status=401))
    with pytest.raises(ModelAuthenticationError):
        create_agent(one, middleware=[retry]).invoke({"messages": [HumanMessage("Hello?")]})
    assert server.count("cheap") == 4


@pytest.mark.skipif(
    not hasattr(SummarizationMiddleware, "_overflow_retry_prompt"), reason="this version of LangChain does not do it"
)
def test_langchains_summarising_middleware_acts_on_it(server: ScriptedServer) -> None:
    """A summary that does not fit is asked for again, of less."""
    small = replace(tiny_pool(api_base=server.base_url)[0], context_window=400)
    llm = ChatMixLLM(router=Router([small], encoder=HashingEncoder()))
    middleware = SummarizationMiddleware(
        llm,
        trigger=("messages", 3),
        keep=("messages", 1),
        trim_tokens_to_summarize=None,
        summary_prompt="Summarize: {messages}",
    )
    agent = create_agent(GenericFakeChatModel(messages=iter(["Done"])), middleware=[middleware])
    history: list[Any] = [HumanMessage("word " * 200), AIMessage("word " * 200), HumanMessage("Go on")]
    result = agent.invoke({"messages": history})

    assert result["messages"][-1].text == "Done"
    assert "middle of conversation omitted" in str(server.requests[-1].body)


def test_fallbacks_and_retries_of_langchain(llm: ChatMixLLM, server: ScriptedServer) -> None:
    server.script("cheap", Failure(status=429))
    server.script("dear", Failure(status=401))
    with_fallback = llm.with_fallbacks(
        [RunnableLambda(lambda _: AIMessage("elsewhere"))], exceptions_to_handle=(ModelAuthenticationError,)
    )
    assert with_fallback.invoke("Hello?").text == "elsewhere"

    server.script("cheap", [Failure(status=429), Reply(text="Again")])
    one = ChatMixLLM(router=llm.router, force="cheap")
    retried = one.with_retry(retry_if_exception_type=(ModelRateLimitError,), wait_exponential_jitter=False)
    assert retried.invoke("Hello?").text == "Again"
