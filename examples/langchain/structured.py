"""Structured output: an answer that does not fit the schema is a lesson that nobody has to give.

python -m examples.langchain.structured
"""

from __future__ import annotations

from langchain_core.exceptions import OutputParserException
from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel

from examples.offline import candidates
from langchain_mixllm import ChatMixLLM, MixLLMFeedbackHandler, track_decisions
from mixllm_engine import Router


class Person(BaseModel):
    """Somebody who is mentioned in a text."""

    name: str
    age: int


def main() -> None:
    names = ["Ada", "Alan", "Grace", "Edsger", "Barbara", "Donald", "Frances", "John", "Margaret", "Dennis"]
    with candidates() as pool, Router(pool, seed=0) as router:
        llm = ChatMixLLM(router=router, willingness_to_pay=10.0)
        reader = llm.with_structured_output(Person)
        watching: RunnableConfig = {"callbacks": [MixLLMFeedbackHandler(router, rules={"parser_error": 1.0})]}
        for part in ("first", "second", "third"):
            fits = 0
            for age, name in enumerate(names, start=30):
                with track_decisions() as tracked:
                    try:
                        reader.invoke(f"In the {part} story, {name} is {age} years old.", watching)
                    except OutputParserException:
                        continue  # the handler has noted it
                tracked.feedback(1.0)
                fits += 1
            print(f"{part:>6} 10 texts: {fits} answers fit the schema")


if __name__ == "__main__":
    main()
