"""What a router says of arguments that are something else than it takes."""

from __future__ import annotations

from typing import Any

import pytest

from mixllm_engine import Router, RouterConfig
from mixllm_engine.encoding.encoder import OnnxEncoder
from mixllm_engine.errors import CandidateError, ConfigError
from mixllm_engine.testing import tiny_pool


@pytest.mark.parametrize("config", [{"decision": {}}, {}, 0, "default", RouterConfig])
def test_settings_are_a_router_config_or_nothing(config: Any) -> None:
    with pytest.raises(ConfigError, match=r"RouterConfig, got \w+; RouterConfig.model_validate\(...\) makes one"):
        Router(tiny_pool(), config=config)


@pytest.mark.parametrize("candidates", [None, 7, 0.5, True])
def test_candidates_are_a_list(candidates: Any) -> None:
    with pytest.raises(CandidateError, match=f"list of LiteLLM model names .* got {type(candidates).__name__}"):
        Router(candidates)


@pytest.mark.parametrize(("encoder", "named"), [(OnnxEncoder, "the class OnnxEncoder"), ("minilm", "str"), (7, "int")])
def test_an_encoder_encodes(encoder: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=f"encoder must be able to encode .* got {named}"):
        Router(tiny_pool(), encoder=encoder)
