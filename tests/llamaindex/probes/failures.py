"""Six probes of failures that must be told, each after one request."""

from typing import Any

from llamaindex_mixllm import MixLLM
from mixllm_engine.testing import Cut, Failure, Malformed, ScriptedServer
from tests.llamaindex.contract import HELLO
from tests.llamaindex.probes.registry import probe


def fails(llm: MixLLM, server: ScriptedServer, behaviour: Any, word: str) -> None:
    server.script("own", behaviour)
    before = len(server.requests)
    for ask in (lambda: llm.chat(HELLO), lambda: list(llm.stream_chat(HELLO))):
        try:
            ask()
        except Exception as error:
            assert word in repr(error), error
        else:
            raise AssertionError("nothing was raised")
    assert len(server.requests) == before + 2  # one request per attempt


@probe
def a_refused_key_raises(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Failure(status=401, message="bad key"), "bad key")


@probe
def too_many_requests_raise(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Failure(status=429, message="slow down"), "slow down")


@probe
def a_server_error_raises(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Failure(status=500, message="oh no"), "oh no")


@probe
def a_prompt_that_is_too_long_raises(llm: MixLLM, server: ScriptedServer) -> None:
    failure = Failure(status=400, code="context_length_exceeded", message="maximum context length is 9")
    fails(llm, server, failure, "maximum context length is 9")


@probe
def an_answer_that_is_no_answer_raises(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Malformed(body="no JSON"), "all 1 candidates failed")


@probe
def a_stream_that_breaks_raises(llm: MixLLM, server: ScriptedServer) -> None:
    fails(llm, server, Cut(text="one two three", after_tokens=1), "onnection")
