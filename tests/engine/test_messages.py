"""Which text of a conversation is routed, and what it needs."""

from __future__ import annotations

import asyncio

import pytest

from mixllm_engine import MissingKeyError, QueryError
from mixllm_engine.calling.failures import classify
from mixllm_engine.calling.messages import query_from_messages
from mixllm_engine.calling.usage import Usage

TOOL = {"type": "function", "function": {"name": "f"}}


def test_the_persons_last_request_is_routed_not_a_tools_output() -> None:
    query = query_from_messages(
        [
            {"role": "system", "content": "You are an agent."},
            {"role": "user", "content": "Book a flight to Rome."},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "ten thousand words of timetable"},
        ],
        tools=[TOOL],
    )
    assert query.text == "Book a flight to Rome."
    assert query.in_tool_loop
    assert list(query.needs) == ["tools"]


def test_blocks_tell_what_is_needed() -> None:
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:..."}}]
    query = query_from_messages([{"role": "user", "content": content}], response_format={"type": "json_schema"})
    assert (query.text, list(query.needs)) == ("What is this?", ["images", "json_schema"])
    assert query.prompt_tokens is not None and query.prompt_tokens > 1000
    plain = query_from_messages([{"role": "user", "content": "hi"}], response_format={"type": "text"})
    assert list(plain.needs) == []


def test_the_whole_prompt_counts_for_its_length() -> None:
    short = query_from_messages([{"role": "user", "content": "hi"}])
    long = query_from_messages([{"role": "system", "content": "x" * 4000}, {"role": "user", "content": "hi"}])
    assert (long.prompt_tokens or 0) - (short.prompt_tokens or 0) == 1004
    assert long.text == short.text


def test_without_a_person_the_last_text_is_routed() -> None:
    assert query_from_messages([{"role": "system", "content": "Say hello."}]).text == "Say hello."
    with pytest.raises(QueryError, match="nothing to route"):
        query_from_messages([])


def test_an_attachment_without_a_word_is_routed_by_its_kind() -> None:
    query = query_from_messages(
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:..."}}]}]
    )
    assert (query.text, list(query.needs)) == ("images", ["images"])


class WithStatus(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__("x")
        self.status_code = status_code


class ContextWindowExceededError(WithStatus):
    """As LiteLLM has it: a bad request whose cause is the length."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WithStatus(429), "rate_limit"),
        (WithStatus(401), "auth"),
        (WithStatus(418), "bad_request"),
        (WithStatus(529), "unavailable"),
        (ContextWindowExceededError(400), "context_window"),
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "unavailable"),
        (MissingKeyError("no key"), "auth"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (ValueError("a bug"), None),
    ],
)
def test_failures_are_told_apart(error: BaseException, kind: str | None) -> None:
    assert classify(error) == kind


def test_usage_is_read_from_objects_and_mappings() -> None:
    usage = Usage.from_openai(
        {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}}
    )
    assert usage == Usage(prompt_tokens=5, response_tokens=2, cached_tokens=3)
    assert Usage.from_openai(None) == Usage()
