"""One visit: all state and logic of the demonstration, without any of its page.

A thumb always teaches who is judged. For a sample that is the LLM whose recorded outcome is shown; where an answer was
really given, it is the LLM that gave it, by the decision under which it did. The local stand-in has its own router.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mixllm_engine.app.demo.answers import plan, streamed
from mixllm_engine.app.demo.curve import Curve, measure
from mixllm_engine.app.demo.pool import dearest, newcomer
from mixllm_engine.app.demo.samples import Sample
from mixllm_engine.app.demo.screen import Alert, Answer, CandidateRow, Choice, LearnedRow, Screen
from mixllm_engine.app.demo.stage import Stage
from mixllm_engine.app.demo.standin import NAME
from mixllm_engine.app.demo.tally import Entry, Tally
from mixllm_engine.app.learned import interval
from mixllm_engine.config import BUDGET_WORDS, BudgetWord
from mixllm_engine.decision.score import trade_weights
from mixllm_engine.errors import CandidateError, ConfigError, QueryError
from mixllm_engine.router import Router
from mixllm_engine.types import Candidate, Decision, FeedbackReceipt, Outcome, Query, Score

LONGEST_QUERY: Final = 4000  # characters
MOST_CANDIDATES: Final = 10
_SHOWN_EVERY: Final = 4  # queries of a run
_NOBODY: Final = Answer(source="Nobody was asked yet.", text="", done=True)
_WORDS: Final = {"applied": "learned", "replaced": "replaced the earlier one", "duplicate": "given already"}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Who is judged, and by which decision of which router."""

    router: Router
    decision_id: str
    candidate: str


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The present query, and the decision for it; `answered` if somebody answers or has answered it."""

    query: Query
    sample: Sample | None
    budget: BudgetWord
    decision: Decision
    place: int
    answered: bool = False


class Visit:
    """A visitor's own router and everything that happened to it; may be used from several threads.

    Parameters
    ----------
    stage : Stage
        What all visitors share.
    seed : int
        Makes exploring draws repeatable.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.router = stage.router(seed)
        self._local: Router | None = None
        self._lock = threading.RLock()
        self._tally = Tally()
        self._asked: _Asked | None = None
        self._judged: Judged | None = None
        self._shown = _NOBODY
        self._receipt = self._progress = self._message = ""
        self._next = seed  # of the samples in a row
        self._dearest = dearest(self.router, stage.held_out.texts)
        self._known = {name: mean for name, _, mean in self._labels(self.router)}

    def close(self) -> None:
        """Let go of the routers."""
        with self._lock:
            self.router.close()
            if self._local is not None:
                self._local.close()

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, text: str, budget: str) -> None:
        """Decide on a query; it is a sample if it asks just what one asks.

        Raises
        ------
        QueryError
            If the query is empty or too long.
        NoEligibleCandidateError
            If nobody may answer it.
        """
        if len(text) > LONGEST_QUERY:
            raise QueryError(f"the query has {len(text):,} characters; at most {LONGEST_QUERY:,} are allowed here")
        sample = self.stage.samples.asking(text)
        query = Query(text=text) if sample is None else sample.query
        with self._lock:
            decision = self.router.decide(query, budget=_word(budget))
            place = self._tally.add(self._entry(decision, sample))
            self._show(_Asked(query=query, sample=sample, budget=_word(budget), decision=decision, place=place))

    def rebudget(self, budget: str) -> bool:
        """Decide anew on the present query under another budget; returns whether there is any."""
        with self._lock:
            asked = self._asked
            if asked is None:
                return False
            decision = self.router.decide(asked.query, budget=_word(budget))
            self._tally.replace(asked.place, self._entry(decision, asked.sample))
            self._show(replace(asked, budget=_word(budget), decision=decision, answered=False))
            return True

    def _show(self, asked: _Asked) -> None:
        self._asked, self._receipt = asked, ""
        recorded = asked.sample is not None and asked.decision.candidate in asked.sample.outcomes
        chosen = Judged(router=self.router, decision_id=asked.decision.decision_id, candidate=asked.decision.candidate)
        self._judged = chosen if recorded else None  # else there is nothing to judge before somebody has answered

    def _entry(self, decision: Decision, sample: Sample | None) -> Entry:
        return Entry.of(decision, self._dearest, sample)

    # -- answering ---------------------------------------------------------------------------------------------------

    def answer(self) -> Iterator[Answer]:
        """Answer the present query: show what is recorded, or stream from who can really answer.

        When another query is asked meanwhile, it ends with what is shown for that one.
        """
        with self._lock:
            asked, shown = self._asked, self._shown
            made = None
            if asked is not None and not asked.answered:
                self._asked = asked = replace(asked, answered=True)  # once, whoever asks for the answer again
                made = plan(self.router, asked.decision, asked.query, asked.sample, asked.budget, self._stand_in)
        if asked is None or made is None:
            yield shown  # outside of the lock: a generator may go on in another thread
            return
        if made.decision is None:
            yield self._now(asked, Answer(source=made.source, text=made.text, recorded=made.recorded, done=True))
            return
        yield self._now(asked, Answer(source=made.source, text=""))
        for answer, answered_by in streamed(made, asked.query.text or ""):
            with self._lock:
                if self._asked is asked and answer.done and answered_by:
                    self._judged = Judged(
                        router=made.router, decision_id=made.decision.decision_id, candidate=answered_by
                    )
            yield self._now(asked, answer)
            if self._asked is not asked:
                return

    def _now(self, asked: _Asked, answer: Answer) -> Answer:
        """Show an answer if its query is still the present one; return what is shown."""
        with self._lock:
            if self._asked is asked:
                self._shown = answer
            return self._shown

    def _stand_in(self) -> Router | str:
        """Return the router of the local model, or why there is none."""
        stand_in = self.stage.stand_in
        if stand_in.missing:
            return stand_in.missing
        if self._local is None:
            self._local = stand_in.router(self.stage.encoder, self.stage.clock)
        return self._local

    # -- teaching ----------------------------------------------------------------------------------------------------

    def judge(self, good: bool) -> None:
        """Give a thumb to who is judged."""
        with self._lock:
            judged = self._judged
            if judged is None:
                self._receipt = "There is no answer to judge yet."
                return
            receipt = judged.router.feedback(judged.decision_id, 1.0 if good else 0.0, key="thumb")
            self._receipt = _told(receipt, "thumbs up" if good else "thumbs down")

    def grade(self) -> None:
        """Give the recorded quality to who was chosen for a sample."""
        with self._lock:
            judged, quality = self._judged, self._gradable()
            if judged is None or quality is None:
                self._receipt = "No quality is recorded here: only sample queries have recorded outcomes."
                return
            receipt = judged.router.feedback(judged.decision_id, quality, key="recorded")
            self._receipt = _told(receipt, f"the recorded quality {quality:.2f}")

    def _gradable(self) -> float | None:
        """Return the recorded quality of who is judged, where there is any."""
        sample = None if self._asked is None else self._asked.sample
        recorded = None if sample is None or self._judged is None else sample.outcomes.get(self._judged.candidate)
        return None if recorded is None else recorded.quality

    def run(self, count: int, budget: str) -> Iterator[None]:
        """Ask samples in a row, with the recorded cost, length and quality as feedback; yields now and then.

        Only LLMs with recorded outcomes take part: of the others nobody knows what they would have answered.
        """
        streamed_samples = self.stage.samples.streamed
        for number in range(1, count + 1):
            with self._lock:
                self._run_one(streamed_samples[self._next % len(streamed_samples)], _word(budget))
                self._progress = f"{number} of {count} samples decided; their recorded quality was learned."
            if number % _SHOWN_EVERY == 0 or number == count:
                yield

    def _run_one(self, sample: Sample, budget: BudgetWord) -> None:
        self._next += 1
        known = [candidate.name for candidate in self.router.candidates if candidate.name in sample.outcomes]
        if not known:
            raise ConfigError("no LLM with recorded outcomes is left in the pool; add none but start the page anew")
        decision = self.router.decide(sample.query, budget=budget, allow=known)
        outcome = sample.outcomes[decision.candidate]
        self._tally.add(self._entry(decision, sample))
        observed = Outcome(
            candidate=decision.candidate, response_tokens=round(outcome.response_tokens), cost_usd=outcome.cost_usd
        )
        self.router.observe(decision.decision_id, observed)
        self.router.feedback(decision.decision_id, outcome.quality, key="recorded")

    # -- the pool ----------------------------------------------------------------------------------------------------

    def add(self, model: str, like: str) -> None:
        """Add an LLM by LiteLLM's name, expecting of it what is known of a sibling, if one is named.

        Raises
        ------
        CandidateError
            If its price is unknown, its name is taken, or the pool is full.
        """
        name = model.strip()
        with self._lock:
            if name in self.names:
                raise CandidateError(f"{name} is in the pool already")
            if len(self.router.candidates) >= MOST_CANDIDATES:
                raise CandidateError(f"the pool has {MOST_CANDIDATES} LLMs, which is enough here; remove one first")
            self.router.add_candidate(newcomer(name), like=like or None)
            self._message = f"{name} has joined" + (f", expected to be like {like}." if like else ".")
            self._decide_again()

    def remove(self, name: str) -> None:
        """Remove an LLM.

        Raises
        ------
        CandidateError
            If it is not in the pool, or the last one.
        """
        with self._lock:
            self.router.remove_candidate(name)
            self._message = f"{name} has left; what was learned of it counts again if it comes back."
            self._decide_again()

    def _decide_again(self) -> None:
        self._dearest = dearest(self.router, self.stage.held_out.texts)
        before, judged = self._asked, self._judged
        if before is None:
            return
        self.rebudget(before.budget)
        now = self._asked
        if now is not None and now.sample is None and now.decision.candidate == before.decision.candidate:
            self._asked, self._judged = replace(now, answered=True), judged  # nobody is called a second time

    @property
    def names(self) -> tuple[str, ...]:
        """The pool."""
        return tuple(candidate.name for candidate in self.router.candidates)

    # -- looking -----------------------------------------------------------------------------------------------------

    def screen(self) -> Screen:
        """Return what is to be seen now."""
        with self._lock:
            alerts = tuple(Alert(**alert) for alert in self.router.stats()["alerts"])
            return Screen(
                choice=self._choice(),
                learned=self._learned(),
                shares=self._tally.shares(self.names),
                savings=self._tally.savings(),
                dearest=self._dearest,
                alerts=alerts,
                receipt=self._receipt,
                progress=self._progress,
                message=self._message,
                judges=None if self._judged is None else self._judged.candidate,
                graded=self._gradable() is not None,
            )

    def curve(self) -> Curve | None:
        """Return the cost-quality curve as the router stands now."""
        decision = None if self._asked is None else self._asked.decision
        return measure(self.router, self.stage.held_out, decision)

    def _choice(self) -> Choice | None:
        asked = self._asked
        if asked is None:
            return None
        explanation = self.router.explain(asked.decision.decision_id)
        decision = asked.decision
        outcomes = {} if asked.sample is None else asked.sample.outcomes
        on_quality, _ = trade_weights(decision.willingness_to_pay)
        waits = {one.name: one for one in self.router.candidates}
        rows = [
            CandidateRow(
                name=name,
                chosen=name == decision.candidate,
                eligible=score.eligible,
                quality=score.quality,
                cost_usd=score.cost_usd,
                waiting_s=self._waiting_s(waits[name], score),
                score=score.total,
                recorded=outcomes.get(name),
                parts=_parts(explanation.parts(name), on_quality * score.quality),
                reason=score.reason,
            )
            for name, score in decision.scores.items()
        ]
        return Choice(
            candidate=decision.candidate,
            explored=decision.explored,
            budget=asked.budget,
            willingness_to_pay=decision.willingness_to_pay,
            sample=asked.sample is not None,
            rows=tuple(sorted(rows, key=lambda row: (not row.eligible, -row.score, row.name))),
            counterfactual=explanation.counterfactual,
        )

    def _waiting_s(self, candidate: Candidate, score: Score) -> float:
        """Return the time until the whole answer: T = w + start-up + length / speed, as the late penalty has it."""
        prior = self.router.config.waiting
        startup_s = prior.startup_s if candidate.startup_s is None else candidate.startup_s
        return score.waiting_s + startup_s + score.response_tokens / (candidate.tokens_per_s or prior.tokens_per_s)

    def _learned(self) -> tuple[LearnedRow, ...]:
        asked = self._asked
        before = {} if asked is None else {name: score.quality for name, score in asked.decision.scores.items()}
        rows = self._rows(self.router, before)
        if self._local is not None:
            rows += self._rows(self._local, {})
        return tuple(rows)

    def _rows(self, router: Router, before: Mapping[str, float]) -> list[LearnedRow]:
        text = None if self._asked is None else self._asked.query.text
        expected: dict[str, float] = {}
        if text is not None:
            made = router.predict([text])
            expected = dict(zip(made.candidates, made.quality[0].tolist(), strict=True))
        rows = []
        for name, labels, mean in self._labels(router):
            known = mean is not None and labels > 0.0
            low, high = interval(min(max(mean or 0.0, 0.0), 1.0), labels) if known else (None, None)
            started = self._known.get(name)
            rows.append(
                LearnedRow(
                    name=name,
                    labels=labels,
                    mean=mean if known else None,
                    low=low,
                    high=high,
                    moved=0.0 if mean is None or started is None else mean - started,
                    expected=expected.get(name),
                    expected_before=before.get(name),
                )
            )
        return rows

    @staticmethod
    def _labels(router: Router) -> list[tuple[str, float, float | None]]:
        """Return name, number of labels and their mean of every LLM."""
        told = router.stats()["candidates"]
        return [(name, float(one["labels"]), one["mean_reward"]) for name, one in told.items()]


def _parts(parts: Mapping[str, float], worth: float) -> dict[str, float]:
    """Return the parts of a score with the trade taken apart: what the quality is worth, and what the cost takes."""
    rest = {name: part for name, part in parts.items() if name != "trade"}
    return {"quality": worth, "cost": parts["trade"] - worth, **rest}


def _word(budget: str) -> BudgetWord:
    word = budget.lower().replace(" ", "_")
    if word not in BUDGET_WORDS:
        raise ConfigError(f"unknown budget {budget!r}; allowed: {', '.join(BUDGET_WORDS)}")
    return word


def _told(receipt: FeedbackReceipt, what: str) -> str:
    whom = receipt.candidate if receipt.candidate != NAME else f"{NAME}, and of nobody else"
    return f"{receipt.status}: {what} for {whom} ({_WORDS.get(receipt.status, receipt.status)})"
