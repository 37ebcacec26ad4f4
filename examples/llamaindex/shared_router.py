"""One router for a LlamaIndex query engine and a LangChain chain: what one learns, the other knows.

python -m examples.llamaindex.shared_router
"""

from __future__ import annotations

import random
from collections import Counter

from langchain_core.output_parsers import StrOutputParser

from examples.offline import candidates, some_question
from langchain_mixllm import ChatMixLLM
from llamaindex_mixllm import MixLLM, track_decisions
from mixllm_engine import Router


def main() -> None:
    with candidates() as pool, Router(pool, seed=0) as router:
        llm = MixLLM(router=router, willingness_to_pay=2.0)
        dice = random.Random(7)
        for _ in range(100):
            _, question, right = some_question(dice)
            answer = llm.complete(question)
            llm.feedback(answer, float(answer.text.strip() == right))
        print("LlamaIndex gave", router.stats()["feedback_applied"], "labels")

        chain = ChatMixLLM(router=router, willingness_to_pay=2.0) | StrOutputParser()
        chosen: dict[str, Counter[str]] = {}
        for _ in range(20):
            kind, question, _ = some_question(dice)
            with track_decisions() as tracked:
                chain.invoke(question)
            chosen.setdefault(kind, Counter()).update([tracked.decisions[0].candidate])
        print("LangChain then mostly asks", {kind: chosen[kind].most_common(1)[0][0] for kind in sorted(chosen)})


if __name__ == "__main__":
    main()
