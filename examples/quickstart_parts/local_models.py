"""(b) Two local candidates, one router, a LangChain chain and a LlamaIndex query engine.

Both candidates are SmolLM2-135M-Instruct: ``careful`` decodes greedily and is dearer, ``hasty`` decodes at a high
temperature, is cheaper, and is wrong most of the time. Nothing tells the router so but the grades of its answers.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from langchain_core.prompts import ChatPromptTemplate
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from rich.console import Console
from rich.table import Table

from langchain_mixllm import ChatMixLLM
from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine import Candidate, Router
from mixllm_engine.calling.local_server import LocalModelServer

from .embedding import PackagedEmbedding

README = Path(__file__).parents[2] / "README.md"

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Germany": "Berlin", "Egypt": "Cairo",
    "England": "London", "Russia": "Moscow", "China": "Beijing", "Greece": "Athens", "Ireland": "Dublin",
    "Sweden": "Stockholm", "Hungary": "Budapest", "Peru": "Lima", "Thailand": "Bangkok", "India": "Delhi",
    "Canada": "Ottawa", "Iran": "Tehran", "Iraq": "Baghdad", "Chile": "Santiago", "Mexico": "Mexico City",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "up": "down", "big": "small", "day": "night", "left": "right", "open": "close", "fast": "slow",
    "happy": "sad", "early": "late", "wet": "dry", "black": "white", "high": "low", "love": "hate", "north": "south",
    "east": "west", "strong": "weak", "true": "false", "inside": "outside", "summer": "winter", "king": "queen",
    "light": "dark", "hard": "soft", "start": "end", "old": "young",
}  # fmt: skip
QUESTIONS = [(f"What is the capital of {country}?", city) for country, city in CAPITALS.items()]
QUESTIONS += [(f"What is the opposite of {word}?", other) for word, other in OPPOSITES.items()]
README_QUESTIONS = [
    ("Which licence does MixLLM have?", "apache"),
    ("Which command runs the tests of MixLLM?", "test"),
    ("Which library makes the calls of MixLLM?", "litellm"),
]


def candidates(base_url: str) -> list[Candidate]:
    """Return two ways to call the same weights."""
    shared: dict[str, Any] = {"api_base": base_url, "context_window": 2048}
    hasty = {"temperature": 1.8, "top_p": 1.0, "max_tokens": 16, "extra_body": {"min_p": 0.0, "top_k": 0}}
    careful = {"temperature": 0.0, "max_tokens": 16}
    return [
        Candidate(
            name="hasty", model="openai/hasty", input_usd_per_mtok=0.1, output_usd_per_mtok=0.2, params=hasty, **shared
        ),
        Candidate(
            name="careful",
            model="openai/careful",
            input_usd_per_mtok=1.0,
            output_usd_per_mtok=2.0,
            params=careful,
            **shared,
        ),
    ]


def grade(answer: str, expected: str) -> float:
    """Return 1 if the expected word is in the answer."""
    return float(expected.lower() in answer.lower())


@dataclass(frozen=True)
class Graded:
    """One answer: through which surface, by whom, how good, under which decision."""

    surface: str
    candidate: str
    grade: float
    decision_id: str


def run(console: Console, store: Path) -> tuple[bool, str]:
    """Route, grade, learn, print; returns whether the better candidate won, and a decision that waits for feedback."""
    console.rule("(b) two local candidates behind one router: LangChain and LlamaIndex, graded by exact match")
    with (
        LocalModelServer(aliases=("hasty", "careful")) as server,
        closing(Router(candidates(server.base_url), store=store, seed=1)) as router,
    ):
        chat = ChatMixLLM(router=router)
        waiting = stream_one(console, chat)
        ask = {"LangChain chain": chain(chat), "LlamaIndex query engine": query_engine(router)}
        log = [ask_and_grade(router, surface, ask[surface], *question) for surface, question in plan()]
        stats = router.stats()
    report(console, log)
    console.print(f"the router counts {stats['feedback_applied']} grades learned, {stats['feedback_pending']} pending")
    return waiting != "" and grew(log) and stats["feedback_applied"] == len(log), waiting


def stream_one(console: Console, chat: ChatMixLLM) -> str:
    """Stream one answer and show its tokens as they come; returns the decision id, whose feedback comes later."""
    console.print("streamed: ", end="")
    routed, pieces = {"decision_id": "", "candidate": ""}, 0
    for chunk in chat.stream("Name three colours."):
        routed |= chunk.response_metadata.get("mixllm", {})
        pieces += bool(chunk.content)
        console.print(str(chunk.content).replace("\n", " "), end="", markup=False, highlight=False)
    console.print(f"\n  {pieces} pieces from {routed['candidate']}, decision {routed['decision_id']}")
    return routed["decision_id"] if pieces > 1 else ""


def chain(chat: ChatMixLLM) -> Callable[[str], tuple[str, str]]:
    """Return a LangChain chain as a function from a question to an answer and its decision id."""
    prompt = ChatPromptTemplate.from_messages([("system", "Answer in one word."), ("user", "{question}")])
    runnable = prompt | chat

    def ask(question: str) -> tuple[str, str]:
        message = runnable.invoke({"question": question})
        return str(message.content), message.response_metadata["mixllm"]["decision_id"]

    return ask


def query_engine(router: Router) -> Callable[[str], tuple[str, str]]:
    """Return a LlamaIndex query engine over the README as the same kind of function."""
    splitter = SentenceSplitter(chunk_size=96, chunk_overlap=0)
    document = Document(text=README.read_text(encoding="utf-8"))
    index = VectorStoreIndex.from_documents([document], transformations=[splitter], embed_model=PackagedEmbedding())
    engine = index.as_query_engine(llm=MixLLM(router=router), similarity_top_k=1)

    def ask(question: str) -> tuple[str, str]:
        with track_decisions() as tracked:
            answer = engine.query(question)
        return str(answer), tracked.decision_ids[-1]

    return ask


def plan() -> list[tuple[str, tuple[str, str]]]:
    """Mix the questions: after every fourth one for the chain comes one for the query engine."""
    rng = random.Random(0)
    questions = [question for _ in range(2) for question in rng.sample(QUESTIONS, len(QUESTIONS))]
    mixed: list[tuple[str, tuple[str, str]]] = []
    for number, question in enumerate(questions):
        mixed.append(("LangChain chain", question))
        if number % 4 == 3:
            mixed.append(("LlamaIndex query engine", README_QUESTIONS[number // 4 % len(README_QUESTIONS)]))
    return mixed


def ask_and_grade(
    router: Router, surface: str, ask: Callable[[str], tuple[str, str]], question: str, expected: str
) -> Graded:
    """Ask, grade the answer, and send the grade back: from here the router learns."""
    answer, decision_id = ask(question)
    receipt = router.feedback(decision_id, reward=grade(answer, expected), key="exact match")
    return Graded(surface, str(receipt.candidate), receipt.reward, decision_id)


def share(log: Sequence[Graded]) -> float:
    """Return the share of the better candidate."""
    return sum(graded.candidate == "careful" for graded in log) / len(log)


def grew(log: Sequence[Graded]) -> bool:
    """Tell whether the better candidate answers more in the last third than in the first."""
    third = len(log) // 3
    return share(log[-third:]) > share(log[:third])


def report(console: Console, log: Sequence[Graded]) -> None:
    """Print the thirds, and both surfaces."""
    third = len(log) // 3
    parts = {"first third": log[:third], "second third": log[third:-third], "last third": log[-third:]}
    parts |= {surface: [g for g in log if g.surface == surface] for surface in sorted({g.surface for g in log})}
    table = Table(title=f"{len(log)} questions, one router")
    for heading in ("", "questions", "share of the better candidate", "right answers"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, rows in parts.items():
        right = sum(graded.grade for graded in rows) / len(rows)
        table.add_row(name, str(len(rows)), f"{share(rows):.0%}", f"{right:.0%}")
    console.print(table)
