"""The chat model as an object: how it is made, copied, configured, traced and kept; and that it keeps secrets."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, dumps
from langchain_core.messages import AIMessage
from pydantic import BaseModel, ValidationError
from pydantic import Field as PydanticField

from langchain_mixllm import ChatMixLLM
from mixllm_engine import AllCandidatesFailedError, Candidate, ConfigError, Router
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer, ToolCall, tiny_pool
from tests.langchain.conftest import Ask


def decisions(llm: ChatMixLLM) -> int:
    return int(llm.router.stats()["decisions"])


class TestMaking:
    def test_needs_a_router_or_candidates(self) -> None:
        with pytest.raises(ConfigError, match=r"needs router=.* or candidates="):
            ChatMixLLM()

    def test_not_both(self, router: Router) -> None:
        with pytest.raises(ValidationError, match="give either them or router="):
            ChatMixLLM(router=router, candidates=tiny_pool())
        with pytest.raises(ValidationError, match="give either them or router="):
            ChatMixLLM(router=router, store="mixllm.db")

    def test_unknown_settings_are_refused(self, router: Router) -> None:
        with pytest.raises(ValidationError, match="buget"):
            ChatMixLLM(router=router, buget="low")  # type: ignore[call-arg]
        with pytest.raises(ValidationError, match="budget") as caught:
            ChatMixLLM(router=router, budget="lowest", api_key="hunter2")  # type: ignore[arg-type]
        assert "hunter2" not in str(caught.value)

    def test_the_door_names_the_extra(self) -> None:
        code = "import sys; sys.modules['langchain_litellm'] = None; import langchain_mixllm"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert 'pip install "mixllm[langchain]"' in done.stderr

    def test_importing_it_imports_no_litellm(self) -> None:
        code = "import sys, langchain_mixllm; sys.exit('litellm' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


class TestPool:
    """The router's pool may change while the model is in use."""

    def test_candidates_come_and_go(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        server.script("new", Reply(text="Hello from the new one"))
        (changed,) = tiny_pool(api_base=server.base_url, names=["cheap"])
        assert llm.invoke("Hello?", force="cheap").text == "Hello from cheap to you"
        llm.router.remove_candidate("cheap")
        assert llm.invoke("Hello?").text == "Hello from dear to you"
        llm.router.add_candidate(replace(changed, model="openai/new"))
        assert llm.invoke("Hello?", force="cheap").text == "Hello from the new one"


class TestCopies:
    """Every copy shares the router, so that all of them learn."""

    def test_copies_and_bindings_share_the_router(self, llm: ChatMixLLM) -> None:
        assert copy.copy(llm).router is llm.router
        assert copy.deepcopy(llm).router is llm.router
        assert llm.model_copy(update={"temperature": 0.5}).router is llm.router
        copy.deepcopy(llm).invoke("1")
        llm.bind(temperature=0.5).invoke("2")
        llm.with_config(tags=["x"]).invoke("3")
        llm.with_retry().invoke("4")
        assert decisions(llm) == 4

    def test_a_copy_after_use_still_answers(self, llm: ChatMixLLM) -> None:
        llm.invoke("Hello?")
        assert copy.deepcopy(llm).invoke("Hello?").text == "Hello from cheap to you"

    def test_pickle_makes_the_router_anew(self, server: ScriptedServer) -> None:
        pool = [replace(candidate, api_key="sk-hidden") for candidate in tiny_pool(server.base_url)]
        llm = ChatMixLLM(candidates=pool, temperature=0.5, api_key="sk-hidden")  # type: ignore[arg-type]
        llm.invoke("Hello?", force="dear")
        data = pickle.dumps(llm)
        again: ChatMixLLM = pickle.loads(data)

        assert again.invoke("Hello?", force="dear").text == "Hello from dear to you"
        assert server.requests[-1].body["temperature"] == 0.5
        assert b"sk-hidden" not in data

    def test_a_shared_router_is_not_pickled(self, llm: ChatMixLLM) -> None:
        with pytest.raises(TypeError, match="give it candidates= and store= instead"):
            pickle.dumps(llm)


class Recorder(BaseCallbackHandler):
    """Keeps all that tracers are told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.told += [serialized, messages, kwargs]

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.told += [response, kwargs]


class TestSecrets:
    @pytest.fixture
    def secretive(self, server: ScriptedServer) -> ChatMixLLM:
        (candidate,) = tiny_pool(api_base=server.base_url, names=["cheap"])
        params = {"extra_headers": {"X-Token": "hunter2"}}
        pool = [replace(candidate, api_key="hunter2", params=params)]
        return ChatMixLLM(router=Router(pool, encoder=HashingEncoder()), api_key="hunter2")  # type: ignore[arg-type]

    async def test_nothing_secret_is_shown_or_traced(self, ask: Ask, secretive: ChatMixLLM) -> None:
        recorder = Recorder()
        message = await ask(secretive, "Hello?", config={"callbacks": [recorder]})

        shown = [repr(secretive), str(secretive), dumps(secretive), dumpd(secretive), secretive.asdict()]
        assert message.text == "Hello from cheap to you"
        assert len(recorder.told) == 5
        told = repr([shown, secretive.model_dump(), recorder.told, message])
        assert "hunter2" not in told
        assert "127.0.0.1" not in told  # addresses may hold passwords

    def test_traces_name_what_was_asked_for(self, llm: ChatMixLLM) -> None:
        recorder = Recorder()
        ChatMixLLM(router=llm.router, temperature=0.5, stop=["X"]).invoke(
            "Hello?", {"callbacks": [recorder]}, model="dear"
        )
        _, _, started, *_ = recorder.told

        said = {key: value for key, value in started["metadata"].items() if key.startswith("ls_")}
        assert said["ls_provider"] == "mixllm"
        assert (said["ls_model_name"], said["ls_temperature"], said["ls_stop"]) == ("dear", 0.5, ["X"])
        assert started["metadata"]["lc_versions"]["mixllm"]
        assert started["invocation_params"]["candidates"] == {"cheap": "openai/cheap", "dear": "openai/dear"}
        assert llm._get_ls_params()["ls_model_name"] == "mixllm/auto"

    def test_cached_answers_belong_to_their_settings(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        cached = llm.model_copy(update={"cache": InMemoryCache()})
        first, again = cached.invoke("Hello?"), cached.invoke("Hello?")
        cached.invoke("Hello?", budget="very_high")
        cached.model_copy(update={"max_tokens": 5}).invoke("Hello?")

        assert first.id == again.id
        assert len(server.requests) == 3

    def test_two_endpoints_are_two_models(self) -> None:
        one, other = (
            ChatMixLLM(router=Router(tiny_pool(api_base=base), encoder=HashingEncoder()))
            for base in ("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1")
        )
        assert one._get_llm_string() != other._get_llm_string()
        json.dumps(one._identifying_params)


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str | None = PydanticField(default=None)


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


class TestTools:
    def test_what_is_sent(self, llm: ChatMixLLM, server: ScriptedServer) -> None:
        llm.bind_tools([add], tool_choice="any", strict=True, parallel_tool_calls=False).invoke("1 + 2?")
        (sent,) = (request.body for request in server.requests)

        assert sent.keys() == {"model", "messages", "tools", "tool_choice", "parallel_tool_calls"}
        assert sent["tools"][0]["function"]["strict"] is True  # type: ignore[index]
        assert sent["tool_choice"] == "required"

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            (None, None),
            (True, "required"),
            ("required", "required"),
            ("auto", "auto"),
            ("none", "none"),
            ("add", {"type": "function", "function": {"name": "add"}}),
        ],
    )
    def test_tool_choice(self, llm: ChatMixLLM, server: ScriptedServer, given: Any, sent: Any) -> None:
        llm.bind_tools([add], tool_choice=given).invoke("1 + 2?")
        assert server.requests[-1].body.get("tool_choice") == sent

    def test_a_choice_is_told_as_the_provider_takes_it(
        self, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Claude refuses a forced tool while it thinks; others don't."""
        sent: list[dict[str, Any]] = []

        def answer(delegate: Any, run_manager: Any = None, opened: Any = None, **kwargs: Any) -> Any:
            sent.append(kwargs)
            raise TimeoutError("not really asked")

        monkeypatch.setattr("langchain_mixllm._chat_litellm.Delegate.completion_with_retry", answer)
        (other,) = tiny_pool(server.base_url, names=["other"])
        model = "anthropic/claude-3-7-sonnet-20250219"
        prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0, "api_key": "x"}
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        plain = Candidate(name="plain", model=model, supports_tools=True, **prices)  # type: ignore[arg-type]
        thinks = replace(plain, name="thinks", params=thinking)
        llm = ChatMixLLM(router=Router([other, plain, thinks], encoder=HashingEncoder()))
        for name in ("other", "plain", "thinks"):
            with pytest.raises(AllCandidatesFailedError):
                llm.bind_tools([add], tool_choice="any").invoke("1 + 2?", force=name)
        assert [kwargs["tool_choice"] for kwargs in sent] == ["required", "required", "auto"]

    def test_a_choice_that_is_not_offered(self, llm: ChatMixLLM) -> None:
        with pytest.raises(ValueError, match=r"tool_choice='subtract' is none of .*\['add'\]"):
            llm.bind_tools([add], tool_choice="subtract")

    def test_only_candidates_with_tools_are_eligible(self, router: Router, server: ScriptedServer) -> None:
        cheap, dear = tiny_pool(api_base=server.base_url)
        pool = [replace(cheap, supports_tools=False), dear]
        unequal = Router(pool, config=router.config, encoder=HashingEncoder())
        llm = ChatMixLLM(router=unequal, willingness_to_pay=0.0)
        assert llm.bind_tools([add]).invoke("1 + 2?").text == "Hello from dear to you"
        assert llm.invoke("1 + 2?").text == "Hello from cheap to you"


class TestStructuredOutput:
    @pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
    async def test_an_instance_comes_back(
        self, ask: Ask, llm: ChatMixLLM, server: ScriptedServer, method: Any, request: pytest.FixtureRequest
    ) -> None:
        joke = {"setup": "Why?", "punchline": None}
        call = ToolCall(name="Joke", arguments=joke)
        by_call = method == "function_calling"
        server.script("cheap", Reply(tool_calls=[call]) if by_call else Reply(text=json.dumps(joke)))
        structured = llm.with_structured_output(Joke, method=method)
        if "stream" in request.node.name:
            results = [part async for part in structured.astream("A joke, please")]
            assert results[-1] == Joke(setup="Why?")
        else:
            assert await structured.ainvoke("A joke, please") == Joke(setup="Why?")

    def test_raw_and_parsing_errors(self, llm: ChatMixLLM) -> None:
        result = llm.with_structured_output(Joke, include_raw=True).invoke("A joke, please")

        assert isinstance(result, dict)
        assert isinstance(result["raw"], AIMessage)
        assert result["raw"].response_metadata["mixllm"]["candidate"] == "cheap"
        assert result["parsed"] is None
        assert "Hello from cheap" in str(result["parsing_error"])

    @pytest.mark.parametrize(("strict", "sent"), [(None, True), (True, True), (False, False)])
    def test_strict(self, llm: ChatMixLLM, server: ScriptedServer, strict: bool | None, sent: bool) -> None:
        llm.with_structured_output(Joke, strict=strict, include_raw=True).invoke("A joke, please")
        form: Any = server.requests[-1].body["response_format"]

        assert form["type"] == "json_schema"
        assert form["json_schema"]["strict"] is sent
        assert (form["json_schema"]["schema"].get("additionalProperties") is False) is sent

    def test_what_is_refused(self, llm: ChatMixLLM) -> None:
        with pytest.raises(ValueError, match="'xml' is none of"):
            llm.with_structured_output(Joke, method="xml")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="strict can't be asked"):
            llm.with_structured_output(Joke, method="json_mode", strict=True)
        with pytest.raises(ValueError, match="unknown arguments: sctrict"):
            llm.with_structured_output(Joke, sctrict=True)
