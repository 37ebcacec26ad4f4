"""An LLM that knows the question in a template, before the template becomes a prompt among prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel

from llamaindex_mixllm._questions import Prompted, question_in

Model = TypeVar("Model", bound=BaseModel)


class TemplatedLLM(FunctionCallingLLM):
    """What query engines and structured outputs call with templates.

    The question comes to `chat` as the attribute of a `Prompted`, or as the keyword argument ``question``; that a tool
    must be called comes to `_prepare_chat_with_tools` as ``must_call``.
    """

    def _get_messages(self, prompt: BasePromptTemplate, **prompt_args: Any) -> list[ChatMessage]:
        """Fill a template; a question among its variables is kept, for it is what the call is routed by."""
        return Prompted(super()._get_messages(prompt, **prompt_args), question_in(prompt, prompt_args))

    def structured_predict(
        self, output_cls: type[Model], prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Model:
        """Answer a template with an instance of a class."""
        asked = _with_question(prompt, prompt_args, llm_kwargs)
        answer: Model = super().structured_predict(output_cls, prompt, asked, **prompt_args)
        return answer

    async def astructured_predict(
        self, output_cls: type[Model], prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Model:
        """Answer a template with an instance of a class, without blocking."""
        asked = _with_question(prompt, prompt_args, llm_kwargs)
        answer: Model = await super().astructured_predict(output_cls, prompt, asked, **prompt_args)
        return answer

    def _structured_stream_call(
        self, output_cls: type[Model], prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Any:
        asked = self._with_demand(_with_question(prompt, prompt_args, llm_kwargs))
        return super()._structured_stream_call(output_cls, prompt, asked, **prompt_args)

    async def _structured_astream_call(
        self, output_cls: type[Model], prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Any:
        asked = self._with_demand(_with_question(prompt, prompt_args, llm_kwargs))
        return await super()._structured_astream_call(output_cls, prompt, asked, **prompt_args)

    def _with_demand(self, llm_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Demand the call, of which LlamaIndex says nothing in streams: the model might answer with text."""
        mode = self.pydantic_program_mode
        default = mode == PydanticProgramMode.DEFAULT and self.metadata.is_function_calling_model
        return {**llm_kwargs, "must_call": True} if default or mode == PydanticProgramMode.FUNCTION else llm_kwargs


def _with_question(
    prompt: BasePromptTemplate, arguments: Mapping[str, Any], llm_kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    question = question_in(prompt, arguments)
    return {**({"question": question} if question else {}), **(llm_kwargs or {})}
