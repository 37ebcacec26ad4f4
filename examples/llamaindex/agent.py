"""An agent with a tool: one LLM for all steps of a run, one thumbs-up for all of its decisions.

python -m examples.llamaindex.agent
"""

from __future__ import annotations

import asyncio

from llama_index.core.agent.workflow import FunctionAgent

from examples.offline import POPULATION, candidates
from llamaindex_mixllm import MixLLM, MixLLMEventHandler, track_decisions
from mixllm_engine import Router


def population(city: str) -> int:
    """Return how many people live in a Norwegian city."""
    return POPULATION[city]


async def run() -> None:
    with candidates() as pool, Router(pool, seed=0) as router:
        agent = FunctionAgent(tools=[population], llm=MixLLM(router=router, budget="medium"))
        # The handler notes what goes wrong by itself: a tool that fails, an answer that fits no schema.
        with MixLLMEventHandler(router).watching(), track_decisions() as tracked:
            answer = await agent.run("How many people live in Oslo, Bergen and Tromso together?")
        print(answer)
        print("steps:", " -> ".join(decision.candidate for decision in tracked.decisions))
        receipts = tracked.feedback(1.0, credit="discounted")
        print(f"{len(receipts)} decisions learned from one thumbs-up")
        print("labels:", {name: of["labels"] for name, of in router.stats()["candidates"].items()})


if __name__ == "__main__":
    asyncio.run(run())
