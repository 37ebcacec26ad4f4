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
    told = [repr(secretive), str(secretive.to_dict()), str(caught.value)]
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


def test_pickling_needs_candidates_and_not_a_router(llm: MixLLM) -> None:
    with pytest.raises(TypeError, match="with router= can't be pickled: give it candidates= and store=.*from_dict"):
        pickle.dumps(llm)


def test_what_is_pickled_learns_in_the_same_store(server: ScriptedServer, tmp_path: Path) -> None:
    own = Candidate(
        name="own", model="openai/cheap", api_base=server.base_url, input_usd_per_mtok=1, output_usd_per_mtok=2
    )
    llm = MixLLM(candidates=[own], store=tmp_path / "mixllm.db", system_prompt="Be brief.")
    again: MixLLM = pickle.loads(pickle.dumps(llm))
    said = again.complete("Hello?")
    assert llm.feedback(said, 1.0).status == "applied"
    assert again.feedback(said, 1.0).status == "duplicate"
    assert again.system_prompt == "Be brief."
    for made in (llm, again):
        made.router.close()


def test_the_password_of_a_store_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []

    def open_router(pool: Any, store: Any) -> Router:
        opened.append(store)
        return Router(pool, encoder=HashingEncoder())

    monkeypatch.setattr("llamaindex_mixllm.llm.Router", open_router)
    address = "postgresql+psycopg://ada:sesame@db/mixllm"
    llm = MixLLM(candidates=["openai/gpt-4o"], store=address)
    assert opened == [address]
    data = llm.to_dict()
    assert "sesame" not in str(data) + repr(llm)
    with pytest.raises(ConfigError, match="give store=... again"):
        MixLLM.from_dict(data)
    with pytest.raises(TypeError, match="password of its store"):
        pickle.dumps(llm)
    assert MixLLM.from_dict(data, store=address).to_dict() == data


def test_a_restored_llm_may_get_a_router_instead(llm: MixLLM) -> None:
    data = MixLLM(candidates=["openai/gpt-4o"], budget="low").to_dict()
    again = MixLLM.from_dict(data, router=llm.router)
    assert again.router is llm.router
    assert again.budget == "low"


def test_it_can_be_the_llm_of_all(llm: MixLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = Settings
    monkeypatch.setattr(settings, "_llm", None)
    settings.llm = llm
    assert settings.llm is llm
