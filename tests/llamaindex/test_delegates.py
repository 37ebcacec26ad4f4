"""Candidates that are LlamaIndex LLMs: how they join the pool, what they are sent, what becomes of their answers."""

import json
import pickle
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool, FunctionTool
from llama_index.llms.openai_like import OpenAILike  # type: ignore[import-untyped]

from llamaindex_mixllm import MixLLM
from mixllm_engine import (
    AllCandidatesFailedError,
    Candidate,
    CandidateError,
    ConfigError,
    Router,
    UnknownPriceError,
)
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer, ToolCall

from .conftest import RecordedEvents
from .contract import ADD_CALL, HELLO, QUESTION, WAYS, asked, body, text_of, tools
from .test_llm import told

KEY = "sk-a-key-that-must-not-be-seen"


class Parrot(CustomLLM):
    """An LLM without tools that says what it was told, and what it was called with."""

    calls: list[dict[str, Any]] = []

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=500, model_name="parrot")

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.calls.append(kwargs)
        return CompletionResponse(text=f"You said {prompt}", raw={"usage": {"input_tokens": 5, "output_tokens": 3}})

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        yield CompletionResponse(text="You", delta="You")
        yield CompletionResponse(text="You said", delta=" said")


class Claude(FunctionCallingLLM):
    """An LLM whose tool calls stand in `additional_kwargs` only, in a form of its own; it remembers its messages."""

    seen: list[Any] = []

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True, model_name="claude")

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        self.seen.append((list(messages), kwargs))
        call = {"id": "toolu_1", "name": "add", "input": {"a": 1, "b": 2}}
        message = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [call]})
        return ChatResponse(message=message, raw={"usage": {"input_tokens": 7, "output_tokens": 2}})

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        return [
            ToolSelection(tool_id=call["id"], tool_name=call["name"], tool_kwargs=call["input"])
            for call in response.message.additional_kwargs["tool_calls"]
        ]

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        described = [(tool.metadata.name, tool.metadata.get_parameters_dict()) for tool in tools]
        return {"messages": chat_history, "described": described, "required": tool_required, **kwargs}

    def complete(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    achat = stream_chat = astream_chat = acomplete = stream_complete = astream_complete = complete


def priced(name: str, **more: Any) -> Candidate:
    return Candidate(name=name, model=name, input_usd_per_mtok=1.0, output_usd_per_mtok=2.0, **more)


def over(llm: Any, **fields: Any) -> MixLLM:
    """Return a MixLLM with one candidate."""
    candidate = priced("only", supports_tools=True)
    return MixLLM(router=Router([candidate], encoder=HashingEncoder()), models={"only": llm}, **fields)


def openai_like(server: ScriptedServer, model: str, **fields: Any) -> Any:
    return OpenAILike(
        model=model,
        api_base=server.base_url,
        api_key=KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=1234,
        max_retries=0,
        default_headers={"Connection": "close"},
        **fields,
    )


# -- joining the pool ------------------------------------------------------------------------------------------------


def test_an_llm_and_a_name_are_candidates_side_by_side(server: ScriptedServer) -> None:
    server.script("gpt-4o-mini", Reply(text="Mini."))
    llm = MixLLM(candidates=[openai_like(server, "gpt-4o-mini"), priced("other", context_window=8000)])
    mini, other = llm.router.candidates
    assert (mini.name, mini.context_window, mini.supports_tools) == ("gpt-4o-mini", 1234, True)
    assert mini.input_usd_per_mtok == 0.15  # LiteLLM's map knows the model
    assert (other.name, other.supports_tools) == ("other", False)
    said = llm.chat(HELLO, force="gpt-4o-mini")
    assert said.message.content == "Mini."
    assert server.requests[0].api_key == KEY
    llm.router.close()


def test_an_llm_without_a_known_price_is_an_error_that_says_where_to_give_it() -> None:
    with pytest.raises(UnknownPriceError, match=r"'MockLLM'.*MixLLM\(candidates=\[Candidate\(name='MockLLM'.*models="):
        MixLLM(candidates=[MockLLM()])
    llm = MixLLM(candidates=[priced("MockLLM")], models={"MockLLM": MockLLM()})
    assert "Hello?" in llm.complete("Hello?").text
    llm.router.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": {"nobody": MockLLM()}}, "'nobody', which is not in the pool: 'only'"),
        ({"models": {"only": "gpt-4o"}}, "must be a LlamaIndex LLM, got str"),
        ({"models": ["only"]}, "no part of to_dict"),
    ],
)
def test_models_are_for_candidates_of_the_pool(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixLLM(router=Router([priced("only")], encoder=HashingEncoder()), **arguments)


@pytest.mark.parametrize("single", ["openai/gpt-4o", MockLLM()], ids=["name", "llm"])
def test_a_single_candidate_belongs_in_brackets(single: Any) -> None:
    with pytest.raises(CandidateError, match="put it in brackets"):
        MixLLM(candidates=single)


# -- asking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["chat", "achat", "complete", "acomplete"])
async def test_an_llm_that_only_completes_is_asked_too(way: str) -> None:
    parrot = Parrot(calls=[])
    llm = over(parrot, temperature=1.5)
    said = (await asked(llm, way, max_tokens=9))[-1]
    assert text_of(said).startswith("You said ")
    assert "Hello, how are you?" in text_of(said)
    assert parrot.calls == [{"temperature": 1.5, "max_tokens": 9}]
    assert said.additional_kwargs == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    (outcome,) = llm.router.explain(told(said)["decision_id"]).outcomes
    assert outcome.cost_usd == pytest.approx((5 * 1.0 + 3 * 2.0) / 1e6)


@pytest.mark.parametrize("way", ["stream_chat", "stream_complete"])
async def test_its_streams_are_relayed(way: str) -> None:
    responses = await asked(over(Parrot()), way)
    assert [text_of(response) for response in responses] == ["You", "You said"]
    assert [response.delta for response in responses] == ["You", " said"]
    assert {told(response)["candidate"] for response in responses} == {"only"}


@pytest.mark.parametrize("way", WAYS)
async def test_its_callbacks_are_left_alone(server: ScriptedServer, recorded: RecordedEvents, way: str) -> None:
    """One callback manager for all counts a call once; the dispatcher is told twice, and of one routing."""
    counter = TokenCountingHandler(tokenizer=str.split)
    manager = CallbackManager([counter])
    inner = openai_like(server, "cheap", callback_manager=manager)
    await asked(over(inner, callback_manager=manager), way)
    assert (counter.total_llm_token_count, len(counter.llm_token_counts)) == (15, 1)
    assert inner.callback_manager is manager
    assert len(recorded.names("RoutingEvent")) == 1
    assert len(recorded.names("EndEvent")) == 2


def test_its_failures_lead_to_the_next_candidate(server: ScriptedServer) -> None:
    server.script("broken", Failure(status=500))
    pool = [
        priced("broken"),
        Candidate(
            name="cheap",
            model="openai/cheap",
            api_base=server.base_url,
            input_usd_per_mtok=100.0,
            output_usd_per_mtok=100.0,
        ),
    ]
    router = Router(pool, encoder=HashingEncoder(), seed=3)
    llm = MixLLM(router=router, models={"broken": openai_like(server, "broken")}, budget="very_low")
    said = llm.chat(HELLO)
    outcomes = router.explain(told(said)["decision_id"]).outcomes
    assert [(outcome.candidate, outcome.error) for outcome in outcomes] == [("broken", "unavailable"), ("cheap", None)]
    assert server.count("broken") == 1
    with pytest.raises(AllCandidatesFailedError, match="all 1 candidates failed"):
        llm.chat(HELLO, force="broken")


# -- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "names", "required"),
    [
        ({}, ["add", "other"], False),
        ({"tool_required": True}, ["add", "other"], True),
        ({"tool_choice": "add"}, ["add"], True),
        ({"tool_choice": "auto"}, ["add", "other"], False),
    ],
)
def test_tools_are_described_in_llamaindexs_own_way(
    arguments: dict[str, Any], names: list[str], required: bool
) -> None:
    def other() -> None:
        """Do something else."""

    claude = Claude(seen=[])
    llm = over(claude)
    said = llm.chat_with_tools([*tools(), FunctionTool.from_defaults(other)], QUESTION, **arguments)
    ((_, kwargs),) = claude.seen
    assert [name for name, _ in kwargs["described"]] == names
    assert kwargs["described"][0][1]["required"] == ["a", "b"]
    assert kwargs["required"] is required
    call = ToolCallBlock(tool_call_id="toolu_1", tool_name="add", tool_kwargs={"a": 1, "b": 2})
    assert [block for block in said.message.blocks if isinstance(block, ToolCallBlock)] == [call]
    (openai,) = said.message.additional_kwargs["tool_calls"]
    assert json.loads(openai["function"]["arguments"]) == {"a": 1, "b": 2}
    (selection,) = llm.get_tool_calls_from_response(said)
    assert selection.tool_kwargs == {"a": 1, "b": 2}


def test_no_tool_may_be_called_and_none_is_described() -> None:
    claude = Claude(seen=[])
    over(claude).chat_with_tools(tools(), QUESTION, tool_choice="none")
    assert claude.seen[0][1] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tool_choice": "subtract"}, "'subtract', which is not among the tools"),
        ({"tool_choice": {"type": "tool", "name": "add"}}, "in OpenAI's form"),
    ],
)
def test_a_choice_that_cannot_be_told_is_an_error(arguments: dict[str, Any], message: str) -> None:
    claude = Claude(seen=[])
    with pytest.raises(ConfigError, match=message):
        over(claude).chat_with_tools(tools(), QUESTION, **arguments)
    assert claude.seen == []


def test_thoughts_of_the_loop_go_back_and_earlier_ones_stay_behind() -> None:
    claude = Claude(seen=[])

    def thinking(text: str) -> ChatMessage:
        return ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm"), TextBlock(text=text)])

    history = [ChatMessage(content="Hello?"), thinking("Hi."), ChatMessage(content=QUESTION), thinking("I add.")]
    history.append(ChatMessage(role=MessageRole.TOOL, content="3", additional_kwargs={"tool_call_id": "1"}))
    over(claude).chat(history)
    sent: list[ChatMessage] = claude.seen[0][0]
    assert [any(isinstance(block, ThinkingBlock) for block in message.blocks) for message in sent] == [
        False,
        False,
        False,
        True,
        False,
    ]
    assert any(isinstance(block, ThinkingBlock) for block in history[1].blocks)  # the caller's own are kept


def test_calls_of_one_candidate_are_understood_by_another(server: ScriptedServer) -> None:
    server.script("cheap", Reply(tool_calls=[ToolCall(name="add", arguments={"a": 3, "b": 4}, id="call_9")]))
    pool = [
        priced("claude", supports_tools=True),
        Candidate(
            name="cheap",
            model="openai/cheap",
            api_base=server.base_url,
            input_usd_per_mtok=1.0,
            output_usd_per_mtok=1.0,
            supports_tools=True,
        ),
    ]
    llm = MixLLM(router=Router(pool, encoder=HashingEncoder()), models={"claude": Claude(seen=[])})
    said = llm.chat_with_tools(tools(), QUESTION, force="claude")
    output = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "toolu_1"})
    llm.chat_with_tools(tools(), chat_history=[ChatMessage(content=QUESTION), said.message, output], force="cheap")
    assert [message["role"] for message in body(server)["messages"]] == ["user", "assistant", "tool"]
    assert body(server)["messages"][1]["tool_calls"][0]["id"] == "toolu_1"
    assert ADD_CALL.arguments == json.loads(body(server)["messages"][1]["tool_calls"][0]["function"]["arguments"])


# -- keeping ---------------------------------------------------------------------------------------------------------


def test_llms_are_given_again_where_a_mixllm_is_restored(server: ScriptedServer) -> None:
    server.script("gpt-4o-mini", Reply(text="Mini."))
    inner = openai_like(server, "gpt-4o-mini")
    llm = MixLLM(candidates=[inner], temperature=0.5)
    data = json.loads(llm.to_json())
    assert KEY not in str(data) + repr(llm)
    with pytest.raises(ConfigError, match=r"models=\{'gpt-4o-mini': 'llm'\}"):
        MixLLM.from_dict(data)
    again = MixLLM.from_dict(data, models={"gpt-4o-mini": inner})
    assert again.to_dict() == llm.to_dict()
    assert again.complete("Hello?").text == "Mini."
    with pytest.raises(TypeError, match="LlamaIndex LLMs can't be pickled, for they may hold keys"):
        pickle.dumps(llm)
    for made in (llm, again):
        made.router.close()
