"""No key shows in what the provider tells, and the caller's goes to nobody."""

from __future__ import annotations

import asyncio

import pytest

import litellm_mixllm
from litellm_mixllm import Registered
from mixllm_engine import Candidate, Router
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.testing import Failure, HashingEncoder, Reply, ScriptedServer
from tests.litellm.conftest import HELLO, STEADY, Heard
from tests.litellm.ways import Way


async def test_no_key_shows(ask: Way, server: ScriptedServer, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    key = "sk-very-secret-7"
    server.script("own", [Reply(text="Hi"), Failure(status=401, message=f"Incorrect API key provided: {key}")])
    own = Candidate(
        name="own", model="openai/own", api_base=server.base_url, api_key=key, input_usd_per_mtok=1,
        output_usd_per_mtok=1,
    )  # fmt: skip
    caplog.set_level("DEBUG")
    with (
        Router([own], encoder=HashingEncoder(), config=STEADY) as router,
        litellm_mixllm.register(router, model="secretive") as registered,
    ):
        answer = await ask(model=registered.model, messages=HELLO)
        assert server.requests[-1].api_key == key
        with pytest.raises(load_litellm().AuthenticationError) as raised:
            await ask(model=registered.model, messages=HELLO)
        await asyncio.to_thread(heard.wait_for, 1, 1)
    shown = [answer, answer._hidden_params, raised.value, raised.value.__notes__, heard.successes, heard.failures]
    assert key not in repr(shown) + caplog.text


def test_the_caller_s_key_goes_to_nobody(registered: Registered, server: ScriptedServer) -> None:
    load_litellm().completion(model=registered.model, messages=HELLO, api_key="sk-of-the-caller")
    assert server.requests[-1].api_key != "sk-of-the-caller"
