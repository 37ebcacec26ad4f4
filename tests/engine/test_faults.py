"""Providers that are down, slow, wrong or unsteady, clocks that jump, and loops and threads that come and go."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mixllm_engine import AllCandidatesFailedError, Outcome, Router, RouterConfig
from mixllm_engine.calling import RoutedClient
from mixllm_engine.testing import Cut, Failure, FakeClock, HashingEncoder, Reply, ScriptedServer, tiny_pool, tiny_router
from mixllm_engine.testing.behaviours import Behaviour, RecordedRequest
from tests import litellm_clients
from tests.engine.raw_server import WRONG, Answer, body, completion, drip, raw_server
from tests.engine.test_calling import MESSAGES, paths, streamed, streamed_async, whole, whole_async
from tests.engine.test_calling import Path as Way

wholes = pytest.mark.parametrize("path", [whole, whole_async], ids=["whole", "whole_async"])
streams = pytest.mark.parametrize("path", [streamed, streamed_async], ids=["streamed", "streamed_async"])


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as started:
        started.script("cheap", Reply(text="Four it is"))
        started.script("dear", Reply(text="The answer is four", response_tokens=4))
        yield started


def settings(**more: Any) -> RouterConfig:
    return RouterConfig.model_validate({"features": {"domains": "none"}, "exploration": {"rate": 0.0}, **more})


def asking(server: ScriptedServer, cheap_at: str | None = None, timeout_s: float = 5.0, **more: Any) -> RoutedClient:
    """Return a client that asks the cheap candidate first, at an address of its own."""
    cheap, dear = tiny_pool(server.base_url)
    pool = [dataclasses.replace(cheap, api_base=cheap_at or cheap.api_base), dear]
    config = settings(calling={"timeout_s": timeout_s})
    return RoutedClient(Router(pool, encoder=HashingEncoder(), seed=0, **{"config": config, **more}))


def attempts(router: Router, decision_id: str) -> list[tuple[str, str | None]]:
    return [(outcome.candidate, outcome.error) for outcome in router.explain(decision_id).outcomes]


def in_flight(router: Router) -> int:
    return sum(said["in_flight"] for said in router.stats()["candidates"].values())


def check_fallback(client: RoutedClient, path: Way, kind: str) -> None:
    """Check that the cheap candidate failed in one way, and that the dear one answered."""
    text, candidate, decision_id = path(client, willingness_to_pay=0.0)
    assert (text, candidate) == ("The answer is four", "dear")
    assert attempts(client.router, decision_id) == [("cheap", kind), ("dear", None)]
    assert client.router.feedback(decision_id, 1.0).candidate == "dear"
    stats = client.router.stats()["candidates"]
    assert (stats["cheap"]["labels"], stats["dear"]["labels"], in_flight(client.router)) == (0.0, 1.0, 0)


# -- down ------------------------------------------------------------------------------------------------------------


@paths
def test_a_refused_connection_falls_back(path: Way, server: ScriptedServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"  # bound, but nobody listens
        check_fallback(asking(server, address), path, "unavailable")


@paths
def test_a_name_that_does_not_resolve_falls_back(
    path: Way, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, resolve = [], socket.getaddrinfo

    def answer(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in ("no-such-host.invalid", b"no-such-host.invalid"):
            asked.append(host)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    check_fallback(asking(server, "http://no-such-host.invalid/v1"), path, "unavailable")
    assert len(asked) == 1


# -- slow ------------------------------------------------------------------------------------------------------------


@paths
def test_a_first_byte_that_is_late_falls_back_in_time(path: Way, server: ScriptedServer) -> None:
    client = asking(server, timeout_s=0.4)
    server.script("cheap", Reply(text="late", delay_s=20.0))
    whole(client, force="dear")  # imports, before the time counts
    started = time.monotonic()
    check_fallback(client, path, "timeout")
    assert time.monotonic() - started < 10


@wholes
def test_an_answer_that_stops_dripping_falls_back(path: Way, server: ScriptedServer) -> None:
    with raw_server(drip(completion(), every_s=1.0)) as address:
        check_fallback(asking(server, address, timeout_s=0.4), path, "timeout")


@wholes
def test_the_timeout_is_for_silence_and_not_for_slowness(path: Way, server: ScriptedServer) -> None:
    with raw_server(drip(completion(), every_s=0.02)) as address:  # 3 s in all
        text, candidate, _ = path(asking(server, address, timeout_s=1.5), willingness_to_pay=0.0)
    assert (text, candidate) == ("Hi there", "cheap")


@streams
def test_a_stream_that_falls_silent_ends_in_time(path: Way, server: ScriptedServer) -> None:
    client = asking(server, timeout_s=0.4)
    server.script("cheap", Reply(text="one two three", token_delay_s=20.0))
    whole(client, force="dear")
    started = time.monotonic()
    with pytest.raises(Exception, match=r"(?i)timeout|timed out"):
        path(client, willingness_to_pay=0.0)
    assert time.monotonic() - started < 10
    stats = client.router.stats()
    assert (stats["outcomes"], in_flight(client.router), server.count("dear")) == (2, 0, 1)
    assert client.router.decide("x", willingness_to_pay=0.0).scores["cheap"].reason.endswith("after broken_stream")


# -- wrong -----------------------------------------------------------------------------------------------------------


@paths
@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_what_is_no_answer_falls_back(path: Way, answer: Answer, server: ScriptedServer) -> None:
    with raw_server(answer) as address:
        check_fallback(asking(server, address), path, "unavailable")


@streams
@pytest.mark.parametrize("said", [completion(), completion(usage=None)], ids=["an answer", "no usage"])
def test_an_answer_in_place_of_a_stream_falls_back(path: Way, said: str, server: ScriptedServer) -> None:
    with raw_server(body(said)) as address:
        check_fallback(asking(server, address), path, "unavailable")


@streams
def test_an_orderly_end_in_the_middle_is_no_answer(path: Way, server: ScriptedServer) -> None:
    client = asking(server)
    server.script("cheap", Cut(text="one two three", after_tokens=2, clean=True))
    with pytest.raises(Exception, match="ended before a finish reason"):
        path(client, willingness_to_pay=0.0)
    server.script("cheap", Cut(text="one two three", after_tokens=0, clean=True))
    check_fallback(asking(server), path, "unavailable")  # nothing was said yet


USAGES: dict[str, Any] = {
    "missing": {},
    "null": {"usage": None},
    "zero": {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
    "negative": {"usage": {"prompt_tokens": -1, "completion_tokens": -3, "total_tokens": -4}},
    "absurd": {"usage": {"prompt_tokens": 10**30, "completion_tokens": 10**25, "total_tokens": 3}},
}


@wholes
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES)
def test_an_answer_without_a_usable_usage_is_an_answer_of_unknown_cost(
    path: Way, usage: Any, kind: str, server: ScriptedServer
) -> None:
    with raw_server(body(completion(**usage), kind)) as address:
        client = asking(server, address)
        text, candidate, decision_id = path(client, willingness_to_pay=0.0)
    assert (text, candidate, in_flight(client.router)) == ("Hi there", "cheap", 0)
    (outcome,) = client.router.explain(decision_id).outcomes
    assert (outcome.error, outcome.prompt_tokens, outcome.response_tokens, outcome.cost_usd) == (None, None, None, None)


# -- unsteady --------------------------------------------------------------------------------------------------------


def test_a_candidate_that_fails_every_other_call_costs_one_failure_a_pause(server: ScriptedServer) -> None:
    clock = FakeClock()
    client = asking(server, clock=clock)
    server.script("cheap", [Failure(status=503), Reply(text="Four it is")] * 10)
    server.script("dear", Reply(text="The answer is four", response_tokens=200))
    answered: Counter[str] = Counter()
    for _ in range(70):
        answered[whole(client, willingness_to_pay=0.0)[1]] += 1
        clock.advance(1.0)
    # It fails in seconds 0, 31 and 62, is left alone for 30, and answers in seconds 30 and 61.
    assert (server.count("cheap"), answered) == (5, {"cheap": 2, "dear": 68})


def fail(router: Router, decision_id: str, candidate: str) -> None:
    router.observe(decision_id, Outcome(candidate=candidate, error="unavailable"))


def begin(router: Router) -> tuple[str, str]:
    decision = router.decide("What is two and two?", willingness_to_pay=0.0)
    router.dispatched(decision.decision_id, decision.candidate)
    return decision.decision_id, decision.candidate


def test_an_outage_costs_one_failure_a_pause_and_pauses_grow() -> None:
    clock = FakeClock(0.0)
    router = tiny_router(config=settings(), clock=clock)
    failed_s = []
    for _ in range(700):
        decision_id, candidate = begin(router)
        if candidate == "cheap":
            failed_s.append(clock())
            fail(router, decision_id, candidate)
        else:
            router.observe(decision_id, Outcome(candidate=candidate, response_tokens=200))
        clock.advance(1.0)
    assert failed_s == [0.0, 30.0, 90.0, 210.0, 450.0]


def test_no_herd_comes_back_to_a_candidate_that_is_still_down() -> None:
    clock = FakeClock()
    router = tiny_router(config=settings(), clock=clock)
    together = [begin(router) for _ in range(16)]
    assert {candidate for _, candidate in together} == {"cheap"}
    for decision_id, candidate in together:
        fail(router, decision_id, candidate)
    clock.advance(30.0)  # sixteen failures at once are one reason for a pause
    trial, *others = [begin(router) for _ in range(16)]
    assert trial[1] == "cheap"
    assert {candidate for _, candidate in others} == {"dear"}
    fail(router, *trial)
    assert begin(router)[1] == "dear"
    clock.advance(60.0)
    trial = begin(router)
    router.observe(trial[0], Outcome(candidate="cheap", response_tokens=20))
    assert {begin(router)[1] for _ in range(10)} == {"cheap"}


# -- clocks that jump ------------------------------------------------------------------------------------------------

DAY_S, YEAR_S = 86_400.0, 31_536_000.0


def test_a_pause_outlives_no_jump_of_the_clock() -> None:
    clock = FakeClock()
    router = tiny_router(config=settings(), clock=clock)
    fail(router, *begin(router))
    clock.advance(-DAY_S)
    assert begin(router)[1] == "dear"
    clock.advance(30.0)
    decision_id, candidate = begin(router)
    assert candidate == "cheap"
    fail(router, decision_id, candidate)
    clock.advance(YEAR_S)
    assert begin(router)[1] == "cheap"


def test_nothing_is_lost_and_learning_goes_on_while_clocks_jump(tmp_path: Path) -> None:
    here, there, store = FakeClock(), FakeClock(), tmp_path / "log.db"
    config = settings(sync_interval_s=0.05)
    with (
        tiny_router(config=config, store=store, clock=here) as router,
        tiny_router(config=config, store=store, clock=there) as other,
    ):
        for step, jump_s in enumerate([0.0, -DAY_S, YEAR_S, -YEAR_S, 1.0]):
            here.advance(jump_s)
            decision = router.decide("What is two and two?", force="cheap")
            router.observe(decision.decision_id, Outcome(candidate="cheap", response_tokens=5))
            router.link(decision.decision_id, f"run-{step}")
            assert router.feedback(f"run-{step}", 1.0).status == "applied"
            assert f"run-{step}" in router.linked(within_s=60.0)
            there.advance(-jump_s - 2.0)
            other.decide("What is two and two?")
            until = time.monotonic() + 10.0
            while other._learner.labels()[0][0] != step + 1:  # it follows by itself
                assert time.monotonic() < until
                time.sleep(0.01)
        assert (router.stats()["feedback_applied"], router.stats()["decisions"]) == (5, 10)


# -- event loops and threads -----------------------------------------------------------------------------------------


def test_one_client_serves_one_event_loop_after_the_other(server: ScriptedServer) -> None:
    client = asking(server)
    for path in (whole_async, streamed_async, whole_async, streamed_async):
        assert path(client, willingness_to_pay=0.0)[0] == "Four it is"
    assert (client.router.stats()["outcomes"], in_flight(client.router)) == (4, 0)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # nobody closes the clients of the loops that ended
def test_clients_that_litellm_keeps_of_a_closed_loop_are_in_nobodys_way(server: ScriptedServer) -> None:
    client = asking(server)
    for _ in range(3):
        assert asyncio.run(client.acomplete(MESSAGES, willingness_to_pay=0.0)).text == "Four it is"
    assert (client.router.stats()["outcomes"], in_flight(client.router)) == (3, 0)
    litellm_clients.take_cached()
    gc.collect()


def test_a_loop_that_ends_in_mid_stream_leaves_nothing_open(server: ScriptedServer) -> None:
    client = asking(server)
    server.script("cheap", Reply(text="word " * 200, token_delay_s=0.05))
    begun: list[Any] = []

    async def leave() -> None:
        chunks = client.astream(MESSAGES, willingness_to_pay=0.0)
        begun.append(chunks)  # nobody closes it, and it outlives the loop
        begun.append(await anext(chunks))

    litellm_clients.run(leave())
    server.wait_for(lambda request: request.disconnected)
    assert attempts(client.router, begun[1].decision.decision_id) == [("cheap", "cancelled")]
    assert in_flight(client.router) == 0
    server.script("cheap", Reply(text="Four it is"))
    assert whole_async(client, willingness_to_pay=0.0)[0] == "Four it is"


def fail_every_fifth(request: RecordedRequest) -> Behaviour:
    messages: Any = request.body["messages"]
    number = int(messages[-1]["content"].split()[-1])
    if number % 5 == 0 and request.model == "cheap":
        return Failure(status=500)
    return Reply(text=f"{request.model} {number}")


def four_ways(client: RoutedClient) -> list[Callable[[int], Any]]:
    """Return functions from a number to the chunks of an answer; the latter two are asynchronous."""

    def messages(number: int) -> list[dict[str, Any]]:
        return [{"role": "user", "content": f"question {number}"}]

    async def acomplete(number: int) -> list[Any]:
        return [await client.acomplete(messages(number))]

    async def astream(number: int) -> list[Any]:
        decision = await client.adecide(messages(number))
        async with aclosing(client.astream(messages(number), decision=decision)) as chunks:
            return [chunk async for chunk in chunks]

    return [
        lambda number: [client.complete(messages(number))],
        lambda number: list(client.stream(messages(number))),
        acomplete,
        astream,
    ]


async def test_thirty_two_threads_and_tasks_over_one_router(server: ScriptedServer, tmp_path: Path) -> None:
    for name in ("cheap", "dear"):
        server.script(name, fail_every_fifth)
    config = settings(waiting={"cooldown_s": 0.0})
    with asking(server, store=tmp_path / "log.db", config=config).router as router:
        ways = four_ways(RoutedClient(router))
        loop = asyncio.get_running_loop()
        # Threads that race make several clients, of which LiteLLM forgets all but one: so each kind has one already.
        await loop.run_in_executor(None, ways[0], 1)
        await ways[2](1)
        with ThreadPoolExecutor(32) as pool:
            calls = [
                loop.run_in_executor(pool, ways[number % 4], number) if number % 4 < 2 else ways[number % 4](number)
                for number in range(64)
            ]
            answers = await asyncio.gather(*calls)
            for number, chunks in enumerate(answers):
                decision_id, candidate = chunks[0].decision.decision_id, chunks[0].candidate.name
                assert "".join(chunk.text for chunk in chunks) == f"{candidate} {number}"
                assert attempts(router, decision_id)[-1] == (candidate, None)
            receipts = list(pool.map(lambda chunks: router.feedback(chunks[0].decision, 1.0), answers))
        assert [receipt.candidate for receipt in receipts] == [chunks[0].candidate.name for chunks in answers]
        stats = router.stats()
        assert (stats["decisions"], stats["feedback_applied"], in_flight(router)) == (66, 64, 0)
        assert stats["outcomes"] == len(server.requests)


def test_everybody_is_down_and_then_back(server: ScriptedServer) -> None:
    clock = FakeClock()
    client = asking(server, clock=clock)
    for name in ("cheap", "dear"):
        server.script(name, [Failure(status=503)] * 2 + [Reply(text="back")])
    for _ in range(2):
        with pytest.raises(AllCandidatesFailedError, match="all 2 candidates failed"):
            whole(client, willingness_to_pay=0.0)
    assert whole(client, willingness_to_pay=0.0)[:2] == ("back", "cheap")  # a pause alone never leaves nobody
    assert json.dumps(client.router.stats())
