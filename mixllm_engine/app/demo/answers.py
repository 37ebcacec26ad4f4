"""Who really answers a query, said honestly, and the answer as it comes.

The recorded rows hold no texts of answers. So a sample shows the recorded outcome of the LLM that was chosen, unless
that LLM's key is set and it can answer itself. A query of one's own is answered by whose key is set, else by the local
stand-in. What it says is never shown beside a thumb that would teach somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from mixllm_engine.app.demo.pool import answering
from mixllm_engine.app.demo.samples import Recorded, Sample
from mixllm_engine.app.demo.screen import Answer
from mixllm_engine.app.demo.standin import NAME
from mixllm_engine.calling.client import RoutedClient
from mixllm_engine.calling.failures import classify
from mixllm_engine.config import BudgetWord
from mixllm_engine.errors import AllCandidatesFailedError
from mixllm_engine.router import Router
from mixllm_engine.types import Decision, Query

_PARAMS: Final[dict[str, Any]] = {"max_tokens": 512}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a query is answered.

    Attributes
    ----------
    source : str
        Who answers, honestly.
    router : Router
        Whose decision it is.
    decision : Decision or None
        Under which the answer is given and judged; ``None`` where nobody answers.
    text : str
        What is shown where nobody answers.
    recorded : Recorded or None
        The recorded outcome that is shown instead.
    """

    source: str
    router: Router
    decision: Decision | None = None
    text: str = ""
    recorded: Recorded | None = None

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the call; the stand-in has its own."""
        return {} if self.decision is None or self.decision.candidate == NAME else dict(_PARAMS)


def plan(
    router: Router,
    decision: Decision,
    query: Query,
    sample: Sample | None,
    budget: BudgetWord,
    stand_in: Callable[[], Router | str],
) -> Plan:
    """Find out who answers.

    Parameters
    ----------
    router : Router
        The visitor's.
    decision : Decision
        What it chose.
    query : Query
        What was asked.
    sample : Sample or None
        The sample that it is.
    budget : str
        The budget's word, for another decision among those who can answer.
    stand_in : callable
        Returns the router of the local model, or why there is none.
    """
    chosen, able = decision.candidate, answering(router.candidates)
    if chosen in able:
        # others would fail for want of a key, and be paused for it
        ranking = tuple(name for name in decision.ranking if name in able)
        source = f"Answered by {chosen}, whose key is set."
        return Plan(source=source, router=router, decision=replace(decision, ranking=ranking))
    if sample is not None and chosen in sample.outcomes:
        source = f"Recorded outcome of {chosen}. The recorded rows hold no text of the answer."
        return Plan(source=source, router=router, recorded=sample.outcomes[chosen])
    if able:
        other = router.decide(query, budget=budget, allow=able)
        source = (
            f"{chosen} was chosen, but its key is not set. Answered by {other.candidate}, the best of those that are."
        )
        return Plan(source=source, router=router, decision=other)
    local = stand_in()
    if isinstance(local, str):
        return Plan(source=f"{chosen} was chosen, but its key is not set.", router=router, text=local)
    source = f"{chosen} was chosen, but its key is not set. Answered by {NAME} on this machine, which is seldom right."
    return Plan(source=source, router=local, decision=local.decide(query))


def streamed(made: Plan, text: str) -> Iterator[tuple[Answer, str | None]]:
    """Yield the answer as far as it has come, and who gives it; the last one is done."""
    assert made.decision is not None
    words, answered_by, source = "", None, made.source
    messages = [{"role": "user", "content": text}]
    try:
        with closing(RoutedClient(made.router).stream(messages, made.params, decision=made.decision)) as chunks:
            for chunk in chunks:
                if answered_by is None and chunk.candidate.name != made.decision.candidate:
                    source = f"{made.decision.candidate} failed. Answered by {chunk.candidate.name} instead."
                answered_by = chunk.candidate.name
                if chunk.text:
                    words += chunk.text
                    yield Answer(source=source, text=words), answered_by
    except AllCandidatesFailedError as error:
        kinds = ", ".join(f"{name}: {classify(cause) or 'other'}" for name, cause in error.causes.items())
        yield Answer(source="Nobody answered.", text=f"What went wrong: {kinds}.", done=True), None
        return
    except Exception as error:  # a stream that breaks raises the provider's own error
        kind = classify(error)
        if kind is None:
            raise
        yield Answer(source=source, text=f"{words} [the stream broke: {kind}]", done=True), None
        return
    yield Answer(source=source, text=words or "(an empty answer)", done=True), answered_by
