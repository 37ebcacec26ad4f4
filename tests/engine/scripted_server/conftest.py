"""A scripted server, and OpenAI's own client for it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import openai
import pytest

from mixllm_engine.testing.server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[openai.OpenAI]:
    own = httpx.Client(verify=False)  # loading the certificates takes longer than the requests
    with openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0, timeout=5, http_client=own) as made:
        yield made
