"""LangSmith's feedback -> the decisions that it is about. The package ``langsmith`` comes with langchain-core."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from mixllm_engine import ConfigError, Router, UnknownDecisionError
from mixllm_engine.crediting import Credit

if TYPE_CHECKING:
    from langsmith.schemas import Feedback

_WEEK_S: Final = 7 * 24 * 3600.0
# LangSmith takes the ids of runs in the address of a request.
_RUNS_A_REQUEST: Final = 50


class Client(Protocol):
    """What is needed of a `langsmith.Client`."""

    def list_feedback(
        self, *, run_ids: Sequence[UUID | str] | None = None, feedback_key: Sequence[str] | None = None
    ) -> Iterable[Feedback]:
        """Return the feedback on some runs."""
        ...


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What became of LangSmith's feedback.

    Attributes
    ----------
    applied, replaced, duplicate : int
        Judgements that were new, that changed, and that were known.
    unscored : int
        Comments and values without a number.
    out_of_range : int
        Scores outside of [0, 1]; give a `scale`.
    unknown : int
        Judgements of runs that led to no decision, or to none that is still in the store.
    """

    applied: int = 0
    replaced: int = 0
    duplicate: int = 0
    unscored: int = 0
    out_of_range: int = 0
    unknown: int = 0


def sync_langsmith(
    router: Router,
    client: Client | None = None,
    *,
    keys: Sequence[str],
    run_ids: Sequence[UUID | str] | None = None,
    within_s: float = _WEEK_S,
    scale: Callable[[float], float] | None = None,
    credit: Credit = "last",
) -> Synced:
    """Learn from feedback that was given in LangSmith. To do it again is safe: what is known is a duplicate.

    Parameters
    ----------
    router : Router
        Who learns; feedback is kept under the keys that it has in LangSmith.
    client : langsmith.Client, optional
        Made from the environment where not given.
    keys : sequence of str
        Keys of the feedback that tells the quality of an answer, such as ``["user_score"]``.
    run_ids : sequence, optional
        Runs to ask about: a chat model's, or any around it. All that led to a decision lately where not given.
    within_s : float
        How long ago a decision may be, in seconds; a week where not given.
    scale : callable, optional
        Brings a score to [0, 1], for example ``lambda stars: (stars - 1) / 4``.
    credit : str
        Which decisions of a run the judgement is for; see `Router.feedback`.

    Returns
    -------
    Synced
        How many judgements were learned, and how many were left out.

    Raises
    ------
    ConfigError
        If no key is given.
    """
    if isinstance(keys, str) or not keys:
        raise ConfigError(f"keys={keys!r} must be a list of the feedback keys that tell quality, as ['user_score']")
    if client is None:
        from langsmith import Client as LangSmith

        client = LangSmith()
    runs = iter(router.linked(within_s=within_s) if run_ids is None else run_ids)
    told: Counter[str] = Counter()
    while batch := list(islice(runs, _RUNS_A_REQUEST)):
        found = client.list_feedback(run_ids=batch, feedback_key=keys)
        for feedback in sorted(found, key=lambda one: one.created_at):  # of one key, the latest counts
            told[_learn(router, feedback, scale, credit)] += 1
    return Synced(**told)


def _learn(router: Router, feedback: Any, scale: Callable[[float], float] | None, credit: Credit) -> str:
    if not isinstance(feedback.score, bool | int | float):
        return "unscored"
    score = float(feedback.score) if scale is None else scale(float(feedback.score))
    if not 0.0 <= score <= 1.0:
        return "out_of_range"
    if feedback.run_id is None:  # on a whole project
        return "unknown"
    try:
        return router.feedback(feedback.run_id, score, feedback.key, credit=credit).status
    except UnknownDecisionError:
        return "unknown"
