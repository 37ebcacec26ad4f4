"""Agents whose every model call is routed by `MixLLMMiddleware`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRetryMiddleware
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputValidationError, ToolStrategy
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.exceptions import ContextOverflowError, ModelConnectionError, ModelRateLimitError
from langchain_core.language_models import FakeListChatModel, FakeMessagesListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from langchain_mixllm import ChatMixLLM, MixLLMFeedbackHandler
from langchain_mixllm.middleware import MixLLMMiddleware
from mixllm_engine import (
    AllCandidatesFailedError,
    Candidate,
    ConfigError,
    Decision,
    Query,
    Router,
    RouterConfig,
    UnknownCandidateError,
    track_decisions,
)
from mixllm_engine.config import ExplorationConfig
from mixllm_engine.testing import (
    Cut,
    Failure,
    FakeClock,
    Hang,
    HashingEncoder,
    Reply,
    ScriptedServer,
    ToolCall,
    tiny_pool,
    tiny_router,
)
from mixllm_engine.testing.behaviours import RecordedRequest

Run = Callable[..., Awaitable[list[Any]]]
CALM = RouterConfig(exploration=ExplorationConfig(rate=0.0, pulls=0))


class Joke(BaseModel):
    """A joke."""

    setup: str


def look(city: str) -> str:
    """Tell the weather."""
    return f"Sunny in {city}"


def agent_of(middleware: MixLLMMiddleware, **settings: Any) -> Any:
    return create_agent(FakeListChatModel(responses=["never called"]), middleware=[middleware], **settings)


def asked(text: Any = "Hello?") -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


async def _invoke(agent: Any, given: Any, config: Any = None) -> list[Any]:
    messages: list[Any] = agent.invoke(given, config)["messages"]
    return messages


async def _ainvoke(agent: Any, given: Any, config: Any = None) -> list[Any]:
    messages: list[Any] = (await agent.ainvoke(given, config))["messages"]
    return messages


async def _stream(agent: Any, given: Any, config: Any = None) -> list[Any]:
    *_, (_, last) = agent.stream(given, config, stream_mode=["messages", "values"])
    messages: list[Any] = last["messages"]
    return messages


async def _astream(agent: Any, given: Any, config: Any = None) -> list[Any]:
    parts = [part async for part in agent.astream(given, config, stream_mode=["messages", "values"])]
    messages: list[Any] = parts[-1][1]["messages"]
    return messages


@pytest.fixture(params=[_invoke, _ainvoke, _stream, _astream], ids=["invoke", "ainvoke", "stream", "astream"])
def run(request: pytest.FixtureRequest) -> Run:
    """One of the four ways to run an agent; returns all messages."""
    way: Run = request.param
    return way


@pytest.fixture(params=[_invoke, _astream], ids=["invoke", "astream"])
def either_run(request: pytest.FixtureRequest) -> Run:
    """Blocking and whole, or neither: where the path does not matter, but both methods of the middleware do."""
    way: Run = request.param
    return way


@pytest.fixture
def middleware(router: Router) -> MixLLMMiddleware:
    return MixLLMMiddleware(router, budget="very_low")


def said(message: AIMessage) -> dict[str, Any]:
    noted: dict[str, Any] = message.response_metadata["mixllm"]
    return noted


def answers(messages: list[BaseMessage]) -> list[AIMessage]:
    return [message for message in messages if isinstance(message, AIMessage)]


def candidates_of(messages: list[BaseMessage]) -> list[str]:
    return [said(message)["candidate"] for message in answers(messages)]


def looping(steps: int, then: str = "It is sunny") -> Callable[[RecordedRequest], Reply]:
    """Return what calls a tool until it has been called so often since the person's last message."""

    def answer(request: RecordedRequest) -> Reply:
        messages: Any = request.body["messages"]
        person = max(place for place, message in enumerate(messages) if message["role"] == "user")
        done = sum(message["role"] == "tool" for message in messages[person:])
        call = ToolCall(name="look", arguments={"city": f"city {done}"}, id=f"call_{len(messages)}")
        return Reply(text=then) if done >= steps else Reply(tool_calls=[call])

    return answer


def joking(request: RecordedRequest) -> Reply:
    """Answer in the form of a `Joke`, by the tool of that name if there is one."""
    tools: Any = request.body.get("tools", [])
    if any(tool["function"]["name"] == "Joke" for tool in tools):
        return Reply(tool_calls=[ToolCall(name="Joke", arguments={"setup": "Why?"})])
    return Reply(text='{"setup": "Why?"}')


def prefer(router: Router, good: str, bad: str) -> None:
    """Teach a router, so that the better one is chosen wherever quality counts."""
    for number in range(15):
        router.feedback(router.decide(f"Q {number}", force=good), 1.0)
        router.feedback(router.decide(f"Q {number}", force=bad), 0.0)
    assert router.decide("Hello?", willingness_to_pay=1000.0).candidate == good


class TestAnswers:
    async def test_the_answer_says_where_it_came_from(
        self, run: Run, middleware: MixLLMMiddleware, router: Router
    ) -> None:
        with get_usage_metadata_callback() as counted:
            (_, answer) = await run(agent_of(middleware), asked())

        assert answer.text == "Hello from cheap to you"
        assert said(answer).keys() == {"decision_id", "candidate", "model", "propensity", "explored"}
        assert (said(answer)["candidate"], said(answer)["model"]) == ("cheap", "openai/cheap")
        assert answer.response_metadata["model_name"] == "openai/cheap"
        assert answer.id.startswith("lc_run--")  # its own
        json.dumps([answer.response_metadata, answer.additional_kwargs])
        usage = counted.usage_metadata["openai/cheap"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (11, 5)
        (outcome,) = router.explain(said(answer)["decision_id"]).outcomes
        assert (outcome.candidate, outcome.error, outcome.prompt_tokens, outcome.response_tokens) == (
            "cheap",
            None,
            11,
            5,
        )
        assert outcome.cost_usd == answer.response_metadata["response_cost"] == pytest.approx((1.1 + 2.0) / 1e6)
        assert router.stats()["candidates"]["cheap"]["in_flight"] == 0

    async def test_a_stream_is_one_message_whose_first_chunk_names_the_decision(
        self, middleware: MixLLMMiddleware
    ) -> None:
        parts = [part async for part in agent_of(middleware).astream(asked(), stream_mode=["messages", "values"])]
        chunks = [part[0] for mode, part in parts if mode == "messages"]
        answer = parts[-1][1]["messages"][-1]

        assert [chunk.text for chunk in chunks if chunk.text] == ["Hello", " from", " cheap", " to", " you"]
        assert {chunk.id for chunk in chunks} == {answer.id}
        assert ["mixllm" in chunk.response_metadata for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
        assert said(chunks[0]) == said(answer)

    async def test_what_is_sent(self, either_run: Run, server: ScriptedServer) -> None:
        cheap, dear = tiny_pool(api_base=server.base_url)
        router = Router([replace(cheap, params={"temperature": 0.2}), dear], config=CALM, encoder=HashingEncoder())
        agent = agent_of(MixLLMMiddleware(router, budget="very_low"), tools=[look], system_prompt="Be brief.")
        await either_run(agent, {"messages": [HumanMessage("Hello?", name="ann")]})

        sent: Any = server.requests[-1].body
        assert sent["temperature"] == 0.2
        assert [(message["role"], message.get("name")) for message in sent["messages"]] == [
            ("system", None),
            ("user", "ann"),
        ]
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["look"]

    async def test_agents_at_once_do_not_mix(self, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        def echo(request: RecordedRequest) -> Reply | Failure:
            text = str(request.body["messages"])
            return Failure(status=400) if request.model == "cheap" and "odd" in text else Reply(text=text)

        server.script("cheap", echo)
        server.script("dear", echo)
        agent = agent_of(middleware)

        async def one(number: int) -> str:
            word = f"{'odd' if number % 2 else 'even'}{number}."
            with track_decisions() as tracked:
                (_, answer) = await _astream(agent, asked(word))
            assert word in answer.text
            assert tracked.decision_ids == [said(answer)["decision_id"]]
            assert said(answer)["candidate"] == ("dear" if number % 2 else "cheap")
            return str(tracked.decision_ids[0])

        assert len(set(await asyncio.gather(*map(one, range(16))))) == 16

    def test_answers_of_a_cache_cost_nothing(self, router: Router) -> None:
        from langchain_core.caches import InMemoryCache

        reply = AIMessage("Hi", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10})
        model = FakeMessagesListChatModel(responses=[reply], cache=InMemoryCache())
        middleware = MixLLMMiddleware(router, models={"cheap": model}, budget="very_low")
        given = {"messages": [HumanMessage("Hello?", id="1")]}
        first, again = (agent_of(middleware).invoke(given)["messages"][-1] for _ in range(2))

        assert said(first)["decision_id"] != said(again)["decision_id"]
        used = [router.explain(said(message)["decision_id"]).outcomes[0].response_tokens for message in (first, again)]
        assert used == [3, None]


class TestToolLoops:
    """Inside a tool loop the candidate never changes."""

    @pytest.mark.parametrize("config", [None, {"configurable": {"thread_id": "t"}}], ids=["alone", "thread"])
    async def test_five_steps_keep_their_candidate(
        self, run: Run, server: ScriptedServer, router: Router, config: Any
    ) -> None:
        prefer(router, "cheap", "dear")

        def change_mind(city: str) -> str:
            """Tell the weather, and make the other one better."""
            for number in range(20):
                router.feedback(router.decide(f"R {number}", force="cheap"), 0.0)
                router.feedback(router.decide(f"R {number}", force="dear"), 1.0)
            return f"Sunny in {city}"

        change_mind.__name__ = "look"
        server.script("cheap", looping(4))
        server.script("dear", looping(4))
        middleware = MixLLMMiddleware(router, willingness_to_pay=1000.0)
        saver = InMemorySaver() if config else None
        messages = await run(agent_of(middleware, tools=[change_mind], checkpointer=saver), asked(), config)

        assert candidates_of(messages) == ["cheap"] * 5
        assert messages[-1].text == "It is sunny"
        assert router.decide("Hello?", willingness_to_pay=1000.0).candidate == "dear"  # it would have changed
        before = router.stats()["feedback_applied"]
        receipt = middleware.feedback(messages[-1], 1.0)
        assert (receipt.status, receipt.candidate) == ("applied", "cheap")
        assert router.stats()["feedback_applied"] == before + 1

    async def test_who_stepped_in_stays(self, either_run: Run, server: ScriptedServer) -> None:
        clock = FakeClock()

        def wait(city: str) -> str:
            """Tell the weather when the pause of the other is over."""
            clock.advance(3600.0)
            return f"Sunny in {city}"

        wait.__name__ = "look"
        server.script("cheap", [Failure(status=429), looping(2)])
        server.script("dear", looping(2))
        with tiny_router(api_base=server.base_url, config=CALM, clock=clock) as router:
            prefer(router, "cheap", "dear")
            middleware = MixLLMMiddleware(router, willingness_to_pay=1000.0)
            agent = agent_of(middleware, tools=[wait], checkpointer=InMemorySaver())
            config = {"configurable": {"thread_id": "t"}}
            messages = await either_run(agent, asked(), config)
            assert router.decide("Hello?", willingness_to_pay=1000.0).candidate == "cheap"  # it is back

        assert candidates_of(messages) == ["dear"] * 3

    async def test_another_answers_where_the_kept_one_fails(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", [looping(3), Failure(status=500)])
        server.script("dear", looping(3))
        messages = await either_run(agent_of(middleware, tools=[look]), asked())

        assert candidates_of(messages) == ["cheap", "dear", "dear", "dear"]
        outcomes = middleware.router.explain(said(answers(messages)[1])["decision_id"]).outcomes
        assert [(outcome.candidate, outcome.error) for outcome in outcomes] == [
            ("cheap", "unavailable"),
            ("dear", None),
        ]

    async def test_a_loop_survives_its_process(self, either_run: Run, server: ScriptedServer, router: Router) -> None:
        server.script("cheap", looping(1))
        server.script("dear", looping(1))
        saver, config = InMemorySaver(), {"configurable": {"thread_id": "t"}}
        settings: dict[str, Any] = {"tools": [look], "checkpointer": saver, "interrupt_before": ["tools"]}
        first = await either_run(agent_of(MixLLMMiddleware(router, budget="very_low"), **settings), asked(), config)
        assert candidates_of(first) == ["cheap"]

        with tiny_router(api_base=server.base_url, config=CALM) as other:  # remembers no session
            prefer(other, "dear", "cheap")
            agent = agent_of(MixLLMMiddleware(other, willingness_to_pay=1000.0), **settings)
            messages = await either_run(agent, None, config)

        assert candidates_of(messages) == ["cheap", "cheap"]

    async def test_the_next_question_is_free_again(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", looping(1))
        server.script("dear", looping(1))
        agent = agent_of(middleware, tools=[look], checkpointer=InMemorySaver())
        await either_run(agent, asked(), {"configurable": {"thread_id": "t"}})
        messages = await either_run(
            agent, asked("And now?"), {"configurable": {"thread_id": "t", "budget": "very_high", "deny": ["cheap"]}}
        )

        assert candidates_of(messages) == ["cheap", "cheap", "dear", "dear"]


class TestSessions:
    async def test_staying_is_cheaper_within_a_thread(self, either_run: Run, server: ScriptedServer) -> None:
        pool = [replace(candidate, cached_input_usd_per_mtok=0.0) for candidate in tiny_pool(api_base=server.base_url)]
        with Router(pool, config=CALM, encoder=HashingEncoder()) as router:
            agent = agent_of(MixLLMMiddleware(router, budget="very_low"), checkpointer=InMemorySaver())
            with track_decisions() as tracked:
                await either_run(agent, asked("Tell me a long story"), {"configurable": {"thread_id": "one"}})
                messages = await either_run(agent, asked("Go on"), {"configurable": {"thread_id": "one"}})
                await either_run(agent, {"messages": messages[:-1]}, {"configurable": {"thread_id": "other"}})

        def prompt_usd(decision: Decision, candidate: Candidate) -> float:
            score = decision.scores[candidate.name]
            assert candidate.output_usd_per_mtok is not None
            return score.cost_usd - score.response_tokens * candidate.output_usd_per_mtok / 1e6

        _, within, without = tracked.decisions
        cheap, dear = pool
        assert prompt_usd(within, cheap) < 0.7 * prompt_usd(without, cheap)
        assert prompt_usd(within, dear) == pytest.approx(prompt_usd(without, dear))

    async def test_a_conversation_without_a_thread_names_itself_for_its_tools(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", looping(1))
        messages = await either_run(agent_of(middleware, tools=[look]), asked())

        first, second = answers(messages)
        assert said(first)["session"].startswith("conversation-")
        assert "session" not in said(second)


class TestFailures:
    @pytest.mark.parametrize(
        ("failure", "kind"),
        [(Failure(status=429), "rate_limit"), (Failure(status=500), "unavailable"), (Hang(seconds=5), "timeout")],
        ids=["429", "500", "timeout"],
    )
    async def test_a_failure_costs_one_request_and_the_next_answers(
        self, run: Run, server: ScriptedServer, failure: Any, kind: str
    ) -> None:
        server.script("cheap", failure)
        quick = CALM.model_copy(update={"calling": CALM.calling.model_copy(update={"timeout_s": 0.3})})
        with tiny_router(api_base=server.base_url, config=quick if kind == "timeout" else CALM) as router:
            middleware = MixLLMMiddleware(router, budget="very_low")
            (_, answer) = await run(agent_of(middleware), asked())

            assert answer.text == "Hello from dear to you"
            assert (server.count("cheap"), server.count("dear")) == (1, 1)
            assert said(answer)["candidate"] == "dear"
            outcomes = router.explain(said(answer)["decision_id"]).outcomes
            assert [(outcome.candidate, outcome.error) for outcome in outcomes] == [("cheap", kind), ("dear", None)]
            assert router.stats()["candidates"]["cheap"]["labels"] == 0
            assert middleware.feedback(answer, 1.0).candidate == "dear"

    async def test_what_was_seen_is_not_begun_again(self, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Cut(text="One two three four", after_tokens=2))
        seen: list[Any] = []
        with pytest.raises(ModelConnectionError, match="broke off"):
            async for chunk, _ in agent_of(middleware).astream(asked(), stream_mode="messages"):
                seen.append(chunk)

        assert "".join(chunk.text for chunk in seen) == "One two"
        assert (server.count("cheap"), server.count("dear")) == (1, 0)
        (outcome,) = middleware.router.explain(said(seen[0])["decision_id"]).outcomes
        assert outcome.error == "broken_stream"

    async def test_what_nobody_saw_is_begun_again(self, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Cut(text="One two three four", after_tokens=2))
        (_, answer) = await _ainvoke(agent_of(middleware), asked())

        assert answer.text == "Hello from dear to you"

    async def test_all_fail(self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Failure(status=500))
        server.script("dear", Failure(status=429))
        with pytest.raises(AllCandidatesFailedError, match="all 2 candidates failed") as caught:
            await either_run(agent_of(middleware), asked())

        assert isinstance(caught.value, ModelRateLimitError)
        assert middleware.feedback(caught.value.decision_id, 0.0).status == "applied"

    async def test_a_prompt_that_fits_nobody(self, either_run: Run, middleware: MixLLMMiddleware) -> None:
        with pytest.raises(ContextOverflowError, match="more than the context window of every candidate"):
            await either_run(agent_of(middleware), asked("word " * 40_000))

    def test_langchains_own_retries_understand_the_failure(
        self, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", [Failure(status=429), Reply(text="Hello again")])
        server.script("dear", Failure(status=429))
        retry = ModelRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False)
        agent: Any = create_agent(FakeListChatModel(responses=["never called"]), middleware=[retry, middleware])

        assert agent.invoke(asked())["messages"][-1].text == "Hello again"

    async def test_an_interrupt_blames_nobody(self, either_run: Run, middleware: MixLLMMiddleware) -> None:
        class AskFirst(AgentMiddleware[Any, Any, Any]):
            def wrap_model_call(self, request: Any, handler: Any) -> Any:
                interrupt("May I?")
                return handler(request)

            async def awrap_model_call(self, request: Any, handler: Any) -> Any:
                interrupt("May I?")
                return await handler(request)

        model = FakeListChatModel(responses=["never called"])
        agent = create_agent(model, middleware=[middleware, AskFirst()], checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t"}}
        with track_decisions() as tracked:
            asked_first = await either_run(agent, asked(), config)
            assert len(asked_first) == 1
            (_, answer) = await either_run(agent, Command(resume="Yes"), config)

        assert answer.text == "Hello from cheap to you"
        kinds = [middleware.router.explain(made).outcomes[0].error for made in tracked.decision_ids]
        assert kinds == ["cancelled", None]

    async def test_a_cancelled_run_blames_nobody(self, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Reply(text="word " * 200, token_delay_s=0.05))
        task = asyncio.create_task(agent_of(middleware).ainvoke(asked()))
        while not server.count("cheap"):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await asyncio.to_thread(server.wait_for, lambda request: request.disconnected, 1.0)
        stats = middleware.router.stats()
        assert (stats["outcomes"], stats["candidates"]["cheap"]["in_flight"], server.count("dear")) == (1, 0, 0)
        assert middleware.router.decide("Next?", budget="very_low").candidate == "cheap"


class TestStructuredOutput:
    @pytest.mark.parametrize("form", [ToolStrategy(Joke), Joke], ids=["ToolStrategy", "schema"])
    async def test_by_a_tool(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware, form: Any
    ) -> None:
        server.script("cheap", Reply(tool_calls=[ToolCall(name="Joke", arguments={"setup": "Why?"})]))
        agent = agent_of(middleware, response_format=form)
        (_, answer, result) = await either_run(agent, asked("A joke"))

        assert isinstance(result, ToolMessage)
        assert agent.invoke(asked("A joke"))["structured_response"] == Joke(setup="Why?")
        assert said(answer)["candidate"] == "cheap"

    async def test_by_the_provider(self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware) -> None:
        server.script("cheap", Reply(text='{"setup": "Why?"}'))
        agent = agent_of(middleware, tools=[look], response_format=ProviderStrategy(Joke))
        (_, answer) = await either_run(agent, asked("A joke"))

        assert agent.invoke(asked("A joke"))["structured_response"] == Joke(setup="Why?")
        assert said(answer)["candidate"] == "cheap"
        form: Any = server.requests[-1].body["response_format"]
        assert form["json_schema"]["name"] == "Joke"

    @pytest.mark.parametrize(
        ("settings", "lacks"),
        [
            ({"tools": [look]}, "tools"),
            ({"response_format": ToolStrategy(Joke)}, "tools"),
            ({"response_format": Joke}, "tools"),
            ({"response_format": ProviderStrategy(Joke), "tools": [look]}, "json_schema"),
        ],
        ids=["tools", "ToolStrategy", "schema", "ProviderStrategy"],
    )
    def test_only_who_can_do_it_is_asked(self, server: ScriptedServer, settings: Any, lacks: str) -> None:
        cheap, dear = tiny_pool(api_base=server.base_url)
        server.script("dear", joking)
        unable: Any = {f"supports_{lacks}": False}
        router = Router([replace(cheap, **unable), dear], config=CALM, encoder=HashingEncoder())
        middleware = MixLLMMiddleware(router, willingness_to_pay=0.0)

        assert candidates_of(agent_of(middleware, **settings).invoke(asked())["messages"]) == ["dear"]
        assert candidates_of(agent_of(middleware).invoke(asked())["messages"]) == ["cheap"]

    def test_images_count(self, server: ScriptedServer) -> None:
        cheap, dear = tiny_pool(api_base=server.base_url)
        router = Router([cheap, replace(dear, supports_images=True)], config=CALM, encoder=HashingEncoder())
        agent = agent_of(MixLLMMiddleware(router, willingness_to_pay=0.0))
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

        assert candidates_of(agent.invoke(asked([{"type": "text", "text": "What?"}, image]))["messages"]) == ["dear"]

    async def test_an_answer_that_does_not_fit_is_an_answer(
        self, run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", Reply(text="no JSON"))
        agent = agent_of(middleware, tools=[look], response_format=ProviderStrategy(Joke))
        with pytest.raises(StructuredOutputValidationError, match="Joke") as caught:
            await run(agent, asked("A joke"))

        assert server.count("dear") == 0
        (outcome,) = middleware.router.explain(said(caught.value.ai_message)["decision_id"]).outcomes
        assert (outcome.error, outcome.response_tokens) == (None, 2)
        assert middleware.feedback(caught.value.ai_message, 0.0).candidate == "cheap"


class TestModels:
    """Any chat model may answer for a candidate."""

    async def test_given_models_answer(self, either_run: Run, router: Router) -> None:
        reply = AIMessage("Hello from a fake", response_metadata={"model_name": "fake-1"})
        models = {"cheap": GenericFakeChatModel(messages=iter([reply])), "dear": FakeListChatModel(responses=["?"])}
        middleware = MixLLMMiddleware(router, models=models, budget="very_low")
        (_, answer) = await either_run(agent_of(middleware), asked())

        assert answer.text == "Hello from a fake"
        assert said(answer)["candidate"] == "cheap"
        assert middleware.feedback(answer, 1.0).status == "applied"

    async def test_a_given_model_and_a_made_one_stand_in_for_each_other(
        self, either_run: Run, server: ScriptedServer, router: Router
    ) -> None:
        server.script("cheap", Failure(status=429))
        models = {"dear": FakeListChatModel(responses=["Hello from a fake"])}
        middleware = MixLLMMiddleware(router, models=models, budget="very_low")
        (_, answer) = await either_run(agent_of(middleware), asked())

        assert (answer.text, said(answer)["candidate"], server.count("dear")) == ("Hello from a fake", "dear", 0)

    def test_a_given_model_keeps_its_own_name_and_settings(self, router: Router) -> None:
        seen: list[dict[str, Any]] = []

        class Noting(FakeMessagesListChatModel):
            def _generate(self, *args: Any, **kwargs: Any) -> Any:
                seen.append(kwargs)
                return super()._generate(*args, **kwargs)

        model = Noting(responses=[AIMessage("Hi", response_metadata={"model_name": "fake-1"})])
        middleware = MixLLMMiddleware(router, models={"cheap": model}, budget="very_low")
        answer = agent_of(middleware).invoke(asked())["messages"][-1]

        assert answer.response_metadata["model_name"] == "fake-1"
        assert said(answer)["model"] == "openai/cheap"
        assert "timeout" not in seen[0]

    async def test_models_by_name(
        self, either_run: Run, server: ScriptedServer, router: Router, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        middleware = MixLLMMiddleware(router, models={"cheap": "litellm:openai/dear"}, budget="very_low")
        (_, answer) = await either_run(agent_of(middleware), asked())

        assert (answer.text, said(answer)["candidate"]) == ("Hello from dear to you", "cheap")

    async def test_a_model_that_routes_by_itself_is_refused(
        self, either_run: Run, llm: ChatMixLLM, middleware: MixLLMMiddleware
    ) -> None:
        with pytest.raises(ConfigError, match="decided twice"):
            await either_run(create_agent(llm, middleware=[middleware]), asked())
        with pytest.raises(ConfigError, match="decisions would nest"):
            MixLLMMiddleware(llm.router, models={"cheap": llm})
        assert llm.router.stats()["decisions"] == 0

    def test_what_is_no_model_is_refused(self, router: Router) -> None:
        model = FakeListChatModel(responses=["?"])
        with pytest.raises(ConfigError, match="is a RunnableRetry: give a chat model"):
            MixLLMMiddleware(router, models={"cheap": model.with_retry()})  # type: ignore[dict-item]
        with pytest.raises(UnknownCandidateError, match="'chaep', but the pool has 'cheap', 'dear'"):
            MixLLMMiddleware(router, models={"chaep": model})


class TestQueries:
    @pytest.fixture
    def routed_texts(self, router: Router, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | None]]:
        """Return the texts that are routed."""
        texts: list[str | None] = []
        decide = router.decide

        def noting(query: Query, **terms: Any) -> Any:
            texts.append(query.text)
            return decide(query, **terms)

        monkeypatch.setattr(router, "decide", noting)
        yield texts

    async def test_the_persons_request_is_routed(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware, routed_texts: list[str | None]
    ) -> None:
        server.script("cheap", looping(2))
        await either_run(agent_of(middleware, tools=[look], system_prompt="Be brief."), asked("How is the weather?"))

        assert routed_texts == ["How is the weather?"] * 3

    async def test_an_extractor_says_what_is_asked(
        self, either_run: Run, router: Router, routed_texts: list[str | None]
    ) -> None:
        def without_reminder(messages: list[BaseMessage]) -> str:
            return messages[-1].text.partition("<reminder>")[0]

        middleware = MixLLMMiddleware(router, query_extractor=without_reminder)
        await either_run(agent_of(middleware), asked("Hello?<reminder>Use tools.</reminder>"))

        assert routed_texts == ["Hello?"]

    async def test_terms_can_be_given_per_call(
        self, either_run: Run, router: Router, middleware: MixLLMMiddleware
    ) -> None:
        agent = agent_of(middleware)

        assert candidates_of(await either_run(agent, asked(), {"configurable": {"force": "dear"}})) == ["dear"]
        assert candidates_of(await either_run(agent, asked(), {"configurable": {"deny": ["cheap"]}})) == ["dear"]
        assert candidates_of(await either_run(agent, asked(), {"configurable": {"willingness_to_pay": 0.0}})) == [
            "cheap"
        ]
        denying = agent_of(MixLLMMiddleware(router, deny=["cheap"]))
        assert candidates_of(await either_run(denying, asked())) == ["dear"]


class TestFeedback:
    async def test_every_reference_leads_to_the_decision(
        self, run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        root = uuid4()
        (_, answer) = await run(agent_of(middleware), asked(), {"run_id": root})
        llm_run = answer.id.removeprefix("lc_run--").removesuffix("-0")

        assert middleware.feedback(answer, 1.0).status == "applied"
        for same in (answer.id, said(answer)["decision_id"], llm_run, root, str(root), AIMessage("", id=answer.id)):
            assert (await middleware.afeedback(same, 1.0)).status == "duplicate"

    async def test_a_run_of_several_decisions_can_share_the_credit(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        server.script("cheap", looping(2))
        root = uuid4()
        await either_run(agent_of(middleware, tools=[look]), asked(), {"run_id": root})
        middleware.feedback(root, 1.0, credit="all")

        assert middleware.router.stats()["feedback_applied"] == 3

    async def test_signals_of_the_agent_reach_its_decisions(
        self, either_run: Run, server: ScriptedServer, middleware: MixLLMMiddleware
    ) -> None:
        def fail(city: str) -> str:
            """Never tell the weather."""
            raise RuntimeError("no weather")

        fail.__name__ = "look"
        server.script("cheap", looping(1))
        handler = MixLLMFeedbackHandler(middleware)
        with pytest.raises(RuntimeError, match="no weather"):
            await either_run(agent_of(middleware, tools=[fail]), asked(), {"callbacks": [handler]})

        stats = middleware.router.stats()
        assert (stats["decisions"], stats["feedback_applied"]) == (1, 1)
        assert stats["candidates"]["cheap"]["mean_reward"] == 0.0

    @pytest.mark.parametrize("good", ["cheap", "dear"])
    async def test_feedback_moves_the_choices(self, either_run: Run, good: str) -> None:
        models = {name: FakeListChatModel(responses=[name]) for name in ("cheap", "dear")}
        with tiny_router() as router:
            middleware = MixLLMMiddleware(router, models=models)
            agent = agent_of(middleware)
            for number in range(60):
                (_, answer) = await either_run(agent, asked(f"Question {number} of the first part"))
                middleware.feedback(answer, 1.0 if said(answer)["candidate"] == good else 0.0)
            later = [
                (await either_run(agent, asked(f"Question {number} of the rest")))[-1].text for number in range(20)
            ]
            stats = router.stats()

        assert stats["feedback_applied"] == 60
        assert {name: of["mean_reward"] for name, of in stats["candidates"].items()} == {
            "cheap": float(good == "cheap"),
            "dear": float(good == "dear"),
        }
        assert later.count(good) / len(later) > 0.7
