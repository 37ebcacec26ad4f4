"""A chain whose model learns which questions need the dear LLM.

python -m examples.langchain.chain
"""

from __future__ import annotations

import random
from collections import Counter

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from examples.offline import candidates, some_question
from langchain_mixllm import ChatMixLLM, track_decisions
from mixllm_engine import Router


def main() -> None:
    dice = random.Random(7)
    with candidates() as pool, Router(pool, store=None, seed=0) as router:
        llm = ChatMixLLM(router=router, willingness_to_pay=2.0, temperature=0)
        prompt = ChatPromptTemplate.from_messages(
            [("system", "Answer with one word or number."), ("human", "{question}")]
        )
        chain = prompt | llm | StrOutputParser()

        for third in ("first", "second", "last"):
            right, chosen = 0, Counter[str]()
            for _ in range(60):
                kind, question, answer = some_question(dice)
                with track_decisions() as tracked:  # the parser returns a string, which knows of no decision
                    good = chain.invoke({"question": question}).strip() == answer
                tracked.feedback(float(good))
                right += good
                chosen[f"{tracked.decisions[-1].candidate} for {kind}"] += 1
            print(f"{third:>6} 60 questions: {right / 60:4.0%} right; {dict(sorted(chosen.items()))}")


if __name__ == "__main__":
    main()
