"""What the server remembers of the requests that it got."""

from __future__ import annotations

import time

import openai
import pytest

from mixllm_engine.testing.behaviours import Behaviour, Failure, Hang, Reply
from mixllm_engine.testing.server import ScriptedServer
from tests.engine.scripted_server.asking import ASK


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
