"""The provider beyond a single good answer: terms, fallback, errors, cost, feedback, many at once."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import litellm_mixllm
from litellm_mixllm import Registered, decision_id_of, routed_to
from mixllm_engine import Candidate, ConfigError, FeedbackError, Router
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.testing import Cut, Failure, Hang, HashingEncoder, Reply, ScriptedServer, tiny_router
from mixllm_engine.testing.behaviours import RecordedRequest
from tests.litellm.conftest import HELLO, STEADY, Heard
from tests.litellm.ways import WAYS, Way

CHEAP_USD = (11 * 0.1 + 4 * 0.4) / 1e6
DEAR_USD = (11 * 2.0 + 4 * 8.0) / 1e6


@pytest.fixture(params=list(WAYS))
def ask(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


# -- who answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "terms",
    [
        {"force": "dear"},
        {"allow": ["de*"]},
        {"metadata": {"mixllm": {"deny": ["cheap"]}}},
        {"metadata": {"mixllm": {"force": "cheap"}, "trace": "x"}, "force": "dear"},
    ],
)
async def test_terms_are_keywords_or_metadata(
    ask: Way, registered: Registered, server: ScriptedServer, terms: dict[str, Any]
) -> None:
    answer = await ask(model=registered.model, messages=HELLO, **terms)
    assert (answer.choices[0].message.content, answer.model) == ("A very good day", "openai/dear")
    assert not {"force", "allow", "deny", "metadata", "mixllm"} & set(server.requests[-1].body)


async def test_a_budget_changes_the_choice(ask: Way, registered: Registered) -> None:
    poor = await ask(model=registered.model, messages=HELLO, willingness_to_pay=0.0)
    rich = await ask(model=registered.model, messages=HELLO, budget="very_high", max_wait_s=60.0)
    assert (poor.model, rich.model) == ("openai/cheap", "openai/dear")


@pytest.mark.parametrize("noted", [{"buget": "low"}, "low"])
async def test_terms_that_are_none_are_refused(ask: Way, registered: Registered, noted: object) -> None:
    with pytest.raises(load_litellm().BadRequestError, match="it is a mapping with some of budget, willingness_to_pay"):
        await ask(model=registered.model, messages=HELLO, metadata={"mixllm": noted})


async def test_in_a_tool_loop_the_candidate_stays(registered: Registered, router: Router) -> None:
    litellm = load_litellm()
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    begun = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    loop = [*HELLO, *begun, {"role": "tool", "tool_call_id": "call_1", "content": "3"}]
    first = litellm.completion(model=registered.model, messages=HELLO, tools=[tool], budget="very_high")
    # An agent that shows a tool's output as the person's words is in a loop as well.
    told = [*HELLO, {"role": "assistant", "content": "Calling add"}, {"role": "user", "content": "Observation: 3"}]
    for later in (loop, told):
        assert litellm.completion(model=registered.model, messages=later, tools=[tool]).model == first.model
    assert first.model == "openai/dear"


async def test_several_routers_go_by_several_names(ask: Way, registered: Registered, server: ScriptedServer) -> None:
    server.script("other", Reply(text="I am another."))
    with (
        tiny_router(api_base=server.base_url, names=["other"]) as second,
        litellm_mixllm.register(second, model="other") as other,
    ):
        assert (await ask(model=other.model, messages=HELLO)).model == "openai/other"
        assert (await ask(model=registered.model, messages=HELLO)).model == "openai/cheap"


async def test_an_unknown_name_is_told_with_those_that_are_known(ask: Way, registered: Registered) -> None:
    with pytest.raises(load_litellm().NotFoundError, match="registered as mixllm/atuo; registered: mixllm/auto"):
        await ask(model="mixllm/atuo", messages=HELLO)


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [Failure(status=500), Failure(status=429), Cut(text="a b", after_tokens=0)])
async def test_the_next_candidate_answers(
    ask: Way, registered: Registered, router: Router, server: ScriptedServer, failure: Any
) -> None:
    server.script("cheap", failure)
    answer = await ask(model=registered.model, messages=HELLO)
    assert (answer.model, routed_to(answer) or "dear") == ("openai/dear", "dear")
    assert [request.model for request in server.requests] == ["cheap", "dear"]
    assert router.feedback(decision_id_of(answer), 1.0).candidate == "dear"


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (429, "RateLimitError"),
        (401, "AuthenticationError"),
        (500, "InternalServerError"),
        (503, "ServiceUnavailableError"),
        (400, "BadRequestError"),
        (404, "NotFoundError"),
    ],
)
async def test_failures_keep_the_classes_of_litellm(
    ask: Way, registered: Registered, server: ScriptedServer, status: int, name: str
) -> None:
    for model in ("cheap", "dear"):
        server.script(model, Failure(status=status))
    litellm = load_litellm()
    with pytest.raises(Exception, match="scripted failure") as raised:
        await ask(model=registered.model, messages=HELLO)
    error = raised.value
    if ask is WAYS["streamed async"] and status in (429, 500, 503):  # LiteLLM's own, of any stream that fails
        assert isinstance(error, litellm.exceptions.MidStreamFallbackError)
        assert error.original_exception is not None
        assert decision_id_of(error) == decision_id_of(error.original_exception)
        error = error.original_exception
    assert type(error) is getattr(litellm, name)
    assert len(server.requests) == 2
    assert f"all 2 candidates failed for decision {decision_id_of(error)}" in error.__notes__[0]


async def test_a_prompt_that_fits_nobody(ask: Way, registered: Registered, server: ScriptedServer) -> None:
    with pytest.raises(load_litellm().ContextWindowExceededError, match="window"):
        await ask(model=registered.model, messages=[{"role": "user", "content": "word " * 100_000}])
    assert not server.requests


async def test_a_stream_that_breaks_off_is_not_begun_again(registered: Registered, server: ScriptedServer) -> None:
    server.script("cheap", Cut(text="one two three", after_tokens=2))
    litellm, seen = load_litellm(), []
    with pytest.raises(litellm.exceptions.MidStreamFallbackError, match="onnection|incomplete"):
        for chunk in litellm.completion(model=registered.model, messages=HELLO, stream=True):
            seen.append(chunk.choices[0].delta.content or "")
    assert "".join(seen).strip() == "one two"
    assert server.count("dear") == 0


async def test_a_timeout_is_the_caller_s(ask: Way, registered: Registered, server: ScriptedServer) -> None:
    for model in ("cheap", "dear"):
        server.script(model, Hang(seconds=5))
    with pytest.raises(load_litellm().Timeout):
        await ask(model=registered.model, messages=HELLO, timeout=0.2)


async def test_a_cancelled_call_ends_its_request(
    registered: Registered, router: Router, server: ScriptedServer
) -> None:
    server.script("cheap", Reply(text="late", delay_s=5.0))
    call = asyncio.create_task(load_litellm().acompletion(model=registered.model, messages=HELLO))
    await asyncio.to_thread(server.wait_for, lambda request: True, 5.0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 5.0)
    assert router.stats()["candidates"]["cheap"]["in_flight"] == 0
    assert server.count("dear") == 0


async def test_an_abandoned_stream_ends_its_request(
    registered: Registered, router: Router, server: ScriptedServer
) -> None:
    server.script("cheap", Reply(text="one two three four five", token_delay_s=0.2))
    stream = await load_litellm().acompletion(model=registered.model, messages=HELLO, stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.aclose()
    await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 5.0)
    assert router.stats()["candidates"]["cheap"]["in_flight"] == 0


# -- counted once ----------------------------------------------------------------------------------------------------


async def test_usage_and_cost_are_counted_once(ask: Way, registered: Registered, router: Router, heard: Heard) -> None:
    await ask(model=registered.model, messages=HELLO)
    await ask(model=registered.model, messages=HELLO, force="dear")
    await asyncio.to_thread(heard.wait_for, 2)
    assert [told["custom_llm_provider"] for told in heard.successes] == ["mixllm", "mixllm"]
    assert sorted(told["response_cost"] for told in heard.successes) == pytest.approx([CHEAP_USD, DEAR_USD])
    assert {told["response"].model for told in heard.successes} == {"openai/cheap", "openai/dear"}
    assert {told["response"].usage.total_tokens for told in heard.successes} == {15}
    assert router.stats()["outcomes"] == 2


async def test_an_answer_says_what_it_cost(ask: Way, registered: Registered) -> None:
    answer = await ask(model=registered.model, messages=HELLO)
    assert answer.usage.cost == pytest.approx(CHEAP_USD)
    assert answer._hidden_params["response_cost"] == pytest.approx(CHEAP_USD)


async def test_after_a_fallback_only_the_answer_counts(
    ask: Way, registered: Registered, server: ScriptedServer, heard: Heard
) -> None:
    server.script("cheap", Failure(status=500))
    await ask(model=registered.model, messages=HELLO)
    await asyncio.to_thread(heard.wait_for, 1)
    assert heard.successes[0]["response_cost"] == pytest.approx(DEAR_USD)


async def test_a_failure_is_told_once(ask: Way, registered: Registered, server: ScriptedServer, heard: Heard) -> None:
    for model in ("cheap", "dear"):
        server.script(model, Failure(status=500))
    with pytest.raises((load_litellm().InternalServerError, load_litellm().ServiceUnavailableError)):
        await ask(model=registered.model, messages=HELLO)
    await asyncio.to_thread(heard.wait_for, 0, 1)


def test_a_budget_manager_charges_the_answer(registered: Registered, server: ScriptedServer, tmp_path: Path) -> None:
    """LiteLLM's own budget manager knows prices by the model's name, hence that of the model that answered."""
    litellm = load_litellm()
    server.script("gpt-4o-mini", Reply(text="Hi", prompt_tokens=1000, response_tokens=100))
    known = Candidate(name="known", model="openai/gpt-4o-mini", api_base=server.base_url)
    with Router([known], encoder=HashingEncoder()) as router, litellm_mixllm.register(router) as model:
        answer = litellm.completion(model=model.model, messages=HELLO)
    assert litellm.completion_cost(answer) == pytest.approx(answer._hidden_params["response_cost"])
    assert answer.usage.cost == pytest.approx((1000 * 0.15 + 100 * 0.6) / 1e6)


# -- learning --------------------------------------------------------------------------------------------------------


async def test_feedback_changes_later_choices_and_the_numbers(ask: Way, registered: Registered, router: Router) -> None:
    before = router.predict(["Hello?"])
    for _ in range(12):
        for name, reward in (("cheap", 0.0), ("dear", 1.0)):
            answer = await ask(model=registered.model, messages=HELLO, force=name)
            assert router.feedback(decision_id_of(answer), reward).status == "applied"
    after = router.predict(["Hello?"])
    assert after.quality[0, 0] < before.quality[0, 0]
    assert after.quality[0, 1] > before.quality[0, 1]
    assert router.stats()["candidates"]["dear"]["labels"] == 12
    assert (await ask(model=registered.model, messages=HELLO)).model == "openai/dear"


async def test_a_block_collects_the_decisions_of_all_ways(ask: Way, registered: Registered) -> None:
    with litellm_mixllm.track_decisions() as tracked:
        answers = [await ask(model=registered.model, messages=HELLO) for _ in range(2)]
    assert tracked.decision_ids == [decision_id_of(answer) for answer in answers]
    assert [receipt.status for receipt in tracked.feedback(1.0, credit="all")] == ["applied", "applied"]


def test_the_id_of_an_answer_is_a_reference_as_it_is(registered: Registered, router: Router) -> None:
    answer = load_litellm().completion(model=registered.model, messages=HELLO)
    assert router.feedback(answer.id, 1.0).decision_id == decision_id_of(answer) == decision_id_of(answer.model_dump())
    assert routed_to(answer) == "cheap"


@pytest.mark.parametrize("nothing", ["chatcmpl-7", {"id": 7}, None, 3.0])
def test_what_tells_of_no_decision_is_refused(nothing: object) -> None:
    with pytest.raises(FeedbackError, match="tells of no decision"):
        decision_id_of(nothing)


# -- many at once ----------------------------------------------------------------------------------------------------


def _echo(request: RecordedRequest) -> Reply:
    body: dict[str, Any] = dict(request.body)
    return Reply(text=str(body["messages"][-1]["content"]), delay_s=0.01)


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Question number {number}"}]


async def test_sixteen_tasks_get_their_own_answers(
    registered: Registered, router: Router, server: ScriptedServer
) -> None:
    server.script("cheap", _echo)
    calls = (
        WAYS["streamed async" if n % 2 else "awaited"](model=registered.model, messages=question(n)) for n in range(48)
    )
    limit = asyncio.Semaphore(16)

    async def limited(call: Any) -> Any:
        async with limit:
            return await call

    answers = await asyncio.gather(*map(limited, calls))
    assert [answer.choices[0].message.content for answer in answers] == [f"Question number {n}" for n in range(48)]
    assert len({decision_id_of(answer) for answer in answers}) == 48
    assert router.stats()["candidates"]["cheap"]["in_flight"] == 0


def test_sixteen_threads_get_their_own_answers(registered: Registered, router: Router, server: ScriptedServer) -> None:
    server.script("cheap", _echo)
    litellm = load_litellm()

    def one(number: int) -> tuple[str, str]:
        answer = litellm.completion(model=registered.model, messages=question(number))
        router.feedback(decision_id_of(answer), 1.0)
        return answer.choices[0].message.content, decision_id_of(answer)

    litellm.completion(model=registered.model, messages=HELLO)  # else each thread makes a client, and LiteLLM keeps one
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(48)))
    assert [text for text, _ in answers] == [f"Question number {n}" for n in range(48)]
    assert router.stats()["feedback_applied"] == len({decision for _, decision in answers}) == 48


def test_routers_come_and_go_while_others_answer(registered: Registered, server: ScriptedServer) -> None:
    litellm, stop, failed = load_litellm(), threading.Event(), []

    def register_and_go(router: Router) -> None:
        while not stop.is_set():
            with litellm_mixllm.register(router, model="passing"):
                pass

    with tiny_router(api_base=server.base_url) as passing:
        thread = threading.Thread(target=register_and_go, args=(passing,))
        thread.start()
        try:
            for _ in range(20):
                answer = litellm.completion(model=registered.model, messages=HELLO)
                failed += [answer] * (answer.choices[0].message.content != "Good day to you")
        finally:
            stop.set()
            thread.join()
    assert not failed


# -- registering -----------------------------------------------------------------------------------------------------


def names_of(litellm: Any) -> tuple[list[Any], ...]:
    return list(litellm.custom_provider_map), list(litellm.provider_list), list(litellm._custom_providers)


def test_unregistering_restores_what_was_there_before(router: Router) -> None:
    litellm = load_litellm()
    from litellm_mixllm import MixLLMProvider

    theirs = {"provider": "mixllm", "custom_handler": MixLLMProvider({})}
    for before in ([], [theirs]):
        litellm.custom_provider_map[:] = before
        try:
            old = names_of(litellm)
            first = litellm_mixllm.register(router)
            second = litellm_mixllm.register(router, model="second")
            first.unregister()
            assert names_of(litellm) != old
            second.unregister()
            second.unregister()
            assert names_of(litellm) == old
        finally:
            litellm.custom_provider_map.clear()


def test_a_model_that_is_registered_again_answers_by_its_latest_router(
    registered: Registered, server: ScriptedServer
) -> None:
    litellm = load_litellm()
    server.script("other", Reply(text="I am another."))

    def says() -> str:
        return str(litellm.completion(model="mixllm/auto", messages=HELLO).choices[0].message.content)

    with tiny_router(api_base=server.base_url, names=["other"]) as second:
        with litellm_mixllm.register(second):
            assert says() == "I am another."
        assert says() == "Good day to you"


@pytest.mark.parametrize(("name", "model"), [("openai", "auto"), ("", "auto"), ("a/b", "auto"), ("mixllm", "")])
def test_names_that_can_not_be(router: Router, name: str, model: str) -> None:
    with pytest.raises(ConfigError, match=r"of LiteLLM's own|two parts of a name"):
        litellm_mixllm.register(router, name, model=model)


# -- secrets ---------------------------------------------------------------------------------------------------------


async def test_no_key_shows(ask: Way, server: ScriptedServer, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    key = "sk-very-secret-7"
    server.script("own", [Reply(text="Hi"), Failure(status=401, message=f"Incorrect API key provided: {key}")])
    own = Candidate(
        name="own", model="openai/own", api_base=server.base_url, api_key=key, input_usd_per_mtok=1,
        output_usd_per_mtok=1,
    )  # fmt: skip
    caplog.set_level("DEBUG")
    with (
        Router([own], encoder=HashingEncoder(), config=STEADY) as router,
        litellm_mixllm.register(router, model="secretive") as registered,
    ):
        answer = await ask(model=registered.model, messages=HELLO)
        assert server.requests[-1].api_key == key
        with pytest.raises(load_litellm().AuthenticationError) as raised:
            await ask(model=registered.model, messages=HELLO)
        await asyncio.to_thread(heard.wait_for, 1, 1)
    shown = [answer, answer._hidden_params, raised.value, raised.value.__notes__, heard.successes, heard.failures]
    assert key not in repr(shown) + caplog.text


def test_the_caller_s_key_goes_to_nobody(registered: Registered, server: ScriptedServer) -> None:
    load_litellm().completion(model=registered.model, messages=HELLO, api_key="sk-of-the-caller")
    assert server.requests[-1].api_key != "sk-of-the-caller"
