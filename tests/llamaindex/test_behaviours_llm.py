"""Behaviours 1 to 10 of a good LlamaIndex citizen: the LLM itself, its streams, events and errors."""

import gc
from contextlib import aclosing
from typing import Any

import pytest
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import PromptTemplate

from llamaindex_mixllm import MixLLM
from mixllm_engine import AllCandidatesFailedError, Router
from mixllm_engine.testing import Cut, Failure, Reply, ScriptedServer

from .behaviours import errors, in_flight, labels
from .conftest import RecordedEvents
from .contract import HELLO, STREAMS, WAYS, asked, collected, text_of
from .test_llm import told


def test_behaviour_01_what_it_is_is_stable_and_needs_no_network(server: ScriptedServer, llm: MixLLM) -> None:
    """It is a function-calling LLM whose name and metadata stay the same and ask nobody."""
    assert isinstance(llm, FunctionCallingLLM) and BaseLLM in type(llm).__mro__
    assert MixLLM.class_name() == llm.to_dict()["class_name"] == "MixLLM"
    before = llm.metadata
    llm.complete("Hello?")
    server.clear()
    assert llm.metadata == before
    assert server.requests == ()


async def test_behaviour_02_chat_and_achat_give_the_same(llm: MixLLM) -> None:
    """Blocking or not, the answer is the same."""
    said, later = llm.chat(HELLO), await llm.achat(HELLO)
    assert said.message == later.message
    assert said.additional_kwargs == later.additional_kwargs


@pytest.mark.parametrize("way", STREAMS)
async def test_behaviour_03_streams_join_to_the_whole_and_share_nothing(llm: MixLLM, way: str) -> None:
    """Streams are cumulative, their deltas join to the whole answer, and no chunk is part of another."""
    responses = await asked(llm, way)
    so_far = ""
    for response in responses:
        so_far += response.delta
        assert text_of(response) == so_far
    (whole,) = await asked(llm, "chat")
    assert so_far == text_of(whole)
    assert sum(bool(response.delta) for response in responses) == 4  # word by word, not at once
    first, second = responses[:2]
    assert first.raw is not second.raw
    assert first.raw["mixllm"] is not second.raw["mixllm"]
    if isinstance(first, ChatResponse):
        assert first.message is not second.message
        assert first.message.blocks is not second.message.blocks


async def test_behaviour_04_completions_wrap_prompts_unless_formatted(server: ScriptedServer, router: Router) -> None:
    """All four ways to complete wrap the prompt, unless it is formatted already."""
    llm = MixLLM(router=router, completion_to_prompt=lambda prompt: f"<{prompt}>")
    for way in WAYS[4:]:
        assert text_of((await asked(llm, way))[-1]) == "Good day to you"
        assert text_of((await asked(llm, way, formatted=True))[-1]) == "Good day to you"
    sent: list[Any] = [request.body["messages"] for request in server.requests]
    assert [messages[0]["content"] for messages in sent] == ["<Hello, how are you?>", "Hello, how are you?"] * 4


async def test_behaviour_05_predict_and_stream_send_the_system_prompt(server: ScriptedServer, router: Router) -> None:
    """Templates become messages below the system prompt, in all four ways."""
    llm = MixLLM(router=router, system_prompt="Be brief.")
    prompt = PromptTemplate("Greet {name}.")
    said = [llm.predict(prompt, name="Ada"), await llm.apredict(prompt, name="Ada")]
    said.append("".join(llm.stream(prompt, name="Ada")))
    said.append("".join(await collected(await llm.astream(prompt, name="Ada"))))
    assert said == ["Good day to you"] * 4
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Greet Ada."}
    assert [request.body["messages"] for request in server.requests] == [[system, user]] * 4


@pytest.mark.parametrize("way", WAYS)
async def test_behaviour_06_usage_is_the_servers_and_counted_once(router: Router, way: str) -> None:
    """Usage stands in `raw` and `additional_kwargs`, of streams too, and LlamaIndex counts it once."""
    counter = TokenCountingHandler(tokenizer=str.split)
    responses = await asked(MixLLM(router=router, callback_manager=CallbackManager([counter])), way)
    with_usage = [response for response in responses if response.raw.get("usage")]
    assert with_usage == responses[-1:]
    usage = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
    assert usage.items() <= with_usage[0].raw["usage"].items()
    assert with_usage[0].additional_kwargs == usage
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (11, 4)
    assert len(counter.llm_token_counts) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_behaviour_07_a_call_is_one_pair_of_events_and_one_routing_event(
    router: Router, recorded: RecordedEvents, way: str
) -> None:
    """Dispatcher and legacy callbacks see one call, in its span; the routing event has nothing of the prompt."""
    legacy = LlamaDebugHandler(print_trace_on_end=False)
    last = (await asked(MixLLM(router=router, callback_manager=CallbackManager([legacy])), way))[-1]
    kind = "Completion" if "complete" in way else "Chat"
    assert recorded.names("Start") == [f"LLM{kind}StartEvent"]
    assert recorded.names("End") == [f"LLM{kind}EndEvent"]
    assert recorded.names("Exception") == []
    assert len(legacy.get_event_pairs(CBEventType.LLM)) == 1
    (routing,) = [event for event in recorded.events if type(event).__name__ == "MixLLMRoutingEvent"]
    spans = {event.span_id for event in recorded.events if "LLM" in type(event).__name__}
    assert spans == {routing.span_id}
    assert routing.span_id.startswith(f"MixLLM.{way}-")
    seen = routing.model_dump(exclude={"timestamp", "id_", "span_id", "tags"})
    decision = router.explain(told(last)["decision_id"]).decision
    assert seen == {
        "class_name": "MixLLMRoutingEvent",
        "decision_id": decision.decision_id,
        "candidate": "cheap",
        "propensity": decision.propensity,
        "explored": False,
        "reason": "score",
    }


@pytest.mark.parametrize("way", WAYS)
async def test_behaviour_08_errors_come_through_and_leave_nothing_open(
    server: ScriptedServer, router: Router, recorded: RecordedEvents, way: str
) -> None:
    """An error reaches the caller, closes the call's events, and leaves no call in flight."""
    legacy = LlamaDebugHandler(print_trace_on_end=False)
    for name in ("cheap", "dear"):
        server.script(name, Failure(status=503))
    with pytest.raises(AllCandidatesFailedError, match="all 2 candidates failed"):
        await asked(MixLLM(router=router, callback_manager=CallbackManager([legacy])), way)
    ((_, end),) = legacy.get_event_pairs(CBEventType.LLM)
    assert end.payload is not None
    assert isinstance(end.payload[EventPayload.EXCEPTION], AllCandidatesFailedError)
    assert recorded.names("End") == []
    assert (in_flight(router), labels(router)) == (0, 0)


async def test_behaviour_09_streams_that_nobody_reads_to_the_end_cost_no_quality(
    server: ScriptedServer, llm: MixLLM
) -> None:
    """A stream that is closed early, never read or broken leaves nothing in flight, and is no bad answer."""
    server.script("cheap", Reply(text="one two three four five", token_delay_s=0.2))
    stream, astream = llm.stream_chat(HELLO), await llm.astream_chat(HELLO)
    first, afirst = next(stream), await anext(astream)
    assert in_flight(llm.router) == 2
    stream.close()
    await astream.aclose()
    unread = [llm.stream_chat(HELLO), await llm.astream_complete("Hello?")]
    before = len(server.requests)
    del unread
    gc.collect()
    assert len(server.requests) == before == 2
    server.script("cheap", Cut(text="one two three", after_tokens=1))
    with pytest.raises(Exception, match="(?i)peer|connection"):
        list(llm.stream_complete("Hello?"))
    stats = llm.router.stats()
    assert (stats["decisions"], stats["outcomes"], in_flight(llm.router), labels(llm.router)) == (5, 3, 0, 0)
    assert [errors(llm.router, response) for response in (first, afirst)] == [[("cheap", "cancelled")]] * 2


@pytest.mark.parametrize("way", STREAMS)
async def test_behaviour_10_what_was_said_is_not_said_again_by_another(
    server: ScriptedServer, llm: MixLLM, recorded: RecordedEvents, way: str
) -> None:
    """After its first token a stream that breaks is an error; no other candidate takes it up."""
    server.script("cheap", Cut(text="one two three four", after_tokens=2))
    seen: list[Any] = []
    result = getattr(llm, way)("Hello?" if "complete" in way else HELLO)
    with pytest.raises(Exception, match="(?i)peer|connection"):
        if way.startswith("a"):
            async with aclosing(await result) as chunks:
                async for chunk in chunks:
                    seen.append(chunk)
        else:
            for chunk in result:
                seen.append(chunk)
    assert text_of(seen[-1]) == "one two"
    assert (server.count("cheap"), server.count("dear")) == (1, 0)
    assert errors(llm.router, seen[-1]) == [("cheap", "broken_stream")]
    assert recorded.names("Exception") == ["ExceptionEvent"]
    assert recorded.names("End") == []
