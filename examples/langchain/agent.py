"""An agent with a tool: one LLM for all steps of an answer, one thumbs-up for all of its decisions.

python -m examples.langchain.agent
"""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from examples.offline import POPULATION, candidates
from langchain_mixllm import ChatMixLLM, MixLLMFeedbackHandler, track_decisions
from mixllm_engine import Router


@tool
def population(city: str) -> int:
    """Return how many people live in a Norwegian city."""
    return POPULATION[city]


def main() -> None:
    with candidates() as pool, Router(pool, seed=0) as router:
        agent = create_agent(ChatMixLLM(router=router, budget="medium"), tools=[population])
        question = {"role": "user", "content": "How many people live in Oslo, Bergen and Tromso together?"}
        with track_decisions() as tracked:
            # The handler notes what goes wrong by itself: a tool that fails, arguments that don't fit, ...
            result = agent.invoke({"messages": [question]}, {"callbacks": [MixLLMFeedbackHandler(router)]})
        answered = [m.response_metadata["mixllm"]["candidate"] for m in result["messages"] if isinstance(m, AIMessage)]
        print(result["messages"][-1].text)
        print("steps:", " -> ".join(answered))
        receipts = tracked.feedback(1.0, credit="discounted")
        print(f"{len(receipts)} decisions learned from one thumbs-up")
        print("labels:", {name: of["labels"] for name, of in router.stats()["candidates"].items()})


if __name__ == "__main__":
    main()
