"""An agent of OpenAI's Agents SDK with a tool: one LLM for all steps, one thumbs-up for all of its decisions.

python -m examples.litellm.openai_agents_agent
"""

from __future__ import annotations

import asyncio

from agents import Agent, ModelSettings, Runner, function_tool, set_tracing_disabled
from agents.extensions.models.litellm_model import LitellmModel

import litellm_mixllm
from examples.offline import POPULATION, candidates
from mixllm_engine import Router


@function_tool  # type: ignore[untyped-decorator,unused-ignore]
def population(city: str) -> int:
    """Return how many people live in a Norwegian city."""
    return POPULATION[city]


async def main() -> None:
    set_tracing_disabled(True)  # else the SDK sends what it sees to OpenAI
    with candidates() as pool, Router(pool, seed=0) as router, litellm_mixllm.register(router) as registered:
        agent = Agent(
            name="census",
            model=LitellmModel(registered.model),
            model_settings=ModelSettings(extra_args={"budget": "medium"}),
            tools=[population],
        )
        # The SDK keeps nothing of LiteLLM's answers by which they could be told apart.
        with litellm_mixllm.track_decisions() as tracked:
            result = await Runner.run(agent, "How many people live in Oslo, Bergen and Tromso together?")
        print(result.final_output)
        print("steps:", " -> ".join(decision.candidate for decision in tracked.decisions))
        receipts = await asyncio.to_thread(tracked.feedback, 1.0, credit="discounted")
        print(f"{len(receipts)} decisions learned from one thumbs-up")
        streamed = Runner.run_streamed(agent, "How many people live in Bergen?")
        kinds = [event.type async for event in streamed.stream_events()]
        print(f"streamed: {streamed.final_output} in {len(kinds)} events")
        print("labels:", {name: of["labels"] for name, of in router.stats()["candidates"].items()})


if __name__ == "__main__":
    asyncio.run(main())
