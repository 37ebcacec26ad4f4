"""Many calls of the provider at once: everybody gets the own answer, while routers come and go."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litellm_mixllm
from litellm_mixllm import Registered, decision_id_of
from mixllm_engine import Router
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
from mixllm_engine.testing.behaviours import RecordedRequest
from tests.litellm.conftest import HELLO
from tests.litellm.ways import WAYS


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
