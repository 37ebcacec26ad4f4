"""What a visitor sees at one moment, as plain values: `session` makes them, `views` and `drawings` show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mixllm_engine.app.demo.samples import Recorded
from mixllm_engine.app.demo.tally import Savings
from mixllm_engine.counterfactual import Counterfactual


@dataclass(frozen=True, kw_only=True)
class CandidateRow:
    """One LLM and the present query.

    Attributes
    ----------
    name : str
        The LLM.
    chosen, eligible : bool
        Whether it was chosen, and whether it could be.
    quality, cost_usd, waiting_s, score : float
        What is expected, and what that is worth.
    recorded : Recorded or None
        What really came of it, for samples.
    parts : mapping of str to float
        What the score is made of; they add up to it.
    reason : str
        Why it was excluded.
    """

    name: str
    chosen: bool
    eligible: bool
    quality: float
    cost_usd: float
    waiting_s: float
    score: float
    recorded: Recorded | None
    parts: Mapping[str, float]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The decision for the present query.

    Attributes
    ----------
    candidate : str
        Who was chosen.
    explored : bool
        Whether to learn about it, rather than for its score.
    budget : str
        The budget's word.
    willingness_to_pay : float
        lambda.
    sample : bool
        Whether the query is one with recorded outcomes.
    rows : tuple of CandidateRow
        All LLMs, the best score first.
    counterfactual : Counterfactual or None
        What would have to change for the runner-up to win.
    """

    candidate: str
    explored: bool
    budget: str
    willingness_to_pay: float
    sample: bool
    rows: tuple[CandidateRow, ...]
    counterfactual: Counterfactual | None


@dataclass(frozen=True, kw_only=True)
class LearnedRow:
    """What is known of one LLM.

    Attributes
    ----------
    name : str
        The LLM.
    labels : float
        How many judgements were learned, of the table and of this visit, by their weights.
    mean, low, high : float or None
        Their mean and a 95 % interval for it.
    moved : float
        By how much the mean has moved since the visit began.
    expected : float or None
        Expected quality for the present query, by what is known now.
    expected_before : float or None
        The same when the query was asked.
    """

    name: str
    labels: float
    mean: float | None
    low: float | None
    high: float | None
    moved: float
    expected: float | None
    expected_before: float | None


@dataclass(frozen=True, kw_only=True)
class Alert:
    """The quality of an LLM has shifted, by `shift`, since so many labels."""

    candidate: str
    shift: float
    labels: int


@dataclass(frozen=True, kw_only=True)
class Screen:
    """All that is shown but answers and the curve.

    Attributes
    ----------
    choice : Choice or None
        ``None`` before the first query.
    learned : tuple of LearnedRow
        Every LLM, and the stand-in once it was asked.
    shares : tuple of (str, int)
        Queries by LLM.
    savings : Savings or None
        ``None`` before the first query.
    dearest : str
        Whom the savings are measured against.
    alerts : tuple of Alert
        Whose quality has shifted.
    receipt : str
        What came of the latest judgement.
    progress : str
        How far the samples in a row are.
    message : str
        What came of the latest change of the pool.
    judges : str or None
        Whom a thumb would judge; ``None`` where there is nothing to judge.
    graded : bool
        Whether a recorded quality can be fed back.
    """

    choice: Choice | None
    learned: tuple[LearnedRow, ...]
    shares: tuple[tuple[str, int], ...]
    savings: Savings | None
    dearest: str
    alerts: tuple[Alert, ...]
    receipt: str
    progress: str
    message: str
    judges: str | None
    graded: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer as far as it has come.

    Attributes
    ----------
    source : str
        Who answers, honestly, in one or two sentences.
    text : str
        The answer, or what stands in for it.
    recorded : Recorded or None
        The recorded outcome that is shown in its place.
    done : bool
        Whether nothing more will come.
    """

    source: str
    text: str
    recorded: Recorded | None = None
    done: bool = False
