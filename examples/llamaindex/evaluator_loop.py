"""Nobody grades by hand: an evaluator compares every answer with a reference, and the router learns from it.

python -m examples.llamaindex.evaluator_loop
"""

from __future__ import annotations

import random
from typing import cast

from llama_index.core import Document, SummaryIndex
from llama_index.core.base.response.schema import Response
from llama_index.core.evaluation import SemanticSimilarityEvaluator

from examples.offline import candidates, some_question
from examples.quickstart_parts.embedding import PackagedEmbedding
from llamaindex_mixllm import EvaluatorFeedback, MixLLM, track_decisions
from mixllm_engine import Router


def main() -> None:
    index = SummaryIndex.from_documents([Document(text="Answer with one word or number.")])
    with candidates() as pool, Router(pool, seed=0) as router:
        engine = index.as_query_engine(llm=MixLLM(router=router, willingness_to_pay=2.0))
        # Other judges: faithfulness, relevancy, correctness, with an LLM of their own (llm=...).
        similar = SemanticSimilarityEvaluator(embed_model=PackagedEmbedding())
        judges = EvaluatorFeedback(router, {"similar": similar}, scales={"similar": lambda cosine: cosine > 0.99})

        dice = random.Random(7)
        for half in ("first", "second"):
            good = 0.0
            for _ in range(40):
                _, question, reference = some_question(dice)
                with track_decisions() as tracked:
                    answer = cast(Response, engine.query(question))
                judged = judges.apply(question, answer, ref=tracked, reference=reference)
                good += judged.receipts["similar"].reward
            print(f"{half:>6} 40 questions: {good / 40:.0%} found good by the evaluator")


if __name__ == "__main__":
    main()
