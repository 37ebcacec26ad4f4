"""A smolagents agent with a tool: one LLM for all steps, one thumbs-up for all of its decisions.

python -m examples.litellm.smolagents_agent
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from smolagents import ActionStep, LiteLLMModel, LogLevel, ToolCallingAgent, tool

import litellm_mixllm
from examples.offline import POPULATION
from mixllm_engine import Candidate, Router
from mixllm_engine.testing import Reply, ScriptedServer, ToolCall
from mixllm_engine.testing.behaviours import RecordedRequest


@tool  # type: ignore[untyped-decorator,unused-ignore]
def population(city: str) -> int:
    """Return how many people live in a Norwegian city.

    Args:
        city: Name of the city.
    """
    return POPULATION[city]


def main() -> None:
    with candidates() as pool, Router(pool, seed=0) as router, litellm_mixllm.register(router) as registered:
        # What LiteLLMModel does not know goes to LiteLLM, and hence to MixLLM.
        model = LiteLLMModel(model_id=registered.model, budget="medium")
        agent = ToolCallingAgent(tools=[population], model=model, verbosity_level=LogLevel.OFF)
        print(agent.run("How many people live in Oslo, Bergen and Tromso together?"))
        answers = [message.raw for step in steps(agent) if (message := step.model_output_message)]
        print("steps:", " -> ".join(str(litellm_mixllm.routed_to(answer)) for answer in answers))
        ids = [litellm_mixllm.decision_id_of(answer) for answer in answers]
        router.feedback(ids, 1.0, credit="discounted")
        print(f"{len(ids)} decisions learned from one thumbs-up")
        print("labels:", {name: of["labels"] for name, of in router.stats()["candidates"].items()})


def steps(agent: ToolCallingAgent) -> Iterator[ActionStep]:
    return (step for step in agent.memory.steps if isinstance(step, ActionStep))


# -- two LLMs that run on this machine -------------------------------------------------------------------------------


@contextmanager
def candidates() -> Iterator[list[Candidate]]:
    """Yield a cheap and a dear candidate, who know that smolagents shows tool outputs as the person's words."""
    with ScriptedServer() as server:
        shared: dict[str, Any] = {"api_base": server.base_url, "context_window": 8192, "supports_tools": True}
        for name in ("cheap", "dear"):
            server.script(name, _census)
        yield [
            Candidate(name="cheap", model="openai/cheap", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, **shared),
            Candidate(name="dear", model="openai/dear", input_usd_per_mtok=2.0, output_usd_per_mtok=8.0, **shared),
        ]


def _census(request: RecordedRequest) -> Reply:
    """Ask the tool about one city after the other, then give the sum as the final answer."""
    body: Mapping[str, Any] = request.body
    said = [_text(message) for message in body["messages"] if message["role"] == "user"]
    task = next(text for text in said if "New task" in text)
    told = [int(number) for text in said for number in re.findall(r"^Observation:\s*(\d+)", text)]
    cities = [city for city in POPULATION if city in task]
    if len(told) < len(cities):
        call = ToolCall(name="population", arguments={"city": cities[len(told)]}, id=f"call_{len(told)}")
    else:
        call = ToolCall(name="final_answer", arguments={"answer": f"Together: {sum(told)}"}, id="call_last")
    return Reply(tool_calls=[call], prompt_tokens=400, response_tokens=50)


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else " ".join(block.get("text", "") for block in content)


if __name__ == "__main__":
    main()
