"""What is routed of a conversation, who can answer it, and in which form it is sent."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    ToolMessage,
)

from langchain_mixllm import ChatMixLLM
from langchain_mixllm._calls import query_from
from langchain_mixllm._messages import for_litellm
from mixllm_engine import QueryError, Router
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, tiny_pool
from tests.langchain.conftest import Ask

TEXT = {"type": "text", "text": "What is this?"}
IMAGES: list[dict[str, Any]] = [
    {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
    {"type": "image", "url": "https://host/cat.png"},
    {"type": "image", "source_type": "base64", "data": "AAAA", "mime_type": "image/png"},
    {"type": "image_url", "image_url": {"url": "https://host/cat.png"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    {"type": "image", "source": {"type": "file", "file_id": "file-1"}},
    {"image": {"format": "png", "source": {"bytes": b"AAAA"}}},
    {"type": "media", "mime_type": "image/png", "data": "AAAA"},
]
PDFS: list[dict[str, Any]] = [
    {"type": "file", "base64": "AAAA", "mime_type": "application/pdf", "filename": "a.pdf"},
    {"type": "file", "url": "https://host/a.pdf"},
    {"type": "file", "file_id": "file-1"},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
    {"type": "media", "mime_type": "application/pdf", "data": "AAAA"},
]
AUDIO: list[dict[str, Any]] = [
    {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "media", "mime_type": "audio/wav", "data": "AAAA"},
]
OTHER: list[dict[str, Any]] = [
    {"type": "text-plain", "text": "notes", "mime_type": "text/plain"},
    {"type": "thinking", "thinking": "Hm", "signature": "x"},
    {"type": "something new", "with": "anything"},
    {"type": "tool_use", "id": "t1", "name": "add", "input": {}},
]


class TestQuery:
    @pytest.mark.parametrize("block", IMAGES + PDFS + AUDIO + OTHER, ids=repr)
    def test_every_kind_of_attachment_is_known(self, block: dict[str, Any]) -> None:
        query = query_from([HumanMessage([TEXT, block])], {})
        needed = "images" if block in IMAGES else "pdf" if block in PDFS else "audio" if block in AUDIO else None
        assert list(query.needs) == ([needed] if needed else [])
        assert str(query.text).startswith("What is this?")
        assert query.prompt_tokens is not None
        assert (query.prompt_tokens > 1000) is (needed is not None)

    @pytest.mark.parametrize("block", [IMAGES[0], PDFS[0]], ids=["image", "pdf"])
    def test_a_tools_output_counts_too(self, block: dict[str, Any]) -> None:
        asked = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "t1"}])
        query = query_from([HumanMessage("Look"), asked, ToolMessage([block], tool_call_id="t1")], {})
        assert sorted(query.needs) == sorted(["tools", "images" if block in IMAGES else "pdf"])
        assert query.in_tool_loop
        assert query.text == "Look"

    def test_what_is_asked_is_the_persons_last_request(self) -> None:
        asked = AIMessage("Let me see", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "t1"}])
        history: list[BaseMessage] = [
            SystemMessage("Be brief."),
            HumanMessage("First"),
            AIMessage("Well"),
            HumanMessageChunk(content="Second"),
            asked,
            ToolMessage("a long table", tool_call_id="t1"),
        ]
        query = query_from(history, {"tools": [{"type": "function"}], "max_tokens": 7})
        assert (query.text, query.in_tool_loop, query.max_output_tokens) == ("Second", True, 7)

    def test_a_harness_asks_nothing_and_ends_no_loop(self) -> None:
        summary = HumanMessage("Here is a summary", additional_kwargs={"lc_source": "summarization"})
        notification = HumanMessage("Task 42 is done", additional_kwargs={"lc_source": "async_subagent"})
        asked = AIMessage("", tool_calls=[{"name": "add", "args": {}, "id": "t1"}])
        history = [summary, HumanMessage("1 + 2?"), asked, ToolMessage("3", tool_call_id="t1"), notification]
        query = query_from(history, {})
        assert (query.text, query.in_tool_loop) == ("1 + 2?", True)
        assert not query_from([*history, HumanMessage("And now?")], {}).in_tool_loop

    def test_anthropics_results_are_results(self) -> None:
        result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "3"}, IMAGES[4]]}
        query = query_from([HumanMessage("1 + 2?"), AIMessage("Well"), HumanMessage([result])], {})
        assert (query.text, query.in_tool_loop, sorted(query.needs)) == ("1 + 2?", True, ["images", "tools"])

    def test_other_roles(self) -> None:
        history = [ChatMessage(role="user", content="Hello?"), FunctionMessage(name="f", content="x")]
        assert query_from(history, {}).text == "Hello?"

    def test_nothing_to_route(self) -> None:
        with pytest.raises(QueryError, match="nothing to route"):
            query_from([HumanMessage("")], {})


class TestAbilities:
    @pytest.fixture
    def llm(self, server: ScriptedServer, router: Router) -> ChatMixLLM:
        """``cheap`` reads text only; ``dear`` looks, reads and listens."""
        cheap, dear = tiny_pool(api_base=server.base_url)
        able = replace(dear, supports_images=True, supports_pdf=True, supports_audio=True)
        unequal = Router([replace(cheap, supports_tools=False), able], config=router.config, encoder=HashingEncoder())
        return ChatMixLLM(router=unequal, budget="very_low")

    @pytest.mark.parametrize("block", [IMAGES[0], IMAGES[3], PDFS[0], AUDIO[1]], ids=["v1", "url", "pdf", "audio"])
    async def test_attachments_go_to_who_takes_them(self, ask: Ask, llm: ChatMixLLM, block: dict[str, Any]) -> None:
        assert (await ask(llm, "What is this?")).text == "Hello from cheap to you"
        assert (await ask(llm, [HumanMessage([TEXT, block])])).text == "Hello from dear to you"

    async def test_long_prompts_go_to_large_windows(self, ask: Ask, llm: ChatMixLLM) -> None:
        message = await ask(llm, "word " * 5000)
        noted = message.response_metadata["mixllm"]
        assert noted["candidate"] == "dear"
        reason = llm.router.explain(noted["decision_id"]).record.decision.scores["cheap"].reason
        assert "context window of 4096 tokens" in reason

    async def test_the_answer_must_fit_too(self, ask: Ask, llm: ChatMixLLM) -> None:
        assert (await ask(llm, "Hello?", max_tokens=4095)).text == "Hello from dear to you"


class TestExtractor:
    async def test_it_says_what_is_routed_on(self, ask: Ask, router: Router) -> None:
        llm = ChatMixLLM(router=router, query_extractor=lambda messages: f"{len(messages)} messages about sums")
        noted = (await ask(llm, [SystemMessage("Be brief."), HumanMessage("1 + 2?")])).response_metadata["mixllm"]
        said = router.explain(noted["decision_id"]).record.embedding
        assert said == pytest.approx(router._contexts.make("2 messages about sums").embedding, abs=1e-3)

    @pytest.mark.parametrize("nothing", ["", "  ", None])
    def test_it_must_say_something(self, router: Router, nothing: Any) -> None:
        with pytest.raises(QueryError, match="query_extractor must return the text to route on"):
            ChatMixLLM(router=router, query_extractor=lambda _: nothing).invoke("Hello?")

    def test_its_own_errors_stay_what_they_are(self, router: Router) -> None:
        def broken(messages: list[BaseMessage]) -> str:
            raise ConnectionError("no database")

        with pytest.raises(ConnectionError, match="no database"):
            ChatMixLLM(router=router, query_extractor=broken).invoke("Hello?")

    def test_it_is_no_part_of_what_is_kept(self, server: ScriptedServer) -> None:
        llm = ChatMixLLM(candidates=tiny_pool(server.base_url), query_extractor=last_word)
        assert "last_word" not in repr([llm, llm.asdict(), llm.model_dump(), llm._serialized])
        assert pickle.loads(pickle.dumps(llm)).query_extractor is last_word


def last_word(messages: list[BaseMessage]) -> str:
    return messages[-1].text.split()[-1]


class TestSent:
    def test_files_of_tools_follow_their_results(self, capable_router: Router) -> None:
        calls: Any = [{"name": name, "args": {}, "id": name} for name in ("one", "two")]
        note = {"type": "text", "text": "Here it is"}
        history = [
            HumanMessage("Fetch them"),
            AIMessage("", tool_calls=calls),
            ToolMessage([PDFS[0]], tool_call_id="one"),
            ToolMessage([note, PDFS[3]], tool_call_id="two"),
        ]
        sent = for_litellm(history)

        assert [message.type for message in sent] == ["human", "ai", "tool", "tool", "human"]
        assert "see the user message" in sent[2].text
        assert sent[3].content == [note]
        assert sent[4].content[1:] == [PDFS[0], PDFS[3]]
        assert history[3].content == [note, PDFS[3]]  # a copy was changed
        assert ChatMixLLM(router=capable_router).invoke(history).text.startswith("A word from")

    def test_what_needs_no_change_is_not_copied(self) -> None:
        unknown = HumanMessage([TEXT, IMAGES[5]])  # LiteLLM may refuse it, not we
        history = [SystemMessage("Be brief."), HumanMessage("Hello?"), AIMessage("Well"), HumanMessage([TEXT]), unknown]
        assert all(sent is given for sent, given in zip(for_litellm(history), history, strict=True))

    def test_a_harness_mark_is_not_sent(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        server.script("cheap", Reply(text="Well"))
        llm.invoke([HumanMessage("A summary", additional_kwargs={"lc_source": "summarization"}), HumanMessage("Hm?")])
        assert server.requests[-1].body["messages"] == [
            {"role": "user", "content": "A summary"},
            {"role": "user", "content": "Hm?"},
        ]
