"""The scripted server behaves like the real API, over real sockets and through real clients."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from mixllm_engine.testing.behaviours import (
    Behaviour,
    Cut,
    Failure,
    Hang,
    Malformed,
    RecordedRequest,
    Reply,
    Script,
    ToolCall,
)
from mixllm_engine.testing.server import ScriptedServer

Json = dict[str, Any]
ASK: list[Any] = [{"role": "user", "content": "a secret question"}]
ADD: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[openai.OpenAI]:
    own = httpx.Client(verify=False)  # loading the certificates takes longer than the requests
    with openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0, timeout=5, http_client=own) as made:
        yield made


def post(server: ScriptedServer, body: object, path: str = "/chat/completions") -> httpx.Response:
    return httpx.post(server.base_url + path, json=body, timeout=5, verify=False)


def events(response: httpx.Response) -> list[Any]:
    """Parse server-sent events; [DONE] stays a string."""
    texts = [part.removeprefix("data: ") for part in response.text.split("\n\n") if part]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


# Answers


def test_reply_has_text_usage_and_the_model_that_was_asked(server: ScriptedServer, client: openai.OpenAI) -> None:
    server.script("cheap", Reply(text="two  words", prompt_tokens=20, cached_tokens=16))
    answer = client.chat.completions.create(model="cheap", messages=ASK)
    assert answer.model == "cheap"
    assert answer.choices[0].message.content == "two  words"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (20, 2, 22)
    assert answer.usage.prompt_tokens_details.cached_tokens == 16


def test_reply_reports_the_usage_and_finish_reason_it_is_told(server: ScriptedServer, client: openai.OpenAI) -> None:
    server.script("cheap", Reply(text="one", response_tokens=77, finish_reason="length"))
    answer = client.chat.completions.create(model="cheap", messages=ASK)
    assert answer.usage is not None and answer.usage.completion_tokens == 77
    assert answer.choices[0].finish_reason == "length"


def test_stream_is_one_word_per_chunk_and_ends_in_order(server: ScriptedServer) -> None:
    server.script("cheap", Reply(text="one  two\nthree\n", reasoning="hm hm"))
    options = {"include_usage": True}
    response = post(server, {"model": "cheap", "messages": ASK, "stream": True, "stream_options": options})
    *chunks, done = events(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    *told, last = chunks
    assert all(chunk["usage"] is None for chunk in told)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 5)
    deltas = [chunk["choices"][0]["delta"] for chunk in told]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert deltas[1:3] == [{"reasoning_content": "hm"}, {"reasoning_content": " hm"}]
    assert deltas[3:-1] == [{"content": word} for word in ("one", "  two", "\nthree", "\n")]
    assert deltas[-1] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in told] == [None] * 7 + ["stop"]


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}])
def test_stream_has_no_usage_unless_it_is_asked_for(server: ScriptedServer, options: Json) -> None:
    server.script("cheap", Reply(text="one two"))
    *chunks, _ = events(post(server, {"model": "cheap", "messages": ASK, "stream": True, **options}))
    assert not any("usage" in chunk for chunk in chunks)
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)


def test_tool_calls_whole_and_in_pieces(server: ScriptedServer, client: openai.OpenAI) -> None:
    calls = [ToolCall(name="add", arguments={"a": 1, "b": "x y"}), ToolCall(name="add", arguments={}, id="call_2")]
    server.script("cheap", Reply(tool_calls=calls))
    answer = client.chat.completions.create(model="cheap", messages=ASK, tools=[ADD]).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    sent = [call for call in answer.message.tool_calls or () if call.type == "function"]
    assert [(call.id, json.loads(call.function.arguments)) for call in sent] == [
        ("call_1", {"a": 1, "b": "x y"}),
        ("call_2", {}),
    ]

    *chunks, _ = events(post(server, {"model": "cheap", "messages": ASK, "tools": [ADD], "stream": True}))
    deltas = [delta for chunk in chunks for delta in chunk["choices"][0]["delta"].get("tool_calls", ())]
    heads = [delta for delta in deltas if "id" in delta]
    assert [(head["index"], head["id"], head["function"]) for head in heads] == [
        (0, "call_1", {"name": "add", "arguments": ""}),
        (1, "call_2", {"name": "add", "arguments": ""}),
    ]
    pieces = [delta["function"]["arguments"] for delta in deltas if delta["index"] == 0 and "id" not in delta]
    assert len(pieces) > 1
    assert json.loads("".join(pieces)) == {"a": 1, "b": "x y"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_delays_come_before_the_first_byte_and_between_words(server: ScriptedServer) -> None:
    server.script("slow", Reply(text="a b c", delay_s=0.1, token_delay_s=0.1))
    arrivals = []
    started = time.monotonic()
    body = {"model": "slow", "messages": ASK, "stream": True}
    with httpx.stream("POST", server.base_url + "/chat/completions", json=body, verify=False) as response:
        for line in response.iter_lines():
            if '"content": "' in line and '"content": ""' not in line:
                arrivals.append(time.monotonic() - started)
    assert len(arrivals) == 3
    assert arrivals[0] >= 0.1
    assert arrivals[1] - arrivals[0] >= 0.08 and arrivals[2] - arrivals[1] >= 0.08
    started = time.monotonic()
    post(server, {"model": "slow", "messages": ASK})
    assert time.monotonic() - started >= 0.3  # an unstreamed answer takes the same time to write


# Scripts


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


# Records


def test_records_hold_what_was_sent_and_hide_it_from_repr(server: ScriptedServer, client: openai.OpenAI) -> None:
    server.script("cheap", Reply(text="ok"))
    client.chat.completions.create(model="cheap", messages=ASK, temperature=0.5)
    (record,) = server.requests
    assert record.body == {"model": "cheap", "messages": ASK, "temperature": 0.5}
    assert (record.path, record.stream, record.api_key) == ("/v1/chat/completions", False, "sk-test")
    assert (record.status, record.finished, record.disconnected) == (200, True, False)
    assert "secret" not in repr(record) and "sk-test" not in repr(record)
    server.clear()
    assert server.requests == ()
    client.chat.completions.create(model="cheap", messages=ASK)
    assert server.count("cheap") == 1


def test_a_consumed_stream_is_recorded_as_finished(server: ScriptedServer, client: openai.OpenAI) -> None:
    server.script("cheap", Reply(text="one two"))
    assert len(list(client.chat.completions.create(model="cheap", messages=ASK, stream=True))) == 4
    (record,) = server.requests
    assert (record.stream, record.finished, record.disconnected) == (True, True, False)


def test_a_client_that_leaves_between_slow_words_is_noticed(server: ScriptedServer, client: openai.OpenAI) -> None:
    server.script("slow", Reply(text="one two three", token_delay_s=30))
    stream = client.chat.completions.create(model="slow", messages=ASK, stream=True)
    next(iter(stream))
    stream.close()
    left = time.monotonic()
    record = server.wait_for(lambda request: request.disconnected)
    assert time.monotonic() - left < 1
    assert not record.finished


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "behaviour", [Hang(seconds=30), Reply(text="late", delay_s=30), Failure(status=500, delay_s=30)]
)
def test_a_client_that_gives_up_on_silence_is_noticed(
    server: ScriptedServer, client: openai.OpenAI, behaviour: Behaviour, stream: bool
) -> None:
    server.script("silent", behaviour)
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="silent", messages=ASK, stream=stream, timeout=0.1)
    record = server.wait_for(lambda request: request.disconnected, timeout_s=1)
    assert (record.finished, record.status) == (False, None)


def test_wait_for_says_what_it_waited_for_in_vain(server: ScriptedServer) -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        server.wait_for(lambda request: request.finished, timeout_s=0.05)


# Faults


def test_failure_has_openais_error_form(server: ScriptedServer, client: openai.OpenAI) -> None:
    server.script("cheap", Failure(status=429, message="slow down", kind="tokens", retry_after_s=1.5))
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="cheap", messages=ASK, stream=stream)
        assert caught.value.body == {
            "message": "slow down",
            "type": "tokens",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        assert caught.value.response.headers["retry-after"] == "2"
        assert caught.value.response.headers["retry-after-ms"] == "1500"
    assert all(record.finished and record.status == 429 for record in server.requests)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_failure_statuses(
    server: ScriptedServer, client: openai.OpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    server.script("cheap", Failure(status=status, code="my_code"))
    with pytest.raises(error, match="scripted failure") as caught:
        client.chat.completions.create(model="cheap", messages=ASK)
    assert caught.value.code == "my_code"


def test_cut_breaks_the_connection_after_so_many_words(server: ScriptedServer) -> None:
    server.script("cheap", Cut(text="one two three", after_tokens=2))
    body = {"model": "cheap", "messages": ASK, "stream": True}
    received = ""
    with (
        httpx.stream("POST", server.base_url + "/chat/completions", json=body, verify=False) as response,
        pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"),
    ):
        for text in response.iter_text():
            received += text
    assert '" two"' in received and "three" not in received and "[DONE]" not in received
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        post(server, {"model": "cheap", "messages": ASK})
    assert all(record.finished and not record.disconnected for record in server.requests)


def test_clean_cut_ends_the_body_but_not_the_answer(server: ScriptedServer) -> None:
    server.script("cheap", Cut(text="one two three", after_tokens=2, clean=True))
    chunks = events(post(server, {"model": "cheap", "messages": ASK, "stream": True}))
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["", "one", " two"]
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    with pytest.raises(json.JSONDecodeError):
        post(server, {"model": "cheap", "messages": ASK}).json()


def test_malformed_bodies(server: ScriptedServer, client: openai.OpenAI) -> None:
    server.script("cheap", Malformed(body="{no json"))
    plain = post(server, {"model": "cheap", "messages": ASK})
    assert (plain.status_code, plain.text) == (200, "{no json")
    with pytest.raises(json.JSONDecodeError):
        list(client.chat.completions.create(model="cheap", messages=ASK, stream=True))
    server.script("cheap", Malformed(body='{"error": {"message": "overloaded"}}'))
    with pytest.raises(openai.APIError, match="overloaded"):
        list(client.chat.completions.create(model="cheap", messages=ASK, stream=True))


def test_hang_closes_without_a_word(server: ScriptedServer) -> None:
    server.script("cheap", Hang(seconds=0.1))
    started = time.monotonic()
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        post(server, {"model": "cheap", "messages": ASK})
    assert 0.1 <= time.monotonic() - started < 2


# Strictness


def test_an_unscripted_model_does_not_exist(server: ScriptedServer) -> None:
    response = post(server, {"model": "nobody", "messages": ASK})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "`nobody`" in response.json()["error"]["message"]


def test_other_paths_and_bodies_that_are_no_json(server: ScriptedServer) -> None:
    assert post(server, {"model": "cheap", "input": "x"}, path="/responses").status_code == 404
    broken = httpx.post(server.base_url + "/chat/completions", content=b"{", timeout=5)
    assert (broken.status_code, "parse" in broken.json()["error"]["message"]) == (400, True)
    assert [(record.path, record.model) for record in server.requests] == [
        ("/v1/responses", "cheap"),
        ("/v1/chat/completions", ""),
    ]


CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "3"}
TWO = [{**CALL, "id": "call_1"}, {**CALL, "id": "call_2"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
NAMED_ADD = {"type": "function", "function": {"name": "add"}}
NAMED_OTHER = {"type": "function", "function": {"name": "other"}}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": None}, "you must provide a model"),
        ({"mixllm": {}}, "Unrecognized request argument supplied: mixllm"),
        ({"strict": True}, "Unrecognized request argument supplied: strict"),
        ({"stream": "yes"}, "'stream' must be a boolean"),
        ({"stream_options": {"include_usage": True}}, "only allowed when 'stream' is enabled"),
        ({"stream": True, "stream_options": {"usage": True}}, "'stream_options' is an object"),
        ({"temperature": 3}, "'temperature' must be a number from 0 to 2"),
        ({"max_tokens": 0}, "'max_tokens' must be a number from 1"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "json_schema.name"),
        ({"tools": []}, "[] is too short - 'tools'"),
        ({"tools": None}, "'tools' must be an array"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
        ({"tool_choice": "auto"}, "'tool_choice' is only allowed when 'tools'"),
        ({"tool_choice": None}, "'tool_choice' is only allowed when 'tools'"),
        ({"parallel_tool_calls": False}, "'parallel_tool_calls' is only allowed when 'tools'"),
        ({"tools": [ADD], "tool_choice": "any"}, "'tool_choice' must be"),
        ({"tools": [ADD], "tool_choice": None}, "'tool_choice' must be"),
        ({"tools": [ADD], "tool_choice": NAMED_OTHER}, "'other' not found in 'tools'"),
        ({"messages": "hello"}, "'messages' must be an array"),
        ({"messages": []}, "[] is too short - 'messages'"),
        ({"messages": ["hello"]}, "expected an object"),
        ({"messages": [{"role": "human", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "got null"),
        ({"messages": [{"role": "user", "content": []}]}, "is too short"),
        ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]}, "'thinking'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "assistant", "content": [IMAGE]}]}, "'image_url'"),
        ({"messages": [{"role": "user", "content": "x", "usage": {}}]}, "Additional properties"),
        ({"messages": [*ASK, {"role": "tool", "content": "3"}]}, "messages[1].tool_call_id"),
        ({"messages": [*ASK, RESULT]}, "answers no preceding 'tool_calls'"),
        ({"messages": [*ASK, CALLED]}, "must be followed by tool messages"),
        ({"messages": [*ASK, CALLED, *ASK]}, "must be followed by tool messages"),
        ({"messages": [*ASK, {**CALLED, "tool_calls": TWO}, RESULT]}, "missing: ['call_2']"),
        ({"messages": [*ASK, {**CALLED, "tool_calls": []}]}, "tool_calls"),
        ({"messages": [{**CALLED, "role": "user"}]}, "only allowed in an assistant message"),
        (
            {"messages": [{**CALLED, "tool_calls": [{**CALL, "function": {"name": "add", "arguments": {}}}]}, RESULT]},
            "must be a string with JSON",
        ),
    ],
)
def test_what_the_real_api_refuses_is_refused(server: ScriptedServer, change: Json, complaint: str) -> None:
    server.script("cheap", [Reply(text="first"), Reply(text="second")])
    response = post(server, {"model": "cheap", "messages": ASK, **change})
    assert response.status_code == 400
    assert complaint in response.json()["error"]["message"]
    assert "secret" not in response.text
    answer = post(server, {"model": "cheap", "messages": ASK}).json()
    assert answer["choices"][0]["message"]["content"] == "first", "a refused request must not use up a step"


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": None, "stop": None, "stream": None, "seed": 7, "user": "me", "max_completion_tokens": 5},
        {"stream": False, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"tools": [ADD], "tool_choice": NAMED_ADD, "parallel_tool_calls": False},
        {"tools": [ADD], "tool_choice": "required"},
        {"messages": [{"role": "developer", "content": "x"}, {"role": "user", "name": "me", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, IMAGE]}]},
        {"messages": [*ASK, {**CALLED, "tool_calls": TWO}, {**RESULT, "tool_call_id": "call_2"}, RESULT, *ASK]},
        {"messages": [*ASK, {"role": "assistant", "content": "x", "reasoning_content": "y"}, *ASK]},
        {"messages": [*ASK, {"role": "assistant", "content": None, "refusal": "no"}, *ASK]},
    ],
)
def test_what_the_real_api_takes_is_taken(server: ScriptedServer, change: Json) -> None:
    server.script("cheap", Reply(text="fine"))
    response = post(server, {"model": "cheap", "messages": ASK, **change})
    assert response.status_code == 200, response.text


# Life cycle


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


# Through LiteLLM, which all real calls take


LITELLM_WARNINGS = pytest.mark.filterwarnings("ignore::Warning:pydantic|litellm")  # its own, about its own types


def through_litellm(server: ScriptedServer, model: str, **more: Any) -> Json:
    tools = {"tools": [ADD], "_skip_mcp_handler": True}
    return {
        "model": f"openai/{model}",
        "messages": ASK,
        "api_base": server.base_url,
        "api_key": "x",
        "max_retries": 0,
        "timeout": 5,
        **(tools if model == "caller" else {}),
        **more,
    }


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import asks the network for prices
    return pytest.importorskip("litellm")


def check_answer(answer: Any, model: str) -> None:
    choice = answer.choices[0]
    if model == "talker":
        assert (choice.message.content, choice.message.reasoning_content) == ("one two", "hm")
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 3)
        assert answer.usage.prompt_tokens_details.cached_tokens == 5
    else:
        (call,) = choice.message.tool_calls
        assert (call.id, call.function.name) == ("call_1", "add")
        assert json.loads(call.function.arguments) == {"a": 1, "b": 2}
        assert choice.finish_reason == "tool_calls"


@LITELLM_WARNINGS
@pytest.mark.parametrize("model", ["talker", "caller"])
async def test_litellm_takes_every_kind_of_answer(server: ScriptedServer, litellm: Any, model: str) -> None:
    server.script("talker", Reply(text="one two", reasoning="hm", cached_tokens=5))
    server.script("caller", Reply(tool_calls=[ToolCall(name="add", arguments={"a": 1, "b": 2})]))
    whole = through_litellm(server, model)
    streamed = through_litellm(server, model, stream=True, stream_options={"include_usage": True})
    check_answer(litellm.completion(**whole), model)
    check_answer(litellm.stream_chunk_builder(list(litellm.completion(**streamed))), model)
    check_answer(await litellm.acompletion(**whole), model)
    check_answer(litellm.stream_chunk_builder([chunk async for chunk in await litellm.acompletion(**streamed)]), model)
    assert [record.stream for record in server.requests] == [False, True, False, True]


@LITELLM_WARNINGS
@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Failure(status=401), "AuthenticationError"),
        (Failure(status=429), "RateLimitError"),
        (Failure(status=500), "InternalServerError"),
        (Failure(status=503), "ServiceUnavailableError"),
        (Failure(status=400, message="This model's maximum context length is 9"), "ContextWindowExceededError"),
        (Hang(seconds=5), "Timeout"),
    ],
)
def test_litellm_names_every_failure(server: ScriptedServer, litellm: Any, behaviour: Behaviour, error: str) -> None:
    server.script("cheap", behaviour)
    with pytest.raises(getattr(litellm, error)):
        litellm.completion(**through_litellm(server, "cheap", timeout=0.3))
    assert server.count("cheap") == 1
