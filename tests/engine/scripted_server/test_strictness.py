"""What the real API refuses is refused, and what it takes is taken."""

from __future__ import annotations

import httpx
import pytest

from mixllm_engine.testing.behaviours import Reply
from mixllm_engine.testing.server import ScriptedServer
from tests.engine.scripted_server.asking import ADD, ASK, Json, post


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
