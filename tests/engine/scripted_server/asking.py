"""How these tests ask: over real sockets, past every client."""

from __future__ import annotations

import json
from typing import Any

import httpx

from mixllm_engine.testing.server import ScriptedServer

Json = dict[str, Any]
ASK: list[Any] = [{"role": "user", "content": "a secret question"}]
ADD: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def post(server: ScriptedServer, body: object, path: str = "/chat/completions") -> httpx.Response:
    return httpx.post(server.base_url + path, json=body, timeout=5, verify=False)


def events(response: httpx.Response) -> list[Any]:
    """Parse server-sent events; [DONE] stays a string."""
    texts = [part.removeprefix("data: ") for part in response.text.split("\n\n") if part]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]
