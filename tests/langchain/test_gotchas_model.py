"""Traps 14, 16, 17 and 19 of a LangChain chat model that routes: the model as an object, and its LiteLLM."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from langchain_core.load import dumpd
from langchain_core.runnables import ConfigurableField

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Router
from mixllm_engine.calling import litellm_client
from mixllm_engine.testing import ScriptedServer, tiny_pool
from tests.langchain.conftest import Ask
from tests.langchain.noting import noted


def test_gotcha_14_it_is_not_serialisable_as_langchains_own(llm: ChatMixLLM) -> None:
    """LangChain loads its own classes only: a form that could not be loaded again is not offered."""
    assert not llm.is_lc_serializable()
    assert dumpd(llm)["type"] == "not_implemented"


async def test_gotcha_16_the_provider_stays_litellm(ask: Ask, llm: ChatMixLLM, server: ScriptedServer) -> None:
    """It selects what turns an answer into content blocks: citations of the provider come through."""
    message = await ask(llm, "Hello?")
    assert message.response_metadata["model_provider"] == "litellm"
    cited = message.model_copy(
        update={
            "additional_kwargs": {
                "annotations": [
                    {
                        "type": "url_citation",
                        "url_citation": {"url": "https://host/", "title": "T", "start_index": 0, "end_index": 5},
                    }
                ]
            }
        }
    )
    (block,) = cited.content_blocks
    assert block["type"] == "text"
    assert [annotation["type"] for annotation in block["annotations"]] == ["citation"]


def test_gotcha_17_litellm_is_pinned_and_asks_the_network_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One release was compromised, and importing any asks for a newer map of prices."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (pin,) = [requirement for requirement in project["dependencies"] if requirement.startswith("litellm")]
    assert {"!=1.82.7", "!=1.82.8", "!=1.107.0"} <= set(pin.split(","))

    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP")
    litellm_client.load_litellm.cache_clear()
    litellm_client.load_litellm()
    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"


@pytest.mark.parametrize("given", ["router", "candidates"])
def test_gotcha_19_a_model_that_is_rebuilt_shares_what_is_learned(
    server: ScriptedServer, router: Router, given: str
) -> None:
    """Configurable fields make a new model of the fields."""
    llm = ChatMixLLM(router=router) if given == "router" else ChatMixLLM(candidates=tiny_pool(server.base_url))
    configurable = llm.configurable_fields(
        force=ConfigurableField(id="who"), budget=ConfigurableField(id="budget"), session=ConfigurableField(id="talk")
    )
    config: Any = {"configurable": {"who": "dear", "budget": "low", "talk": "t"}}
    message = configurable.invoke("Hello?", config)
    chunks = list(configurable.stream("Hello?", config))

    assert (noted(message)["candidate"], noted(chunks[0])["candidate"]) == ("dear", "dear")
    assert len([chunk for chunk in chunks if chunk.text]) == 5
    assert llm.feedback(message, 1.0).status == "applied"
    assert llm.router.stats()["decisions"] == 2
