"""Failures, cuts, malformed bodies and silence."""

from __future__ import annotations

import json
import time

import httpx
import openai
import pytest

from mixllm_engine.testing.behaviours import Cut, Failure, Hang, Malformed
from mixllm_engine.testing.server import ScriptedServer
from tests.engine.scripted_server.asking import ASK, events, post


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
