"""The strategy for `litellm.Router`: who is chosen, what is learned of it, and what stays LiteLLM's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from litellm_mixllm import MixLLMStrategy, decision_id_of
from mixllm_engine import ConfigError, Router
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.testing import Failure, Reply, ScriptedServer
from mixllm_engine.testing.behaviours import RecordedRequest
from tests.litellm.conftest import HELLO

POOR = {"mixllm": {"willingness_to_pay": 0.0}}
RICH = {"mixllm": {"budget": "very_high"}}
Way = Callable[..., Awaitable[Any]]


def deployments(server: ScriptedServer, *names: str) -> list[dict[str, Any]]:
    return [
        {
            "model_name": "any",
            "litellm_params": {"model": f"openai/{name}", "api_base": server.base_url, "api_key": "none"},
            "model_info": {"id": name},
        }
        for name in names
    ]


@pytest.fixture
def llms(server: ScriptedServer) -> Any:
    settings = {"num_retries": 1, "retry_after": 0, "allowed_fails": 0, "cooldown_time": 60}
    return load_litellm().Router(model_list=deployments(server, "cheap", "dear"), **settings)


@pytest.fixture
def attached(llms: Any, router: Router) -> Iterator[MixLLMStrategy]:
    with MixLLMStrategy(router).attach(llms) as strategy:
        yield strategy


async def whole(llms: Any, **call: Any) -> Any:
    return await asyncio.to_thread(llms.completion, **{"model": "any", "messages": HELLO, **call})


async def awaited(llms: Any, **call: Any) -> Any:
    return await llms.acompletion(**{"model": "any", "messages": HELLO, **call})


@pytest.fixture(params=[whole, awaited], ids=["whole", "awaited"])
def ask(request: pytest.FixtureRequest) -> Way:
    found: Way = request.param
    return found


async def outcomes(router: Router, expected: int) -> None:
    """Wait for LiteLLM's callbacks, and make sure that no more come."""
    until = time.monotonic() + 5.0
    while router.stats()["outcomes"] < expected and time.monotonic() < until:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert router.stats()["outcomes"] == expected


async def test_terms_choose_the_deployment(ask: Way, llms: Any, attached: MixLLMStrategy, server: Any) -> None:
    for terms, name in ((POOR, "cheap"), (RICH, "dear"), ({"mixllm": {"deny": ["cheap"]}}, "dear")):
        answer = await ask(llms, metadata=terms)
        assert answer._hidden_params["model_id"] == name
    assert set(server.requests[-1].body) <= {"messages", "model"}


async def test_outcomes_are_recorded_once(ask: Way, llms: Any, attached: MixLLMStrategy, router: Router) -> None:
    answers = [await ask(llms, metadata=POOR) for _ in range(3)]
    await outcomes(router, 3)
    assert len({decision_id_of(answer) for answer in answers}) == 3
    of_cheap = router.stats()["candidates"]["cheap"]
    assert (of_cheap["decisions"], of_cheap["in_flight"]) == (3, 0)


async def test_streams_are_recorded_too(llms: Any, attached: MixLLMStrategy, router: Router) -> None:
    stream = await llms.acompletion("any", HELLO, stream=True, metadata=POOR)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Good day to you"
    blocking = llms.completion("any", HELLO, stream=True, metadata=POOR)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in blocking) == "Good day to you"
    await outcomes(router, 2)
    assert router.feedback(decision_id_of(stream), 1.0).candidate == "cheap"
    assert router.feedback(decision_id_of(blocking), 1.0).candidate == "cheap"


async def test_what_rests_is_not_chosen(
    ask: Way, llms: Any, attached: MixLLMStrategy, router: Router, server: ScriptedServer
) -> None:
    server.script("cheap", Failure(status=500))
    first = await ask(llms, metadata=POOR)
    assert first._hidden_params["model_id"] == "dear", "LiteLLM tries again, and asks for another choice"
    assert [request.model for request in server.requests] == ["cheap", "dear"]
    for _ in range(3):
        assert (await ask(llms, metadata=POOR))._hidden_params["model_id"] == "dear"
    assert server.count("cheap") == 1
    await outcomes(router, 5)


async def test_when_all_rest_litellm_says_so(
    ask: Way, llms: Any, attached: MixLLMStrategy, server: ScriptedServer
) -> None:
    for name in ("cheap", "dear"):
        server.script(name, Failure(status=500))
    with pytest.raises(load_litellm().InternalServerError):
        await ask(llms)
    with pytest.raises(Exception, match="No deployments available"):
        await ask(llms)
    assert len(server.requests) == 2


async def test_feedback_changes_later_choices(ask: Way, llms: Any, attached: MixLLMStrategy, router: Router) -> None:
    assert (await ask(llms))._hidden_params["model_id"] == "cheap"
    for _ in range(12):
        for name, reward in (("cheap", 0.0), ("dear", 1.0)):
            answer = await ask(llms, metadata={"mixllm": {"force": name}})
            router.feedback(decision_id_of(answer), reward)
    assert (await ask(llms))._hidden_params["model_id"] == "dear"


async def test_the_id_of_a_call_that_somebody_else_gave_leads_to_the_decision(
    ask: Way, llms: Any, attached: MixLLMStrategy, router: Router
) -> None:
    answer = await ask(llms, litellm_call_id="call-of-the-proxy", metadata=POOR)
    assert answer._hidden_params["litellm_call_id"] == "call-of-the-proxy"
    assert router.feedback("call-of-the-proxy", 1.0).candidate == "cheap"


async def test_terms_that_are_none_are_refused(ask: Way, llms: Any, attached: MixLLMStrategy) -> None:
    with pytest.raises(load_litellm().BadRequestError, match="it is a mapping with some of"):
        await ask(llms, metadata={"mixllm": {"buget": "low"}})


async def test_other_groups_go_on_as_before(
    ask: Way, llms: Any, attached: MixLLMStrategy, router: Router, server: ScriptedServer
) -> None:
    server.script("foreign", Reply(text="I am nobody's candidate."))
    other = deployments(server, "foreign")[0] | {"model_name": "others"}
    llms.add_deployment(load_litellm().types.router.Deployment(**other))
    answer = await ask(llms, model="others")
    assert answer.choices[0].message.content == "I am nobody's candidate."
    assert router.stats()["decisions"] == 0


async def test_a_candidate_may_have_several_deployments(ask: Way, server: ScriptedServer, router: Router) -> None:
    twice = deployments(server, "cheap", "cheap", "dear")
    for number, one in enumerate(twice):
        one["model_info"] = {"id": f"place {number}"}  # so they are told by their models
    llms = load_litellm().Router(model_list=twice)
    with MixLLMStrategy(router).attach(llms):
        places = {(await ask(llms, metadata=POOR))._hidden_params["model_id"] for _ in range(20)}
        assert (await ask(llms, metadata=RICH))._hidden_params["model_id"] == "place 2"
    assert places == {"place 0", "place 1"}


async def test_detaching_gives_litellm_its_own_back(llms: Any, router: Router) -> None:
    litellm = load_litellm()
    listeners = list(litellm.callbacks)
    with MixLLMStrategy(router).attach(llms):
        await awaited(llms)
    await outcomes(router, 1)
    assert not {"get_available_deployment", "async_get_available_deployment"} & set(vars(llms))
    assert litellm.callbacks == listeners
    await awaited(llms)
    assert router.stats()["decisions"] == 1


def test_what_can_not_be_attached(llms: Any, router: Router, server: ScriptedServer) -> None:
    litellm, strategy = load_litellm(), MixLLMStrategy(router)
    with pytest.raises(ConfigError, match="of no litellm.Router"):
        strategy.get_available_deployment("any", list(HELLO))
    strangers = litellm.Router(model_list=deployments(server, "stranger"))
    with pytest.raises(ConfigError, match=r"no deployment .* the pool has cheap \(openai/cheap\)"):
        strategy.attach(strangers)
    quick = litellm.Router(model_list=deployments(server, "cheap"), routing_strategy="latency-based-routing")
    with pytest.raises(ConfigError, match="leave it at 'simple-shuffle'"):
        strategy.attach(quick)
    with strategy.attach(llms), pytest.raises(ConfigError, match="attached already"):
        strategy.attach(llms)


def _echo(request: RecordedRequest) -> Reply:
    body: dict[str, Any] = dict(request.body)
    return Reply(text=str(body["messages"][-1]["content"]))


async def test_sixteen_at_once(llms: Any, attached: MixLLMStrategy, router: Router, server: ScriptedServer) -> None:
    server.script("cheap", _echo)
    shared: dict[str, Any] = {"mixllm": {"force": "cheap"}}

    def call(number: int) -> dict[str, Any]:
        return {"model": "any", "messages": [{"role": "user", "content": f"Question {number}"}], "metadata": shared}

    await whole(llms, metadata=shared)  # else each thread makes a client, and LiteLLM keeps one
    with ThreadPoolExecutor(16) as pool:
        blocking = await asyncio.to_thread(lambda: list(pool.map(lambda n: llms.completion(**call(n)), range(32))))
    answers = blocking + await asyncio.gather(*(llms.acompletion(**call(n)) for n in range(32, 48)))
    assert [answer.choices[0].message.content for answer in answers] == [f"Question {n}" for n in range(48)]
    assert len({decision_id_of(answer) for answer in answers}) == 48
    await outcomes(router, 49)
    assert router.stats()["candidates"]["cheap"]["in_flight"] == 0
