"""Behaviours 19 to 24 of a good LlamaIndex citizen: who is asked, and with what."""

import asyncio
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer

from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine import ConfigError, ContextWindowError, NoEligibleCandidateError, Router, RouterConfig
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import Failure, Hang, Reply, ScriptedServer, tiny_router

from .behaviours import KEY, errors, pool
from .contract import ADD_CALL, HELLO, QUESTION, REACT_ANSWER, THOUGHT, WAYS, body, collected, tools
from .test_llm import told


def test_behaviour_19_tools_never_go_to_a_candidate_without(server: ScriptedServer) -> None:
    """Tools offered now count, and so do their traces in the history."""
    server.script("able", Reply(tool_calls=[ADD_CALL]))
    llm = MixLLM(router=pool(server, able={"supports_tools": True}, plain={"supports_tools": False}))
    said = [llm.chat_with_tools(tools(), QUESTION) for _ in range(10)][-1].message
    result = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_1"})
    llm.chat([ChatMessage(content=QUESTION), said, result])
    assert (server.count("able"), server.count("plain")) == (11, 0)
    with pytest.raises(NoEligibleCandidateError, match="does not support tools"):
        MixLLM(router=pool(server, plain={"supports_tools": False})).stream_chat_with_tools(tools(), QUESTION)


@pytest.mark.parametrize("way", WAYS)
async def test_behaviour_20_long_prompts_go_to_large_windows_or_nowhere(
    server: ScriptedServer, llm: MixLLM, way: str
) -> None:
    """A prompt that is too long leaves small windows out; too long for all is an error of the call itself."""
    long: Any = "word " * 6000 if "complete" in way else [ChatMessage(content="word " * 6000)]
    result = getattr(llm, way)(long)
    result = await result if way.startswith("a") else result
    last = (await collected(result) if "astream" in way else list(result) if "stream" in way else [result])[-1]
    assert told(last)["candidate"] == "dear"
    asking = getattr(llm, way)
    with pytest.raises(ContextWindowError, match="more than the context window of every candidate"):
        result = asking("word " * 60_000 if "complete" in way else [ChatMessage(content="word " * 60_000)])
        if way.startswith("a"):
            await result
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({}, 4096),
        ({"context_window": "smallest"}, 4096),
        ({"context_window": "largest"}, 16384),
        ({"context_window": 1000}, 1000),
        ({"allow": ["d*"]}, 16384),
        ({"deny": ["cheap"]}, 16384),
        ({"force": "dear"}, 16384),
    ],
)
def test_behaviour_21_the_window_follows_an_explicit_policy(fields: dict[str, Any], window: int) -> None:
    """The smallest or the largest window of those that may answer, or a number; memories are sized by it."""
    llm = MixLLM(router=tiny_router(), **fields)
    assert llm.metadata.context_window == window
    assert ChatMemoryBuffer.from_defaults(llm=llm).token_limit == int(window * 0.75)


async def test_behaviour_22_failures_go_to_another_candidate_at_one_request_each(
    server: ScriptedServer, llm: MixLLM
) -> None:
    """429, 500, silence and small windows go on elsewhere, and are recorded; a refused key pauses its candidate."""
    too_long = Failure(status=400, code="context_length_exceeded", message="maximum context length is 9")
    failures: list[tuple[Any, str]] = [
        (Failure(status=429), "rate_limit"),
        (Failure(status=500), "unavailable"),
        (Hang(seconds=30), "timeout"),
        (too_long, "context_window"),
    ]
    for failure, kind in failures:
        server.clear()
        server.script("cheap", failure)
        with tiny_router(api_base=server.base_url, config=llm.router.config) as router:
            other = MixLLM(router=router)
            said = await other.achat(HELLO, timeout=0.5) if kind == "timeout" else other.chat(HELLO, timeout=5)
            assert errors(router, said) == [("cheap", kind), ("dear", None)]
            assert other.feedback(said, 1.0).candidate == "dear"  # credited to who answered
        assert (server.count("cheap"), server.count("dear")) == (1, 1)
    server.clear()
    server.script("cheap", Failure(status=401))
    assert [told(llm.complete("Hello?"))["candidate"] for _ in range(3)] == ["dear"] * 3
    assert server.count("cheap") == 1


def test_behaviour_23_arguments_of_a_call_reach_the_model_and_terms_do_not(
    server: ScriptedServer, router: Router
) -> None:
    """Temperatures above 1 and any parameter pass; what is meant for the router does not."""
    llm = MixLLM(router=router, session="s", temperature=0.4, max_tokens=9)
    llm.chat(HELLO, budget="low", max_wait_s=30.0, question="How?", seed=7)
    llm.chat(HELLO, temperature=1.7, stop=None)
    common = {"model": "cheap", "messages": [{"role": "user", "content": "Hello, how are you?"}], "max_tokens": 9}
    assert body(server, 0) == {**common, "temperature": 0.4, "seed": 7}
    assert body(server, 1) == {**common, "temperature": 1.7}
    refused: dict[str, Any] = {"api_key": KEY, "base_url": "http://x", "model": "gpt-4o", "stream": True}
    for name, value in refused.items():
        with pytest.raises(ConfigError, match=f"{name} can't be given"):
            llm.chat(HELLO, **{name: value})


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # LlamaIndex's own
async def test_behaviour_24_a_candidate_can_be_forced_and_stays_for_a_run(server: ScriptedServer) -> None:
    """Who is forced answers; in an agent's run whoever began goes on, although runs like it go on beside it."""
    config = RouterConfig(exploration=ExplorationConfig(rate=0.5, pulls=1000))
    thought, answer = Reply(text=THOUGHT), Reply(text=REACT_ANSWER)

    def step(request: Any) -> Reply:
        """Call the tool twice, with the same id for everybody, then answer."""
        results = [message for message in request.body["messages"] if message["role"] == "tool"]
        return Reply(tool_calls=[ADD_CALL], token_delay_s=0.002) if len(results) < 2 else Reply(text="It is 3.")

    def react(request: Any) -> Reply:
        return answer if "Observation: " in request.body["messages"][-1]["content"] else thought

    async def run(agent: Any) -> set[str]:
        with track_decisions() as tracked:
            assert str(await agent.run(QUESTION)) == "It is 3."
        assert len(tracked.decisions) > 1
        assert [decision.reason for decision in tracked.decisions[1:]] == ["tool loop"] * (len(tracked.decisions) - 1)
        return {decision.candidate for decision in tracked.decisions}

    with tiny_router(api_base=server.base_url, config=config) as router:
        llm = MixLLM(router=router)
        assert told(llm.chat(HELLO, force="dear"))["candidate"] == "dear"
        for script, kind in ((step, FunctionAgent), (react, ReActAgent)):
            for name in ("cheap", "dear"):
                server.script(name, script)
            runs = await asyncio.gather(*(run(kind(tools=tools(), llm=llm)) for _ in range(8)))
            assert {len(candidates) for candidates in runs} == {1}
            assert set().union(*runs) == {"cheap", "dear"}
