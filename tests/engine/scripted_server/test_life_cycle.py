"""Starting, closing under load, and many clients at once."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from mixllm_engine.testing.behaviours import Hang, Reply, Script
from mixllm_engine.testing.server import ScriptedServer
from tests.engine.scripted_server.asking import ASK, post


def test_close_is_prompt_with_requests_under_way_and_leaves_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    server = ScriptedServer().start()
    server.script("silent", Hang(seconds=60))
    server.script("slow", Reply(text="one two", token_delay_s=60))
    address = server.base_url
    with ThreadPoolExecutor(4) as pool, httpx.Client(verify=False) as idle:
        idle.post(address + "/chat/completions", json={})  # keeps its connection open
        waiting = [pool.submit(post, server, {"model": name, "messages": ASK}) for name in ("silent", "slow") * 2]
        while len(server.requests) < 5:
            time.sleep(0.01)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 1
        assert all(isinstance(call.exception(), httpx.TransportError) for call in waiting)
    server.close()
    assert threading.active_count() == before
    assert not any(record.disconnected for record in server.requests), "it was the server that left"
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url
    assert capfd.readouterr() == ("", "")


def test_close_is_prompt_while_a_client_does_not_read() -> None:
    server = ScriptedServer().start()
    server.script("cheap", Reply(text="x" * 50_000_000))  # more than the sockets between the two can hold
    body = {"model": "cheap", "messages": ASK}
    with (
        httpx.Client(verify=False) as client,
        client.stream("POST", server.base_url + "/chat/completions", json=body) as response,
    ):
        assert response.status_code == 200
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 1
    (record,) = server.requests
    assert not record.finished and not record.disconnected


def test_a_server_can_be_started_again_with_its_scripts() -> None:
    server = ScriptedServer()
    server.script("cheap", Reply(text="ok"))
    for _ in range(2):
        with server:
            assert post(server, {"model": "cheap", "messages": ASK}).status_code == 200
    assert server.count("cheap") == 2


def test_many_clients_at_once(server: ScriptedServer) -> None:
    models = [f"model-{index}" for index in range(8)]
    for name in models:
        script: Script = [Reply(text=f"{name} {call}") for call in range(20)]
        server.script(name, script)

    def talk(name: str) -> set[str]:
        with httpx.Client(verify=False) as own:
            bodies = [{"model": name, "messages": ASK} for _ in range(10)]
            answers = [own.post(server.base_url + "/chat/completions", json=body).json() for body in bodies]
        return {answer["choices"][0]["message"]["content"] for answer in answers}

    with ThreadPoolExecutor(16) as pool:
        heard = list(pool.map(talk, models * 2))
    for index, name in enumerate(models):
        assert heard[index] | heard[index + 8] == {f"{name} {call}" for call in range(20)}  # each step exactly once
        assert server.count(name) == 20


async def test_async_streams_run_side_by_side(server: ScriptedServer) -> None:
    server.script("slow", Reply(text="a b c d e", token_delay_s=0.1))

    async def read(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(model="slow", messages=ASK, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    own = httpx.AsyncClient(verify=False)
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="x", max_retries=0, http_client=own) as client:
        started = time.monotonic()
        assert await asyncio.gather(*(read(client) for _ in range(8))) == ["a b c d e"] * 8
    assert time.monotonic() - started < 2  # one after the other it would be 3.2
