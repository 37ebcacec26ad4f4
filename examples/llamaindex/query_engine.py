"""A query engine over real documents, whose LLM learns from grades.

python -m examples.llamaindex.query_engine
"""

from __future__ import annotations

from pathlib import Path

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter

from examples.offline import candidates
from examples.quickstart_parts.embedding import PackagedEmbedding
from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine import Router

DOCS = [Path(__file__).parents[2] / name for name in ("README.md", "docs/evaluate.md")]
QUESTIONS = [
    ("What does the quickstart show?", "outcomes"),
    ("Which command measures what routing would save?", "evaluate"),
    ("Which columns has a table of outcomes?", "cost_usd"),
    ("How do I give feedback on an answer?", "feedback"),
]


def main() -> None:
    documents = [Document(text=path.read_text(encoding="utf-8")) for path in DOCS]
    splitter = SentenceSplitter(chunk_size=256, chunk_overlap=0)
    index = VectorStoreIndex.from_documents(documents, embed_model=PackagedEmbedding(), transformations=[splitter])
    with candidates() as pool, Router(pool, seed=0) as router:
        engine = index.as_query_engine(llm=MixLLM(router=router, willingness_to_pay=5.0), similarity_top_k=2)
        for turn in (1, 2, 3, 4, 5):
            good = 0
            for question, word in QUESTIONS:
                with track_decisions() as tracked:  # a query engine's answer knows of no decision
                    answer = str(engine.query(question))
                good += word in answer.lower()
                tracked.feedback(float(word in answer.lower()))
            print(f"turn {turn}: {good} of {len(QUESTIONS)} answers good")


if __name__ == "__main__":
    main()
