"""What must be hidden, who holds it, and where it might be seen."""

from __future__ import annotations

import dataclasses
import traceback
from typing import Any

from mixllm_engine import Candidate
from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.testing import tiny_pool

KEY = "sk-key-0123456789-that-must-not-be-seen"
TOKEN = "ey-token-9876543210-that-must-not-be-seen"
PASSWORD = "pass-word-that-must-not-be-seen"
PROMPT = "Translate the zebra's quarterly confession"
HIDE = (KEY, TOKEN, PASSWORD, PROMPT)
MESSAGES = [{"role": "user", "content": PROMPT}]
QUIET = RouterConfig(features=FeatureConfig(domains="none"))


def secretive_pool(api_base: str) -> list[Candidate]:
    params = {"extra_headers": {"X-Session": TOKEN}, "temperature": 0.5}
    return [dataclasses.replace(candidate, api_key=KEY, params=params) for candidate in tiny_pool(api_base)]


def holding(told: dict[str, Any]) -> dict[str, list[str]]:
    """Return which of the things told hold what must be hidden."""
    data = {name: what if isinstance(what, bytes) else str(what).encode() for name, what in told.items()}
    found = {name: [hidden for hidden in HIDE if hidden.encode() in what] for name, what in data.items()}
    return {name: some for name, some in found.items() if some}


def shown(error: BaseException) -> dict[str, str]:
    lines = traceback.format_exception(error)
    return {"str": str(error), "repr": repr(error), "traceback": "".join(lines), "vars": repr(vars(error))}
