"""What is noted of a call: by a callback, in the answer's metadata, and in the log."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage

from langchain_mixllm import ChatMixLLM


class Watcher(BaseCallbackHandler):
    """Keeps the runs, tokens and ends of chat models."""

    def __init__(self) -> None:
        self.runs: list[UUID] = []
        self.tokens: list[Any] = []
        self.ends: list[Any] = []
        self.errors: list[BaseException] = []

    def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self.runs.append(run_id)

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.tokens.append(token)

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.ends.append(response)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.errors.append(error)


def noted(message: BaseMessage) -> dict[str, Any]:
    found: dict[str, Any] = message.response_metadata["mixllm"]
    return found


def outcomes(llm: ChatMixLLM, decision_id: str) -> list[tuple[str, str | None]]:
    return [(outcome.candidate, outcome.error) for outcome in llm.router.explain(decision_id).outcomes]
