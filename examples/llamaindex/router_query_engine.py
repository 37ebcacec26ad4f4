"""A cheap and a dear query engine on one index, and a selector that learns which questions need which.

python -m examples.llamaindex.router_query_engine
"""

from __future__ import annotations

import random
from collections import Counter

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.tools import QueryEngineTool

from examples.offline import CAPITALS, candidates, some_question
from examples.quickstart_parts.embedding import PackagedEmbedding
from llamaindex_mixllm import MixLLM, MixLLMSelector
from mixllm_engine import Router


def main() -> None:
    facts = [Document(text=f"The capital of {land} is {city}.") for land, city in CAPITALS.items()]
    index = VectorStoreIndex.from_documents(facts, embed_model=PackagedEmbedding())
    with candidates() as pool, Router(pool, seed=0) as router:
        selector = MixLLMSelector(router=router, arms={"quick": "cheap", "thorough": "dear"}, willingness_to_pay=2.0)
        tools = [
            QueryEngineTool.from_defaults(
                index.as_query_engine(llm=selector.llm(name)), name=name, description=f"Answers questions, {name}."
            )
            for name in ("quick", "thorough")
        ]
        engine = RouterQueryEngine(selector=selector, query_engine_tools=tools, llm=MixLLM(router=router))

        dice = random.Random(7)
        for third in ("first", "second", "last"):
            right, chosen = 0, Counter[str]()
            for _ in range(60):
                kind, question, answer = some_question(dice)
                response = engine.query(question)
                good = str(response).strip() == answer
                selector.feedback(response, float(good))
                right += good
                selected = (response.metadata or {})["selector_result"]
                chosen[f"{selected.candidate} for {kind}"] += 1
            print(f"{third:>6} 60 questions: {right / 60:4.0%} right; {dict(sorted(chosen.items()))}")


if __name__ == "__main__":
    main()
