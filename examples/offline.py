"""Two LLMs for these examples: real ones where a key is set, else two that are scripted and run on this machine.

Of the scripted two, ``cheap`` knows its capitals and adds correctly, but can't multiply; ``dear`` is twenty times the
price and always right. Nobody tells the router so: it has to learn it from feedback.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from mixllm_engine import Candidate
from mixllm_engine.testing import Reply, ScriptedServer, ToolCall
from mixllm_engine.testing.behaviours import RecordedRequest

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Germany": "Berlin", "Egypt": "Cairo",
    "Norway": "Oslo", "Russia": "Moscow", "China": "Beijing", "Greece": "Athens", "Ireland": "Dublin",
    "Sweden": "Stockholm", "Hungary": "Budapest", "Peru": "Lima", "Thailand": "Bangkok", "Chile": "Santiago",
}  # fmt: skip

POPULATION = {"Oslo": 717710, "Bergen": 291940, "Tromso": 78745}


def some_question(dice: random.Random) -> tuple[str, str, str]:
    """Return what kind of question it is, the question, and its answer."""
    if dice.random() < 0.5:
        land, city = dice.choice(list(CAPITALS.items()))
        return "capitals", f"What is the capital of {land}?", city
    a, b = dice.randint(2, 99), dice.randint(2, 99)
    return "products", f"Work out the product {a} x {b}.", str(a * b)


@contextmanager
def candidates() -> Iterator[list[Candidate]]:
    """Yield a cheap and a dear candidate."""
    if "OPENAI_API_KEY" in os.environ:
        yield [
            Candidate(name="cheap", model="openai/gpt-4o-mini"),
            Candidate(name="dear", model="openai/gpt-4o"),
        ]
        return
    print("(no OPENAI_API_KEY: two scripted models on this machine answer)")
    with ScriptedServer() as server:
        for name in ("cheap", "dear"):
            server.script(name, partial(_thinks, knows_all=name == "dear"))
        shared: dict[str, Any] = {
            "api_base": server.base_url,
            "context_window": 8192,
            "supports_tools": True,
            "supports_json_schema": True,
        }
        yield [
            Candidate(name="cheap", model="openai/cheap", input_usd_per_mtok=0.1, output_usd_per_mtok=0.4, **shared),
            Candidate(name="dear", model="openai/dear", input_usd_per_mtok=2.0, output_usd_per_mtok=8.0, **shared),
        ]


def _thinks(request: RecordedRequest, *, knows_all: bool) -> Reply:
    """Answer, and bill as much as a model that thinks first."""
    return replace(_play(request, knows_all=knows_all), prompt_tokens=40, response_tokens=250)


def _play(request: RecordedRequest, *, knows_all: bool) -> Reply:
    body: Mapping[str, Any] = request.body
    messages = body["messages"]
    asked = str(next(message["content"] for message in reversed(messages) if message["role"] == "user"))
    question = asked.rpartition("Query: ")[2]  # of a query engine's prompt, what stands behind the context
    tools = {tool["function"]["name"] for tool in body.get("tools", [])}
    told = [str(message["content"]) for message in messages if message["role"] == "tool"]
    if "population" in tools:
        return _census(asked, told)
    if "response_format" in body:
        found = re.search(r"(\w+) is (\d+)", asked)
        name, age = (found[1], int(found[2])) if found else ("nobody", 0)
        return Reply(text=json.dumps({"name": name, "age": age} if knows_all else {"name": name}))
    if sum_ := re.search(r"(\d+) ([+x]) (\d+)", question):
        left, sign, right = int(sum_[1]), sum_[2], int(sum_[3])
        right_answer = left + right if sign == "+" else left * right
        return Reply(text=str(right_answer if knows_all or sign == "+" else right_answer + 1))
    if (land := re.search(r"capital of (\w+)", question)) and land[1] in CAPITALS:
        return Reply(text=CAPITALS[land[1]])
    return Reply(text=_quoted(asked) if knows_all else "I would rather talk about the weather.")


def _census(asked: str, told: list[str]) -> Reply:
    """Ask the tool about one city after the other, then add up."""
    cities = [city for city in POPULATION if city in asked]
    if len(told) < len(cities):
        call = ToolCall(name="population", arguments={"city": cities[len(told)]}, id=f"call_{len(told)}")
        return Reply(tool_calls=[call])
    return Reply(text=f"Together: {sum(map(int, told))}")


def _quoted(asked: str) -> str:
    """Answer from the context that stands in the question."""
    return " ".join(asked.partition("Query: ")[0].split())[:1500]
