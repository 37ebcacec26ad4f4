"""What a scripted reply looks like to a real client, whole and streamed."""

from __future__ import annotations

import json
import time

import httpx
import openai
import pytest

from mixllm_engine.testing.behaviours import Reply, ToolCall
from mixllm_engine.testing.server import ScriptedServer
from tests.engine.scripted_server.asking import ADD, ASK, Json, events, post


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
