"""Registering a router as a provider: under which names, again, and back to what was there before."""

from __future__ import annotations

from typing import Any

import pytest

import litellm_mixllm
from litellm_mixllm import Registered
from mixllm_engine import ConfigError, Router
from mixllm_engine.calling.litellm_client import load_litellm
from mixllm_engine.testing import Reply, ScriptedServer, tiny_router
from tests.litellm.conftest import HELLO


def names_of(litellm: Any) -> tuple[list[Any], ...]:
    return list(litellm.custom_provider_map), list(litellm.provider_list), list(litellm._custom_providers)


def test_unregistering_restores_what_was_there_before(router: Router) -> None:
    litellm = load_litellm()
    from litellm_mixllm import MixLLMProvider

    theirs = {"provider": "mixllm", "custom_handler": MixLLMProvider({})}
    for before in ([], [theirs]):
        litellm.custom_provider_map[:] = before
        try:
            old = names_of(litellm)
            first = litellm_mixllm.register(router)
            second = litellm_mixllm.register(router, model="second")
            first.unregister()
            assert names_of(litellm) != old
            second.unregister()
            second.unregister()
            assert names_of(litellm) == old
        finally:
            litellm.custom_provider_map.clear()


def test_a_model_that_is_registered_again_answers_by_its_latest_router(
    registered: Registered, server: ScriptedServer
) -> None:
    litellm = load_litellm()
    server.script("other", Reply(text="I am another."))

    def says() -> str:
        return str(litellm.completion(model="mixllm/auto", messages=HELLO).choices[0].message.content)

    with tiny_router(api_base=server.base_url, names=["other"]) as second:
        with litellm_mixllm.register(second):
            assert says() == "I am another."
        assert says() == "Good day to you"


@pytest.mark.parametrize(("name", "model"), [("openai", "auto"), ("", "auto"), ("a/b", "auto"), ("mixllm", "")])
def test_names_that_can_not_be(router: Router, name: str, model: str) -> None:
    with pytest.raises(ConfigError, match=r"of LiteLLM's own|two parts of a name"):
        litellm_mixllm.register(router, name, model=model)
