"""A chat model from abroad, and ours over it."""

from __future__ import annotations

import pytest

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Router
from tests.langchain.foreign.abroad import Abroad


@pytest.fixture
def abroad() -> Abroad:
    return Abroad()


@pytest.fixture
def llm(router: Router, abroad: Abroad) -> ChatMixLLM:
    """``cheap`` is the model from abroad, ``dear`` is called through LiteLLM."""
    return ChatMixLLM(router=router, models={"cheap": abroad}, budget="very_low")
