"""LangChain's own standard tests, over a scripted server that is as strict as the real API.

No test is overridden. One capability is not claimed, ``supports_pdf_tool_message``: chat completions take no file in
the result of a tool (LiteLLM moves images out of there, but not files), so the endpoint rightly refuses that message.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any, Literal

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_mixllm import ChatMixLLM
from mixllm_engine import Router
from mixllm_engine.testing import tiny_router

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
