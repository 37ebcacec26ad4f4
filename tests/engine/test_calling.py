"""Calls through LiteLLM against a scripted server: one request an attempt, fallback, outcomes, on all four paths."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mixllm_engine import (
    AllCandidatesFailedError,
    Candidate,
    MissingKeyError,
    Outcome,
    QueryError,
    Router,
    RouterConfig,
)
from mixllm_engine.calling import RoutedClient, routed
from mixllm_engine.calling.usage import Usage
from mixllm_engine.testing import (
    Cut,
    Failure,
    Hang,
    HashingEncoder,
    Malformed,
    Reply,
    ScriptedServer,
    ToolCall,
    tiny_pool,
    tiny_router,
)
from tests import litellm_clients

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is two and two?"}]
QUIET = RouterConfig.model_validate({"exploration": {"rate": 0.0}})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as started:
        started.script("cheap", Reply(text="Four it is", prompt_tokens=11, response_tokens=3))
        started.script("dear", Reply(text="The answer is four", prompt_tokens=11, response_tokens=4))
        yield started


def client(server: ScriptedServer, **settings: Any) -> RoutedClient:
    return RoutedClient(tiny_router(server.base_url, config=QUIET, **settings))


def whole(asking: RoutedClient, **terms: Any) -> tuple[str, str, str]:
    answer = asking.complete(MESSAGES, **terms)
    return answer.text, answer.candidate.name, answer.decision.decision_id


def whole_async(asking: RoutedClient, **terms: Any) -> tuple[str, str, str]:
    answer = litellm_clients.run(asking.acomplete(MESSAGES, **terms))
    return answer.text, answer.candidate.name, answer.decision.decision_id


def streamed(asking: RoutedClient, **terms: Any) -> tuple[str, str, str]:
    chunks = list(asking.stream(MESSAGES, **terms))
    return "".join(c.text for c in chunks), chunks[0].candidate.name, chunks[0].decision.decision_id


def streamed_async(asking: RoutedClient, **terms: Any) -> tuple[str, str, str]:
    async def gather() -> list[Any]:
        return [chunk async for chunk in asking.astream(MESSAGES, **terms)]

    chunks = litellm_clients.run(gather())
    return "".join(c.text for c in chunks), chunks[0].candidate.name, chunks[0].decision.decision_id


Path = Callable[..., tuple[str, str, str]]
paths = pytest.mark.parametrize("path", [whole, whole_async, streamed, streamed_async], ids=lambda path: path.__name__)


@paths
def test_an_answer_comes_with_one_request_and_one_outcome(path: Path, server: ScriptedServer) -> None:
    asking = client(server)
    text, candidate, decision_id = path(asking, willingness_to_pay=0.0)
    assert (text, candidate) == ("Four it is", "cheap")
    assert len(server.requests) == 1
    (outcome,) = asking.router.explain(decision_id).outcomes
    assert (outcome.prompt_tokens, outcome.response_tokens, outcome.error) == (11, 3, None)
    assert outcome.cost_usd == pytest.approx((11 * 0.1 + 3 * 0.4) / 1e6)
    assert outcome.latency_s is not None and outcome.latency_s > 0
    assert (outcome.first_token_s is not None) == path.__name__.startswith("streamed")
    assert asking.router.stats()["candidates"]["cheap"]["in_flight"] == 0


@paths
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Failure(status=429), "rate_limit"),
        (Failure(status=500), "unavailable"),
        (Failure(status=503), "unavailable"),
        (Failure(status=401, kind="invalid_request_error"), "auth"),
        (Failure(status=404), "not_found"),
        (Hang(seconds=5.0), "timeout"),
    ],
    ids=lambda value: getattr(value, "status", "") or type(value).__name__,
)
def test_a_failure_falls_back_with_exactly_one_request_each(
    path: Path, fault: Any, kind: str, server: ScriptedServer
) -> None:
    config = RouterConfig.model_validate({"exploration": {"rate": 0.0}, "calling": {"timeout_s": 0.7}})
    asking = RoutedClient(tiny_router(server.base_url, config=config))
    server.script("cheap", fault)
    text, candidate, decision_id = path(asking, willingness_to_pay=0.0)
    assert (text, candidate) == ("The answer is four", "dear")
    assert (server.count("cheap"), server.count("dear")) == (1, 1)
    assert [o.error for o in asking.router.explain(decision_id).outcomes] == [kind, None]
    assert asking.router.feedback(decision_id, 1.0).candidate == "dear"
    stats = asking.router.stats()["candidates"]
    assert (stats["cheap"]["labels"], stats["dear"]["labels"]) == (0.0, 1.0)
    assert (stats["cheap"]["in_flight"], stats["dear"]["in_flight"]) == (0, 0)


@paths
def test_when_all_fail_one_error_holds_every_cause(path: Path, server: ScriptedServer) -> None:
    asking = client(server)
    server.script("cheap", Failure(status=429, message="slow down"))
    server.script("dear", Failure(status=500, message="on fire"))
    with pytest.raises(
        AllCandidatesFailedError, match="all 2 candidates failed.*cheap: RateLimitError.*dear: Internal"
    ) as caught:
        path(asking, willingness_to_pay=0.0)
    assert list(caught.value.causes) == ["cheap", "dear"]
    assert caught.value.__cause__ is caught.value.causes["dear"]
    assert len(server.requests) == 2


@pytest.mark.parametrize("path", [streamed, streamed_async], ids=["stream", "astream"])
def test_a_stream_that_breaks_after_its_first_token_is_not_begun_again(path: Path, server: ScriptedServer) -> None:
    asking = client(server)
    server.script("cheap", Reply(text=" ".join(["word"] * 50), token_delay_s=0.1))
    config = {"timeout": 0.5}
    chunks = asking.stream(MESSAGES, config, willingness_to_pay=0.0)
    seen = [next(chunks), next(chunks)]
    server.close()
    with pytest.raises(Exception) as caught:
        for chunk in chunks:
            seen.append(chunk)
    assert not isinstance(caught.value, AllCandidatesFailedError)
    (outcome,) = asking.router.explain(seen[0].decision.decision_id).outcomes
    assert outcome.error == "broken_stream"
    assert server.count("dear") == 0


def test_leaving_a_stream_early_closes_it_and_is_no_bad_grade(server: ScriptedServer) -> None:
    asking = client(server)
    server.script("cheap", Reply(text=" ".join(["word"] * 200), token_delay_s=0.05))
    chunks = asking.stream(MESSAGES, willingness_to_pay=0.0)
    decision_id = next(chunks).decision.decision_id
    next(chunks)
    chunks.close()
    assert disconnected(server)
    assert [o.error for o in asking.router.explain(decision_id).outcomes] == ["cancelled"]
    stats = asking.router.stats()
    assert (stats["feedback_applied"], stats["candidates"]["cheap"]["in_flight"]) == (0, 0)
    assert asking.router.decide("x", willingness_to_pay=0.0).candidate == "cheap"  # and no pause


def test_cancelling_an_async_stream_closes_it(server: ScriptedServer) -> None:
    asking = client(server)
    server.script("cheap", Reply(text=" ".join(["word"] * 200), token_delay_s=0.05))

    async def read_a_little() -> str:
        chunks = asking.astream(MESSAGES, willingness_to_pay=0.0)
        first = await anext(aiter(chunks))
        await chunks.aclose()
        return first.decision.decision_id

    decision_id = litellm_clients.run(read_a_little())
    assert disconnected(server)
    assert [o.error for o in asking.router.explain(decision_id).outcomes] == ["cancelled"]


def test_a_cancelled_call_is_no_bad_grade(server: ScriptedServer) -> None:
    asking = client(server)
    server.script("cheap", Hang(seconds=20.0))

    async def give_up() -> None:
        await asyncio.wait_for(asking.acomplete(MESSAGES, willingness_to_pay=0.0), timeout=0.5)

    with pytest.raises(TimeoutError):
        litellm_clients.run(give_up())
    stats = asking.router.stats()
    assert (stats["outcomes"], stats["feedback_applied"], server.count("dear")) == (1, 0, 0)
    assert stats["candidates"]["cheap"]["in_flight"] == 0


def disconnected(server: ScriptedServer) -> bool:
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        if server.requests[0].disconnected:
            return True
        time.sleep(0.02)
    return False


def test_a_malformed_answer_falls_back(server: ScriptedServer) -> None:
    asking = client(server)
    server.script("cheap", Malformed(body="<html>busy</html>"))
    assert whole(asking, willingness_to_pay=0.0)[1] == "dear"


def test_a_body_that_is_cut_falls_back(server: ScriptedServer) -> None:
    asking = client(server)
    server.script("cheap", Cut(text="one two three", after_tokens=1))
    assert whole(asking, willingness_to_pay=0.0)[1] == "dear"


def test_a_window_that_was_too_small_is_followed_by_a_larger_one(server: ScriptedServer) -> None:
    pool = tiny_pool(server.base_url, names=("cheap", "same", "dear"))
    pool = [dataclasses.replace(c, context_window={"cheap": 4096, "same": 4096}.get(c.name, 99_999)) for c in pool]
    server.script(
        "cheap",
        Failure(status=400, code="context_length_exceeded", message="This model's maximum context length is 10 tokens"),
    )
    asking = RoutedClient(Router(pool, config=QUIET, encoder=HashingEncoder()))
    answer = asking.complete(MESSAGES, willingness_to_pay=0.0)
    assert answer.candidate.name == "dear"
    assert server.count("same") == 0
    outcomes = asking.router.explain(answer.decision.decision_id).outcomes
    assert [outcome.error for outcome in outcomes] == ["context_window", None]
    assert asking.router.decide("x", willingness_to_pay=0.0).candidate == "cheap"  # its fault it was not


def test_a_missing_key_names_the_variable_and_the_others_go_on(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    keyless = Candidate(
        name="a-keyless", model="anthropic/claude-none", input_usd_per_mtok=0.0001, output_usd_per_mtok=0.0001
    )
    router = Router([keyless, *tiny_pool(server.base_url)], config=QUIET, encoder=HashingEncoder())
    answer = RoutedClient(router).complete(MESSAGES, willingness_to_pay=0.0)
    assert (answer.decision.candidate, answer.candidate.name) == ("a-keyless", "cheap")
    assert [o.error for o in router.explain(answer.decision.decision_id).outcomes] == ["auth", None]
    alone = Router([keyless], config=QUIET, encoder=HashingEncoder())
    with pytest.raises(AllCandidatesFailedError, match="set ANTHROPIC_API_KEY, or give api_key") as caught:
        RoutedClient(alone).complete(MESSAGES)
    assert isinstance(caught.value.causes["a-keyless"], MissingKeyError)


def test_a_paid_key_in_the_environment_does_not_travel_to_another_server(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-paid-account")
    client(server).complete(MESSAGES)
    assert server.requests[0].api_key != "sk-paid-account"
    pool = [dataclasses.replace(c, api_key="sk-for-this-server") for c in tiny_pool(server.base_url)]
    RoutedClient(Router(pool, config=QUIET, encoder=HashingEncoder())).complete(MESSAGES)
    assert server.requests[-1].api_key == "sk-for-this-server"


def test_tools_reach_only_candidates_that_know_them(server: ScriptedServer) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    pool = tiny_pool(server.base_url)
    router = Router(
        [dataclasses.replace(pool[0], supports_tools=False), pool[1]], config=QUIET, encoder=HashingEncoder()
    )
    server.script("dear", Reply(tool_calls=[ToolCall(name="add", arguments={"a": 2})]))
    answer = RoutedClient(router).complete(MESSAGES, {"tools": [tool]}, willingness_to_pay=0.0)
    assert answer.response.choices[0].message.tool_calls[0].function.name == "add"
    assert answer.decision.scores["cheap"].reason.startswith("does not support tools")


def test_call_parameters_win_over_the_candidates_own(server: ScriptedServer) -> None:
    pool = [dataclasses.replace(c, params={"temperature": 0.1, "top_p": 0.5}) for c in tiny_pool(server.base_url)]
    RoutedClient(Router(pool, config=QUIET, encoder=HashingEncoder())).complete(MESSAGES, {"temperature": 0.9})
    body = server.requests[0].body
    assert (body["temperature"], body["top_p"]) == (0.9, 0.5)


def test_a_bug_is_not_taken_for_a_failure_of_the_provider() -> None:
    router = tiny_router()
    decision = router.decide("hello")

    def broken(candidate: Candidate) -> str:
        raise TypeError(f"a bug while calling {candidate.name}")

    with pytest.raises(TypeError, match="a bug while calling"):
        routed.call(router, decision, broken, lambda answer: Usage())
    assert [o.error for o in router.explain(decision.decision_id).outcomes] == ["other"]


def test_messages_without_text_are_refused(server: ScriptedServer) -> None:
    with pytest.raises(QueryError, match="no message has any text"):
        client(server).complete([{"role": "user", "content": ""}])


def test_concurrent_calls_keep_their_decisions_apart(server: ScriptedServer) -> None:
    asking = client(server)
    server.script("cheap", lambda request: Reply(text=str(request.body["messages"][-1]["content"])))
    server.script("dear", lambda request: Reply(text=str(request.body["messages"][-1]["content"])))

    async def ask(number: int) -> tuple[str, str]:
        answer = await asking.acomplete([{"role": "user", "content": f"question {number}"}])
        return answer.text, answer.decision.decision_id

    async def all_of_them() -> list[tuple[str, str]]:
        return await asyncio.gather(*(ask(number) for number in range(16)))

    answers = litellm_clients.run(all_of_them())
    assert [text for text, _ in answers] == [f"question {number}" for number in range(16)]
    assert len({decision_id for _, decision_id in answers}) == 16


def test_an_outcome_by_hand_is_enough_for_those_who_call_themselves() -> None:
    router = tiny_router()
    decision = router.decide("hello")
    router.observe(decision.decision_id, Outcome(candidate=decision.candidate, latency_s=0.2, response_tokens=5))
    assert router.stats()["outcomes"] == 1
