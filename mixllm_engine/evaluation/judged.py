"""The decisions of a log that somebody judged, as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from mixllm_engine.decision.score import trade_weights
from mixllm_engine.errors import TableError, UnknownDecisionError
from mixllm_engine.store.base import DecisionRecord, FeedbackRow, Store
from mixllm_engine.types import Decision, Matrix, Vector

_BATCH = 1000
_NOT_CHOSEN = ("forced", "tool loop")


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Decisions of a log that no estimate uses, by reason.

    Attributes
    ----------
    without_feedback : int
        Nobody judged the answer; calls that failed for good are among them.
    not_chosen : int
        Judged, but the policy had no choice: a forced candidate, or a tool loop.
    fell_back : int
        Judged, but another candidate answered than was chosen: this tells of availability, not of the choice.
    other_encoder : int
        Judged, but with an embedding by another encoder than most.
    forgotten : int
        Judged, but a store in memory has since made room.
    """

    without_feedback: int = 0
    not_chosen: int = 0
    fell_back: int = 0
    other_encoder: int = 0
    forgotten: int = 0


@dataclass(frozen=True, kw_only=True)
class JudgedLog:
    """Decisions that a policy made freely, whose chosen candidate answered and was judged; n rows, K candidates.

    Attributes
    ----------
    identity : str
        Name of the log.
    encoder : str
        Fingerprint of the encoder that made the embeddings.
    candidates : tuple of str
        All that were in the pool at any of these decisions, sorted; the order of every column.
    embeddings : array of shape (n, d), float16
        The queries.
    prompt_tokens : array of shape (n,)
        Estimated lengths of the prompts.
    willingness_to_pay : array of shape (n,)
        The lambda of each decision.
    eligible : array of shape (n, K), bool
        Who could be chosen.
    expected_quality, expected_cost_usd : array of shape (n, K)
        What was expected of each candidate when it was decided; NaN for those that were not in the pool then.
    cost_unit_usd : array of shape (n,)
        The unit of c in the score; NaN where lambda was infinite and cost didn't count.
    chosen : array of shape (n,), int
        Column of the chosen candidate.
    propensity : array of shape (n,)
        Probability with which it was chosen.
    reward : array of shape (n,)
        Mean of the rewards under all keys, in [0, 1].
    cost_usd : array of shape (n,)
        What the answer cost; NaN where no outcome tells.
    left_out : LeftOut
        What is not among the rows.
    """

    identity: str
    encoder: str
    candidates: tuple[str, ...]
    embeddings: npt.NDArray[np.float16]
    prompt_tokens: Vector
    willingness_to_pay: Vector
    eligible: npt.NDArray[np.bool_]
    expected_quality: Matrix
    expected_cost_usd: Matrix
    cost_unit_usd: Vector
    chosen: npt.NDArray[np.intp]
    propensity: Vector
    reward: Vector
    cost_usd: Vector
    left_out: LeftOut

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.chosen)


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One judged decision, with what counts of its scores by candidate: eligible, quality, cost."""

    encoder: str
    embedding: npt.NDArray[np.float16]
    prompt_tokens: int
    willingness_to_pay: float
    scores: dict[str, tuple[bool, float, float]]
    cost_unit_usd: float
    chosen: str
    propensity: float
    reward: float
    cost_usd: float


def read_judged(store: Store) -> JudgedLog:
    """Read the judged decisions of a log; a long log is read once and then serves many estimates.

    Parameters
    ----------
    store : Store
        The log.

    Raises
    ------
    TableError
        If fewer than two decisions can be used.
    """
    judged = {row.decision_id: row for row in entries(store.feedback_after)}  # a decision's last row has its label
    left = Counter(without_feedback=max(store.counts().decisions - len(judged), 0))
    costs = _costs(store)
    rows = [row for feedback in judged.values() if (row := _row(store, feedback, costs, left)) is not None]
    encoder = Counter(row.encoder for row in rows).most_common(1)[0][0] if rows else ""
    kept = [row for row in rows if row.encoder == encoder]
    left["other_encoder"] = len(rows) - len(kept)
    if len(kept) < 2:
        reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in left.items() if count)
        raise TableError(f"the log has {len(kept)} decisions to estimate from, at least 2 are needed; {reasons}")
    return _stacked(kept, store.identity, LeftOut(**left))


def _row(store: Store, feedback: FeedbackRow, costs: dict[tuple[str, str], float], left: Counter[str]) -> _Row | None:
    try:
        record = store.decision(feedback.decision_id)
    except UnknownDecisionError:
        left["forgotten"] += 1
        return None
    reason = _unusable(record, feedback)
    if reason:
        left[reason] += 1
        return None
    decision = record.decision
    return _Row(
        encoder=record.encoder,
        embedding=record.embedding,
        prompt_tokens=record.prompt_tokens,
        willingness_to_pay=decision.willingness_to_pay,
        scores={name: (score.eligible, score.quality, score.cost_usd) for name, score in decision.scores.items()},
        cost_unit_usd=_cost_unit_usd(decision),
        chosen=decision.candidate,
        propensity=decision.propensity,
        reward=feedback.after.value,
        cost_usd=costs.get((decision.decision_id, decision.candidate), np.nan),
    )


def _cost_unit_usd(decision: Decision) -> float:
    """Return the unit of c, which the log has only within s_trade = lambda/(lambda+1) p - 1/(lambda+1) c."""
    on_quality, on_cost = trade_weights(decision.willingness_to_pay)
    dearest = max(decision.scores.values(), key=lambda score: score.cost_usd)
    paid = on_quality * dearest.quality - dearest.trade
    return on_cost * dearest.cost_usd / paid if paid > 0.0 else np.nan


def _unusable(record: DecisionRecord, feedback: FeedbackRow) -> str:
    if record.decision.reason in _NOT_CHOSEN:
        return "not_chosen"
    return "fell_back" if feedback.candidate != record.decision.candidate else ""


def _costs(store: Store) -> dict[tuple[str, str], float]:
    """Return the cost of each answer by decision and candidate."""
    return {
        (row.decision_id, row.outcome.candidate): row.outcome.cost_usd
        for row in entries(store.outcomes_after)
        if row.outcome.error is None and row.outcome.cost_usd is not None
    }


class _Sequenced(Protocol):
    @property
    def sequence(self) -> int: ...


Entry = TypeVar("Entry", bound=_Sequenced)


def entries(after: Callable[[int, int], Sequence[Entry]]) -> Iterator[Entry]:
    """Walk through a log from its beginning."""
    position, more = 0, True
    while more:
        rows = after(position, _BATCH)
        yield from rows
        more = len(rows) == _BATCH
        position = rows[-1].sequence if rows else position


def _stacked(rows: Sequence[_Row], identity: str, left_out: LeftOut) -> JudgedLog:
    candidates = tuple(sorted({name for row in rows for name in row.scores}))
    index = {name: column for column, name in enumerate(candidates)}
    absent = (False, np.nan, np.nan)
    scores = np.array([[row.scores.get(name, absent) for name in candidates] for row in rows])
    return JudgedLog(
        identity=identity,
        encoder=rows[0].encoder,
        candidates=candidates,
        embeddings=np.stack([row.embedding for row in rows]),
        prompt_tokens=np.array([row.prompt_tokens for row in rows], dtype=np.float64),
        willingness_to_pay=np.array([row.willingness_to_pay for row in rows]),
        eligible=scores[:, :, 0] > 0,
        expected_quality=scores[:, :, 1],
        expected_cost_usd=scores[:, :, 2],
        cost_unit_usd=np.array([row.cost_unit_usd for row in rows]),
        chosen=np.array([index[row.chosen] for row in rows], dtype=np.intp),
        propensity=np.array([row.propensity for row in rows]),
        reward=np.array([row.reward for row in rows]),
        cost_usd=np.array([row.cost_usd for row in rows]),
        left_out=left_out,
    )
