"""Workers that share a log do anything in any order, and crash: beside them runs a model of what they must know.

The environment may ask for more runs: MIXLLM_TEST_RULES=1000.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, multiple, precondition, rule

from mixllm_engine import Outcome, Query, Router, UnknownCandidateError, UnknownDecisionError
from mixllm_engine.crediting import Credit
from mixllm_engine.store import journal
from mixllm_engine.store.base import Store
from mixllm_engine.store.memory import MemoryStore
from mixllm_engine.types import ErrorKind, Label
from tests.engine.rule_model import Decided, Taught
from tests.engine.rule_workers import EVERYBODY, Workers, assert_same, banks, learned

EXAMPLES = int(os.environ.get("MIXLLM_TEST_RULES", "20"))
STEPS = 30
WORKERS = 3
Attempt = tuple[str | None, ErrorKind | None, int | None]  # by whom (None: by who was chosen), error, tokens
Judgement = tuple[int, str, Label]  # through which worker, by whom, what
TEXTS = ("add two numbers", "write a poem", "write a long poem about numbers", "translate this", "who was the first")
NOBODY = "0" * 32

worker_numbers = st.integers(0, WORKERS - 1)
names = st.sampled_from(sorted(EVERYBODY))
pools = st.sets(names, min_size=2)
texts = st.sampled_from(TEXTS)
keys = st.sampled_from(["user", "judge"])
shares = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1)
labels = st.builds(Label, shares, st.sampled_from([0.1, 0.5, 1.0]) | st.floats(0.01, 1.0))
runs = st.sampled_from(["run-1", "run-2", "run-3"])
errors = st.sampled_from([None, None, "rate_limit", "timeout", "cancelled", "broken_stream"])
attempts = st.tuples(st.none() | names, errors, st.none() | st.integers(0, 500))
judgements = st.tuples(worker_numbers, keys, labels)
budgets = st.sampled_from([{}, {"budget": "very_low"}, {"budget": 0.001}, {"willingness_to_pay": math.inf}])
rows = st.builds(Taught, text=texts, quality=shares, response_tokens=st.integers(1, 500).map(float))


class SharedLog(Workers):
    """Workers on one SQLite file."""

    decisions = Bundle("decisions")
    folders = Bundle("folders")

    @initialize(pool=pools)
    def begin(self, pool: set[str]) -> None:
        self.place = self.new_place()
        self.workers = [self.opened(pool) for _ in range(WORKERS)]

    # -- decisions, and what comes back ------------------------------------------------------------------------------

    @rule(
        target=decisions,
        number=worker_numbers,
        text=texts,
        budget=budgets,
        session=st.sampled_from([None, "one", "two"]),
        in_tool_loop=st.booleans(),
        forced=st.none() | names,
    )
    def decide(
        self,
        number: int,
        text: str,
        budget: dict[str, Any],
        session: str | None,
        in_tool_loop: bool,
        forced: str | None,
    ) -> Any:
        self.clock.advance(1.0)
        worker = self.workers[number]
        query = Query(text=text, in_tool_loop=in_tool_loop)
        if forced is not None and forced not in worker.names:
            with pytest.raises(UnknownCandidateError, match=forced):
                worker.router.decide(query, session=session, force=forced, **budget)
            return multiple()
        decision = worker.router.decide(query, session=session, force=forced, **budget)
        assert decision.decision_id not in self.log.decided
        assert set(decision.scores) == worker.names
        assert len(set(decision.ranking)) == len(decision.ranking) and set(decision.ranking) <= worker.names
        assert decision.candidate == decision.ranking[0]
        assert 0.0 < decision.propensity <= 1.0
        assert all(math.isfinite(score.total) for score in decision.scores.values())
        if forced is not None:
            assert (decision.ranking, decision.propensity) == ((forced,), 1.0)
        elif in_tool_loop:
            kept = worker.sessions.get(session or "")
            assert not decision.explored
            # A candidate that pauses, or is gone, can't be kept.
            assert kept in (None, decision.candidate) or kept not in decision.ranking
        if session is not None:
            worker.sessions[session] = decision.candidate
            worker.latest = {known: of for known, of in worker.latest.items() if of != session}
            worker.latest[decision.decision_id] = session
        self.log.decided[decision.decision_id] = Decided(
            text=text, chosen=decision.candidate, among=frozenset(decision.scores)
        )
        return decision.decision_id

    @rule(
        target=decisions,
        number=worker_numbers,
        text=texts,
        tried=st.lists(attempts, max_size=3),
        said=st.lists(judgements, min_size=1, max_size=5),
    )
    def serve(self, number: int, text: str, tried: list[Attempt], said: list[Judgement]) -> Any:
        """A whole life of a decision, in which several workers judge."""
        decision_id = self.decide(number, text, {}, None, False, None)
        self.observe(number, decision_id, tried)
        self.give_feedback(decision_id, said)
        return decision_id

    @rule(number=worker_numbers, decision_id=decisions, tried=st.lists(attempts, min_size=1, max_size=2))
    def observe(self, number: int, decision_id: str, tried: list[Attempt]) -> None:
        for candidate, error, tokens in tried:
            self.brought(number, decision_id, candidate, error, tokens)

    def brought(
        self, number: int, decision_id: str, candidate: str | None, error: ErrorKind | None, tokens: int | None
    ) -> None:
        worker, decided = self.workers[number], self.log.decided[decision_id]
        candidate = candidate or decided.chosen  # else: after a fallback
        outcome = Outcome(candidate=candidate, response_tokens=tokens, prompt_tokens=5, error=error, latency_s=1.5)
        if candidate not in worker.names | decided.among:
            with pytest.raises(UnknownCandidateError):
                worker.router.observe(decision_id, outcome)
        else:
            worker.router.observe(decision_id, outcome)
            self.log.counts["outcomes"] += 1
            if error is None:
                decided.answers.append((candidate, tokens))
                if decision_id in worker.latest:
                    worker.sessions[worker.latest[decision_id]] = candidate

    @rule(decision_id=decisions, said=st.lists(judgements, min_size=1, max_size=4))
    def give_feedback(self, decision_id: str, said: list[Judgement]) -> None:
        for number, key, label in said:
            self.feedback(number, decision_id, [decision_id], key, label, "last")

    @rule(number=worker_numbers, decision_id=decisions, run=runs)
    def link(self, number: int, decision_id: str, run: str) -> None:
        self.workers[number].router.link(decision_id, run)
        self.log.names[run].add(decision_id)

    @rule(number=worker_numbers, run=runs)
    def speak_of_what_nobody_decided(self, number: int, run: str) -> None:
        router = self.workers[number].router
        self.feedback(number, NOBODY, [], "user", Label(1.0, 1.0), "last")
        with pytest.raises(UnknownDecisionError):
            router.link(NOBODY, run)
        with pytest.raises(UnknownDecisionError):
            router.observe(NOBODY, Outcome(candidate=router.candidates[0].name))

    @rule(
        number=worker_numbers,
        run=runs,
        key=keys,
        label=labels,
        credit=st.sampled_from(["last", "all", "discounted"]),
    )
    def give_feedback_by_name(self, number: int, run: str, key: str, label: Label, credit: Credit) -> None:
        self.feedback(number, run, self.log.led_to(run), key, label, credit)

    def feedback(
        self, number: int, ref: str, decision_ids: Sequence[str], key: str, label: Label, credit: Credit
    ) -> None:
        def give() -> Any:
            return self.workers[number].router.feedback(ref, label.value, key, weight=label.weight, credit=credit)

        if not set(decision_ids) & self.log.decided.keys():
            with pytest.raises(UnknownDecisionError):
                give()
            self.log.counts["unmatched"] += 1
            return
        receipt = give()
        rate = {"last": 0.0, "all": 1.0, "discounted": 0.5}[credit]
        for back, decision_id in enumerate(reversed(decision_ids)):
            share = rate**back
            if share:
                decided = self.log.decided[decision_id]
                status = decided.judge(key, Label(label.value, label.weight * share))
                self.log.counts[status] += 1
                if back == 0:
                    assert (receipt.decision_id, receipt.key, receipt.reward) == (decision_id, key, label.value)
                    assert (receipt.status, receipt.candidate) == (status, decided.credited)

    # -- the set of candidates ---------------------------------------------------------------------------------------

    @rule(number=worker_numbers, name=names, like=st.none() | names)
    def come_or_go(self, number: int, name: str, like: str | None) -> None:
        worker = self.workers[number]
        known = worker.names
        if name not in known:
            with pytest.raises(UnknownCandidateError):
                worker.router.remove_candidate(name)
            with unchanged(worker.router, known):
                worker.router.add_candidate(EVERYBODY[name], like=like if like in known else None)
            if like in known:
                self.log.states += 1
                worker.state += worker.state == self.log.states - 1  # else it has yet to see what others changed
        elif len(known) > 1:
            with unchanged(worker.router, known - {name}):
                worker.router.remove_candidate(name)

    # -- tables, files, crashes --------------------------------------------------------------------------------------

    @rule(number=worker_numbers, taught=st.lists(rows, min_size=1, max_size=4, unique_by=lambda row: row.text))
    def fit(self, number: int, taught: list[Taught]) -> None:
        worker = self.workers[number]
        known = sorted(worker.names)
        # Each candidate has a quality of its own, so that none is taken for another.
        worker.table = {
            name: [
                Taught(text=row.text, quality=row.quality / (1 + place), response_tokens=row.response_tokens + place)
                for row in taught
            ]
            for place, name in enumerate(known)
        }
        columns: dict[str, list[Any]] = {"prompt": [row.text for row in taught]}
        for name, told in worker.table.items():
            columns[f"{name}|quality"] = [row.quality for row in told]
            columns[f"{name}|response_tokens"] = [row.response_tokens for row in told]
        worker.router.fit(columns, progress=False)
        self.log.states += 1
        self.log.table, worker.state = worker.table, self.log.states

    @rule(target=folders, number=worker_numbers, older=st.none() | folders)
    def save(self, number: int, older: Path | None) -> Path:
        worker, folder = self.workers[number], older or self.new_path("state")
        worker.router.save(folder)
        self.synced(worker)
        self.saved[folder] = (worker.table, worker.names)
        return folder

    @rule(number=worker_numbers, folder=folders, crashed=st.booleans())
    def load(self, number: int, folder: Path, crashed: bool) -> None:
        self.end(number, crashed)
        self.workers[number] = self.loaded(folder)

    @rule(number=worker_numbers, pool=pools, crashed=st.booleans())
    def restart(self, number: int, pool: set[str], crashed: bool) -> None:
        self.end(number, crashed)
        self.workers[number] = self.opened(pool)

    @precondition(lambda self: isinstance(getattr(self, "place", None), Path))
    @rule(pool=pools)
    def crash(self, pool: set[str]) -> None:
        """All workers are killed at once: what is in the files at this moment is all there is."""
        before, self.place = self.place, self.new_place()
        assert isinstance(before, Path) and isinstance(self.place, Path)
        for suffix in ("", "-wal"):  # SQLite makes the third file anew
            shutil.copyfile(f"{before}{suffix}", f"{self.place}{suffix}")
        self.left += [worker.router for worker in self.workers]
        self.workers = [self.opened(pool) for _ in range(WORKERS)]

    # -- what must hold ----------------------------------------------------------------------------------------------

    @rule(number=worker_numbers)
    def follow(self, number: int) -> None:
        self.check(self.workers[number])

    @rule()
    def agree(self) -> None:
        """After they have read the log, workers that began with the same table know the same."""
        for worker in self.workers:
            self.sync(worker)
        for one, other in zip(self.workers, self.workers[1:], strict=False):
            if one.table == other.table:
                for mine, theirs in zip(learned(one.router), learned(other.router), strict=True):
                    assert_same(mine, theirs)

    @precondition(lambda self: self.workers)
    @invariant()
    def nothing_is_lost(self) -> None:
        counts, expected = self.workers[0].router._store.counts(), self.log.counts
        assert (counts.decisions, counts.outcomes) == (len(self.log.decided), expected["outcomes"])
        assert counts.feedback == self.log.judged() == expected["applied"]
        assert counts.feedback_log == expected["applied"] + expected["replaced"]
        assert (counts.feedback_duplicate, counts.feedback_unmatched) == (expected["duplicate"], expected["unmatched"])

    def teardown(self) -> None:
        try:
            if self.workers:
                self.save(0, None)
                self.workers += [self.loaded(folder) for folder in self.saved]
                self.workers.append(self.opened(set(EVERYBODY)))
            for worker in self.workers:
                self.check(worker)
        finally:
            for router in (*self.left, *(worker.router for worker in self.workers)):
                router.close()
            shutil.rmtree(self.folder)


class SharedMemory(SharedLog):
    """Routers on one store in memory, which outlives them."""

    def new_place(self) -> Path | Store:
        return MemoryStore()


@contextmanager
def unchanged(router: Router, staying: set[str]) -> Iterator[None]:
    """Check that nobody else's numbers change, not in the last bit."""

    def numbers() -> list[Any]:
        index = router._learner.pool.index
        return [
            getattr(bank, part)[index[name]].copy()
            for name in sorted(staying)
            for bank in banks(router)
            for part in ("weights", "prior_means", "gram", "moment", "count", "inverse")
        ]

    before = numbers()
    yield
    assert all(np.array_equal(one, other) for one, other in zip(before, numbers(), strict=True))


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have calls wait for a disk that is slow for a moment, rather than go on."""
    monkeypatch.setattr(journal, "_PATIENCE_S", 60.0)


SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestSharedLog = SharedLog.TestCase
TestSharedLog.settings = SETTINGS
TestSharedMemory = SharedMemory.TestCase
TestSharedMemory.settings = settings(SETTINGS, max_examples=2 * EXAMPLES)  # a run takes a fifth of the time
