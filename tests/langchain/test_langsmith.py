"""LangSmith's feedback is learned from, as often as one asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from langchain_core.output_parsers import StrOutputParser
from langsmith.schemas import Feedback

from langchain_mixllm import ChatMixLLM, sync_langsmith
from langchain_mixllm.langsmith import Synced
from mixllm_engine import ConfigError, Router

START = datetime(2026, 1, 1, tzinfo=UTC)


class Client:
    """What LangSmith holds."""

    def __init__(self) -> None:
        self.held: list[Feedback] = []
        self.requests = 0

    def create_feedback(self, run_id: UUID, key: str, *, score: float | None = None) -> None:
        at = START + timedelta(seconds=len(self.held))
        self.held.append(
            Feedback(id=uuid4(), created_at=at, modified_at=at, run_id=run_id, trace_id=run_id, key=key, score=score)
        )

    def list_feedback(
        self, *, run_ids: Sequence[UUID | str] | None = None, feedback_key: Sequence[str] | None = None
    ) -> Iterable[Feedback]:
        self.requests += 1
        wanted = {str(run_id) for run_id in run_ids or ()}
        assert len(wanted) <= 50
        # the service returns the latest first
        return [one for one in reversed(self.held) if str(one.run_id) in wanted and one.key in (feedback_key or ())]


def asked(llm: ChatMixLLM, question: str) -> UUID:
    run = uuid4()
    (llm | StrOutputParser()).invoke(question, {"run_id": run})
    return run


def test_scores_of_runs_are_learned_once(llm: ChatMixLLM, router: Router) -> None:
    client, runs = Client(), [asked(llm, f"Question {number}") for number in range(3)]
    client.create_feedback(runs[0], "user_score", score=0.0)
    client.create_feedback(runs[0], "user_score", score=1.0)
    client.create_feedback(runs[1], "user_score", score=0.25)
    client.create_feedback(runs[1], "toxicity", score=1.0)
    client.create_feedback(runs[2], "user_score")
    client.create_feedback(runs[2], "user_score", score=4.0)
    client.create_feedback(uuid4(), "user_score", score=1.0)

    synced = sync_langsmith(router, client, keys=["user_score"])
    assert synced == Synced(applied=2, replaced=1, unscored=1, out_of_range=1)
    stats = router.stats()
    assert (stats["feedback_applied"], stats["candidates"]["cheap"]["mean_reward"]) == (2, 0.625)
    again = sync_langsmith(router, client, keys=["user_score"])
    assert (again.applied, router.stats()["feedback_applied"]) == (0, 2)
    assert router.stats()["candidates"]["cheap"]["mean_reward"] == 0.625


def test_runs_can_be_named_and_scores_scaled(llm: ChatMixLLM, router: Router) -> None:
    client, run, stranger = Client(), asked(llm, "Hello?"), uuid4()
    client.create_feedback(run, "stars", score=5.0)
    client.create_feedback(stranger, "stars", score=5.0)
    synced = sync_langsmith(
        router, client, keys=["stars"], run_ids=[run, str(stranger)], scale=lambda stars: (stars - 1) / 4
    )
    assert synced == Synced(applied=1, unknown=1)


def test_many_runs_are_asked_about_in_parts(llm: ChatMixLLM, router: Router) -> None:
    client, run = Client(), asked(llm, "Hello?")
    client.create_feedback(run, "user_score", score=1.0)
    assert (
        sync_langsmith(router, client, keys=["user_score"], run_ids=[*(uuid4() for _ in range(120)), run]).applied == 1
    )
    assert client.requests == 3


def test_a_key_must_be_named(router: Router) -> None:
    wrong: list[Sequence[str]] = [[], "user_score"]
    for keys in wrong:
        with pytest.raises(ConfigError, match="must be a list of the feedback keys"):
            sync_langsmith(router, Client(), keys=keys)
