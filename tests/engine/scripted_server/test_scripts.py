"""Which behaviour answers which request, and which scripts are refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from mixllm_engine.testing.behaviours import Behaviour, Cut, Failure, Hang, RecordedRequest, Reply, ToolCall
from mixllm_engine.testing.server import ScriptedServer
from tests.engine.scripted_server.asking import ASK, post


def test_a_sequence_is_followed_and_its_last_step_repeats(server: ScriptedServer) -> None:
    server.script("cheap", [Failure(status=503), Reply(text="a"), Reply(text="b")])
    server.script("other", Reply(text="c"))
    statuses = [post(server, {"model": name, "messages": ASK}).status_code for name in ("cheap", "other", "cheap")]
    assert statuses == [503, 200, 200]
    texts = [post(server, {"model": "cheap", "messages": ASK}).json()["choices"][0]["message"]["content"] for _ in "12"]
    assert texts == ["b", "b"]
    assert (server.count("cheap"), server.count("other"), server.count("nobody")) == (4, 1, 0)


def test_a_callable_sees_the_request_and_chooses(server: ScriptedServer) -> None:
    def choose(request: RecordedRequest) -> Behaviour:
        return Reply(text=f"{len(request.body)} keys, call {server.count(request.model)}")

    server.script("cheap", choose)
    answer = post(server, {"model": "cheap", "messages": ASK, "temperature": 0}).json()
    assert answer["choices"][0]["message"]["content"] == "3 keys, call 1"


def test_an_error_in_a_script_is_raised_to_the_user() -> None:
    def broken(request: RecordedRequest) -> Behaviour:
        raise FileNotFoundError("my own mistake")

    def ask(server: ScriptedServer) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            post(server, {"model": "cheap", "messages": ASK})

    with pytest.raises(FileNotFoundError, match="my own mistake"), ScriptedServer() as server:
        server.script("cheap", broken)
        ask(server)
    with pytest.raises(KeyError) as caught, ScriptedServer() as server:
        server.script("cheap", broken)
        ask(server)
        raise KeyError("what the test stumbled over")
    assert "my own mistake" in caught.value.__notes__[0]


@pytest.mark.parametrize(("script", "problem"), [([], ValueError), ("hello", TypeError), ([Reply(), None], TypeError)])
def test_a_script_that_is_none_is_refused_at_once(script: Any, problem: type[Exception]) -> None:
    with pytest.raises(problem, match="behaviour"):
        ScriptedServer().script("cheap", script)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reply(cached_tokens=12, prompt_tokens=11),
        lambda: Reply(tool_calls=[ToolCall(name="a", arguments={}), ToolCall(name="b", arguments={})]),
        lambda: Reply(delay_s=-1),
        lambda: Failure(status=200),
        lambda: Cut(text="", after_tokens=-1),
        lambda: Hang(seconds=-1),
    ],
)
def test_impossible_behaviours_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="cached_tokens|distinct ids|negative|no HTTP error"):
        make()


def test_another_frameworks_tool_call_is_refused() -> None:
    foreign: Any = {"name": "add", "args": {}, "id": "call_1", "type": "tool_call"}
    with pytest.raises(TypeError, match="tool_calls takes ToolCall"):
        Reply(tool_calls=[foreign])
