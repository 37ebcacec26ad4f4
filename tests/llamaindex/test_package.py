"""The package as a whole: what it exports, what it needs, what it never tells, how it is copied."""

import copy
import json
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage

import llamaindex_mixllm
from llamaindex_mixllm import MixLLM
from mixllm_engine import Candidate, ConfigError, Router
from mixllm_engine.testing import Failure, HashingEncoder, ScriptedServer

from .conftest import RecordedEvents

ROOT = Path(llamaindex_mixllm.__file__).parents[1]
SECRET = "sk-a-secret-that-must-not-be-seen"


def run(code: str) -> str:
    """Run code in an interpreter of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_exported_name_exists() -> None:
    assert all(hasattr(llamaindex_mixllm, name) for name in llamaindex_mixllm.__all__)


def test_without_llama_index_the_import_says_what_to_install() -> None:
    told = run("""
        import sys
        sys.modules["llama_index"] = None
        try:
            import llamaindex_mixllm
        except ImportError as error:
            print(error)
    """)
    assert 'pip install "mixllm[llamaindex]"' in told


def test_tools_need_no_mcp() -> None:
    told = run("""
        import asyncio
        import sys
        sys.modules["mcp"] = None
        from llama_index.core.tools import FunctionTool
        from llamaindex_mixllm import MixLLM
        from mixllm_engine.testing import Reply, ScriptedServer, ToolCall, tiny_router

        def add(a: int, b: int) -> int:
            return a + b

        tool = FunctionTool.from_defaults(add)
        with ScriptedServer() as server:
            server.script("cheap", Reply(tool_calls=[ToolCall(name="add", arguments={"a": 1, "b": 2})]))
            llm = MixLLM(router=tiny_router(api_base=server.base_url), force="cheap")
            first = llm.predict_and_call([tool], "What is 1 + 2?")
            second = asyncio.run(llm.apredict_and_call([tool], "What is 1 + 2?"))
            print(first, second, server.count("cheap"))
    """)
    assert told == "3 3 2"


# -- secrets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def secretive(server: ScriptedServer) -> MixLLM:
    own = Candidate(
        name="own",
        model="openai/cheap",
        api_base=server.base_url,
        api_key=SECRET,
        input_usd_per_mtok=1,
        output_usd_per_mtok=2,
        supports_tools=True,
    )
    return MixLLM(router=Router([own], encoder=HashingEncoder()))


def test_keys_are_sent_and_never_told(server: ScriptedServer, secretive: MixLLM, recorded: RecordedEvents) -> None:
    said = secretive.chat([ChatMessage(content="Hello?")])
    chunks = list(secretive.stream_complete("Hello?"))
    server.script("cheap", Failure(status=401, message="no such key"))
    with pytest.raises(RuntimeError, match="all 1 candidates failed") as caught:
        secretive.complete("Hello?")
    assert server.requests[0].api_key == SECRET
    told = [repr(secretive), str(secretive.to_dict()), str(secretive.to_payload()), str(caught.value)]
    told += [
        repr(said),
        *map(repr, chunks),
        *map(repr, recorded.events),
        *(str(e.model_dump()) for e in recorded.events),
    ]
    assert [text for text in told if SECRET in text] == []


# -- copying ---------------------------------------------------------------------------------------------------------


def test_settings_survive_serialisation(router: Router) -> None:
    llm = MixLLM(router=router, budget="low", deny=["dear"], max_tokens=9, temperature=0.3, context_window="largest")
    data = json.loads(llm.to_json())
    again = MixLLM.from_dict(data, router=router)
    assert again.to_dict() == llm.to_dict()
    assert again.router is router
    assert again.complete("Hello?").text == "Good day to you"
    with pytest.raises(ConfigError, match="from_dict"):
        MixLLM.from_dict(data)


def test_copies_share_the_router(llm: MixLLM) -> None:
    for made in (copy.copy(llm), copy.deepcopy(llm), copy.deepcopy({"llm": llm})["llm"], llm.model_copy()):
        assert made is not llm
        assert made.router is llm.router
        assert made.complete("Hello?").text == "Good day to you"


def test_pickling_is_refused_in_words(llm: MixLLM) -> None:
    with pytest.raises(TypeError, match="from_dict"):
        pickle.dumps(llm)


def test_it_can_be_the_llm_of_all(llm: MixLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = Settings
    monkeypatch.setattr(settings, "_llm", None)
    settings.llm = llm
    assert settings.llm is llm
