"""Streams as odd as providers send them: calls without ids or with one index for all, and usage without a choice."""

from types import SimpleNamespace as Fake
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, ToolCallBlock

from llamaindex_mixllm._answers import StreamedAnswer
from mixllm_engine.calling import Routed
from mixllm_engine.testing import tiny_router


def streamed(*chunks: Any) -> list[ChatResponse]:
    router, answer = tiny_router(), StreamedAnswer()
    decision, candidate = router.decide("hello"), router.candidates[0]
    return [answer.chat(Routed(decision=decision, candidate=candidate, response=chunk)) for chunk in chunks]


def chunk(*calls: Any, content: str | None = None, usage: dict[str, int] | None = None) -> Any:
    choices = [Fake(delta=Fake(content=content, tool_calls=list(calls) or None))]
    return Fake(choices=choices, model_dump=lambda: {"id": "x", "usage": usage})


def piece(arguments: str, *, index: int = 0, name: str | None = None, call_id: str | None = None) -> Any:
    return Fake(index=index, id=call_id, function=Fake(name=name, arguments=arguments))


def calls(response: ChatResponse) -> list[tuple[str | None, str, Any]]:
    blocks = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
    return [(block.tool_call_id, block.tool_name, block.tool_kwargs) for block in blocks]


def test_a_new_id_is_a_new_call_even_under_the_same_index() -> None:
    last = streamed(chunk(piece('{"a": 1}', name="f", call_id="1")), chunk(piece('{"a": 2}', name="f", call_id="2")))[
        -1
    ]
    assert calls(last) == [("1", "f", {"a": 1}), ("2", "f", {"a": 2})]


def test_a_repeated_id_goes_on_with_its_call() -> None:
    last = streamed(chunk(piece('{"a":', name="f", call_id="1")), chunk(piece(" 1}", call_id="1")))[-1]
    assert calls(last) == [("1", "f", {"a": 1})]


def test_calls_may_be_interleaved() -> None:
    last = streamed(
        chunk(piece("{", index=0, name="f", call_id="1"), piece("{", index=1, name="g", call_id="2")),
        chunk(piece('"b": 2}', index=1), piece('"a": 1}', index=0)),
    )[-1]
    assert calls(last) == [("1", "f", {"a": 1}), ("2", "g", {"b": 2})]


def test_a_call_without_an_id_gets_one_and_keeps_it() -> None:
    first, last = streamed(chunk(piece("{", name="f")), chunk(piece("}")))
    assert calls(first)[0][0] == calls(last)[0][0]
    assert calls(last)[0][0]


def test_usage_may_come_without_a_choice() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    last = streamed(chunk(content="Hi"), Fake(choices=[], model_dump=lambda: {"usage": usage}))[-1]
    assert (last.message.content, last.delta, last.additional_kwargs) == ("Hi", "", usage)
