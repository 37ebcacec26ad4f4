"""Tools and schemas -> keyword arguments of a call, and parsers for what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel

Tool = dict[str, Any] | type | Callable[..., Any] | BaseTool
Schema = dict[str, Any] | type
Method = Literal["json_schema", "function_calling", "json_mode"]


def tool_arguments(
    tools: Sequence[Tool], tool_choice: str | bool | dict[str, Any] | None, strict: bool | None
) -> dict[str, Any]:
    """Return ``tools`` and ``tool_choice`` as chat completions take them; nothing for no tools."""
    if not tools:
        return {}
    # `strict` belongs into each tool: at the top level of a request providers refuse it.
    formatted = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
    if not tool_choice:
        return {"tools": formatted}
    return {"tools": formatted, "tool_choice": _choice(tool_choice, formatted)}


def _choice(given: str | bool | dict[str, Any], tools: Sequence[dict[str, Any]]) -> str | dict[str, Any]:
    if given is True or given in ("any", "required"):
        return "required"
    if given in ("auto", "none") or isinstance(given, dict):
        return given
    names = [tool["function"]["name"] for tool in tools if "function" in tool]
    if given not in names:
        raise ValueError(f"tool_choice={given!r} is none of 'any', 'auto', 'none', 'required' and none of {names}")
    return {"type": "function", "function": {"name": given}}


def structured_output(
    llm: BaseChatModel, schema: Schema, *, method: Method, include_raw: bool, strict: bool | None
) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
    """Return a runnable whose answers have the form of `schema`; see `ChatMixLLM.with_structured_output`."""
    if method == "json_mode" and strict is not None:
        raise ValueError("strict can't be asked of method='json_mode', which sends no schema")
    # LangChain's tracers read this; it never reaches a model.
    traced = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
    bound: Runnable[LanguageModelInput, Any]
    if method == "function_calling":
        bound = llm.bind_tools([schema], tool_choice="any", strict=strict, ls_structured_output_format=traced)
        parser = _tool_parser(schema)
    elif method in ("json_schema", "json_mode"):
        response_format = {"type": "json_object"} if method == "json_mode" else _json_schema(schema, strict)
        bound = llm.bind(response_format=response_format, ls_structured_output_format=traced)
        parser = _text_parser(schema)
    else:
        raise ValueError(f"method={method!r} is none of 'json_schema', 'function_calling', 'json_mode'")
    return _with_raw(bound, parser) if include_raw else bound | parser


def _json_schema(schema: Schema, strict: bool | None) -> dict[str, Any]:
    function = convert_to_openai_tool(schema, strict=strict is not False)["function"]
    form = {"name": function["name"], "schema": function["parameters"], "strict": strict is not False}
    return {"type": "json_schema", "json_schema": form}


def _tool_parser(schema: Schema) -> BaseOutputParser[Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticToolsParser(tools=[schema], first_tool_only=True)
    name = convert_to_openai_tool(schema)["function"]["name"]
    return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)


def _text_parser(schema: Schema) -> BaseOutputParser[Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticOutputParser(pydantic_object=schema)
    return JsonOutputParser()


def _with_raw(bound: Runnable[LanguageModelInput, Any], parser: BaseOutputParser[Any]) -> Runnable[Any, Any]:
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")
