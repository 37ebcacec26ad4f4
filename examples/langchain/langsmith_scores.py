"""Learn from the scores that people and evaluators left in LangSmith.

    python -m examples.langchain.langsmith_scores

With LANGSMITH_API_KEY the real service is asked, else a stand-in that holds one score for every run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from langchain_core.output_parsers import StrOutputParser
from langsmith import Client
from langsmith.schemas import Feedback

from examples.offline import candidates
from langchain_mixllm import ChatMixLLM, sync_langsmith
from mixllm_engine import Router


class StandIn:
    """LangSmith's feedback, without LangSmith."""

    def __init__(self) -> None:
        self._held: list[Feedback] = []

    def create_feedback(self, run_id: UUID, key: str, *, score: float) -> None:
        now = datetime.now(UTC)
        times: dict[str, Any] = {"created_at": now, "modified_at": now}
        self._held.append(Feedback(id=uuid4(), run_id=run_id, trace_id=run_id, key=key, score=score, **times))

    def list_feedback(
        self, *, run_ids: Sequence[UUID | str] | None = None, feedback_key: Sequence[str] | None = None
    ) -> Iterable[Feedback]:
        wanted = set(map(str, run_ids or ()))
        return [one for one in self._held if str(one.run_id) in wanted and one.key in (feedback_key or ())]


def main() -> None:
    client = Client() if "LANGSMITH_API_KEY" in os.environ else StandIn()
    with candidates() as pool, Router(pool, seed=0) as router:
        chain = ChatMixLLM(router=router) | StrOutputParser()
        for a in range(10):
            run_id = uuid4()
            sum_, right = (f"{a} x 7", a * 7) if a % 2 else (f"{a} + 7", a + 7)
            answer = chain.invoke(f"What is {sum_}?", {"run_id": run_id})
            client.create_feedback(run_id, "user_score", score=float(answer == str(right)))

        # In a job of its own, as often as you like:
        print(sync_langsmith(router, client, keys=["user_score"]))
        print("again:", sync_langsmith(router, client, keys=["user_score"]))
        print({name: of["mean_reward"] for name, of in router.stats()["candidates"].items()})


if __name__ == "__main__":
    main()
