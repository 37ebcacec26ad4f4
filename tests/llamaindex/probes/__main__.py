"""Runs the probes without `mcp`, and prints what became of each."""

import asyncio
import json
import sys
import warnings
from inspect import isawaitable

from llamaindex_mixllm import MixLLM
from mixllm_engine import Candidate, Router
from mixllm_engine.testing import HashingEncoder, Reply, ScriptedServer
from tests.llamaindex.probes.registry import GREETING, PROBES


async def outcome(name: str) -> str:
    with ScriptedServer() as server:
        server.script("own", Reply(text=GREETING, response_tokens=4))
        own = Candidate(
            name="own",
            model="openai/own",
            api_base=server.base_url,
            input_usd_per_mtok=1.0,
            output_usd_per_mtok=1.0,
            context_window=4096,
            supports_tools=True,
            supports_images=True,
        )
        try:
            result = PROBES[name](MixLLM(router=Router([own], encoder=HashingEncoder())), server)
            if isawaitable(result):
                await result
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "ok"


async def outcomes() -> dict[str, str]:
    return {name: await outcome(name) for name in PROBES}


if __name__ == "__main__":
    sys.modules["mcp"] = None  # type: ignore[assignment]
    warnings.simplefilter("ignore")
    sys.stdout.write(json.dumps(asyncio.run(outcomes())))
