"""The facade: it wires the parts together and owns no mathematics.

A query walks through it like this::

    text -> encoding -> context -> prediction -> decision -> (the caller calls the LLM) -> outcome -> feedback
                                       ^                                                       |
                                       +--------------- learning: a fold over the log ---------+
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, Self

import numpy as np

from mixllm_engine import observing
from mixllm_engine.candidates import Pool, resolve
from mixllm_engine.config import RouterConfig
from mixllm_engine.crediting import Credited, check_id
from mixllm_engine.decision.budget import Budget
from mixllm_engine.decision.maker import DecisionMaker, Request
from mixllm_engine.encoding.context import ContextMaker
from mixllm_engine.encoding.encoder import Encoder, OnnxEncoder
from mixllm_engine.errors import MixLLMError
from mixllm_engine.explanation import Explanation
from mixllm_engine.following import Follower
from mixllm_engine.learning.learner import Learner
from mixllm_engine.learning.offline import FitReport, fit
from mixllm_engine.learning.table import read_labels, read_table
from mixllm_engine.prediction.cost import priced
from mixllm_engine.prediction.predictor import Predictions
from mixllm_engine.retention import Retention, record
from mixllm_engine.saving import begin, pack, relearn, resume, unpack, welcome
from mixllm_engine.store import open_store, snapshot
from mixllm_engine.store.base import Store
from mixllm_engine.summary import summary
from mixllm_engine.tracking import note_decision
from mixllm_engine.types import Candidate, Decision, Outcome, Query
from mixllm_engine.waiting.calls import Calls
from mixllm_engine.workers import Workers


class Router(Credited):
    """Choose, for every query, the LLM that suits it best, and learn from what comes back.

    Parameters
    ----------
    candidates : iterable of str or Candidate
        LiteLLM model names, or candidates with prices and parameters of their own.
    config : RouterConfig, optional
        Settings; `RouterConfig.default` where not given.
    store : None, path, URL or Store
        Where decisions and feedback are kept: in memory, in a SQLite file, in PostgreSQL (``postgresql+psycopg://``).
    encoder : Encoder, optional
        What turns text into vectors; the packaged MiniLM where not given.
    seed : int, optional
        Makes exploring draws repeatable.
    clock : callable, optional
        Seconds since the epoch; for tests.
    """

    def __init__(
        self,
        candidates: Iterable[str | Candidate],
        *,
        config: RouterConfig | None = None,
        store: str | PathLike[str] | Store | None = None,
        encoder: Encoder | None = None,
        seed: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config = RouterConfig.given(config)
        self._pool = Pool(candidates)
        self._store = open_store(store, config.storage)
        self._contexts = ContextMaker(encoder or OnnxEncoder(), config.features)
        self._maker = DecisionMaker(self._pool, config, np.random.default_rng(seed))
        self._clock = clock
        self._lock = threading.RLock()
        self._maker.draws = dict(self._store.exploring_draws())
        self._calls = Calls(self._maker.load, self._maker.cooldowns)
        self._workers = Workers(self._store, self._maker, self._lock, config.sync_interval_s, clock)
        self._retention = Retention(self._store, config.storage, clock)
        chores = (self._workers.exchange, lambda: self._retention.look(self._follower))
        forked = (self._maker.forked, self._calls.forked, self._workers.begin)
        self._follower: Follower = Follower(
            self._store, self._begin, self._lock, config.sync_interval_s, chores, forked, self._maker.gate
        )
        observing.watch(self)

    def _begin(self) -> Learner:
        return begin(self._pool, self._contexts, self.config, self._store)

    # -- choosing ----------------------------------------------------------------------------------------------------

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The pool, with prices and abilities filled in."""
        return self._pool.candidates

    def decide(
        self,
        query: str | Query,
        *,
        budget: Budget | None = None,
        willingness_to_pay: float | None = None,
        max_wait_s: float | None = None,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] = (),
        force: str | None = None,
        session: str | None = None,
    ) -> Decision:
        """Choose a candidate; no LLM is called.

        Parameters
        ----------
        query : str or Query
            What is asked.
        budget : str or float, optional
            ``"very_low"`` to ``"very_high"``, or dollars per query on average.
        willingness_to_pay : float, optional
            lambda itself, instead of a budget.
        max_wait_s : float, optional
            tau: an answer that is later than this is worth nothing.
        allow, deny : sequence of str, optional
            Names or wildcards of the candidates that may, or may not, be chosen.
        force : str, optional
            Take this candidate, whatever its score and whatever excludes it.
        session : str, optional
            The conversation that the query belongs to.

        Raises
        ------
        QueryError
            If there is nothing to route.
        ConfigError
            If a budget, lambda, wait or pattern is not allowed.
        UnknownCandidateError
            If `force` is not in the pool.
        NoEligibleCandidateError
            If every candidate is excluded; `ContextWindowError` if that is because of the prompt's length.
        """
        request = Request(budget, willingness_to_pay, max_wait_s, allow, deny, force, session)
        context = self._contexts.make(query)
        now = self._clock()
        self._follower.look(now)
        with self._lock:
            learner = self._learner
            self._maker.budgets.curve = learner.curve
            decision = self._maker.decide(
                context,
                request,
                predictor=learner.predictor,
                reference_cost_usd=learner.reference_cost_usd,
                now=now,
                feedback=learner.feedback_score(context.features),
            )
            kept = record(decision, context, learner, query, self.config.storage)
        self._store.add_decision(kept)
        observing.decided(decision)
        note_decision(decision, self)
        return decision

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Return what is expected of every candidate for a list of texts, or raise `QueryError`; nothing is logged."""
        contexts, prompt_tokens = self._contexts.many(texts)
        self._follower.refresh()
        with self._lock:
            return self._learner.predictor.describe(contexts, prompt_tokens, self.config.decision.uncertainty)

    # -- what comes back ---------------------------------------------------------------------------------------------

    def dispatched(self, decision_id: str, candidate: str) -> None:
        """Say that a call begins, so that waiting times count it; `observe` ends it."""
        with self._lock:
            self._calls.began(decision_id, candidate)

    def abandoned(self, decision_id: str, candidate: str) -> None:
        """Say that a call ended without any outcome."""
        with self._lock:
            self._calls.ended(decision_id, candidate)

    def observe(self, decision_id: str, outcome: Outcome) -> None:
        """Record what a call brought: length, cost and speed are learned, failures pause the candidate.

        Raises
        ------
        UnknownDecisionError
            If the store holds no such decision.
        UnknownCandidateError
            If the outcome names a candidate that is neither in the pool nor was when it was decided.
        """
        self.abandoned(check_id(decision_id), outcome.candidate)
        now = self._clock()
        known = priced(outcome, self._pool, lambda: self._store.decision(decision_id).decision.scores)
        self._store.add_outcome(decision_id, known, now)
        observing.attempted(decision_id, known, self._pool)
        with self._lock:
            self._calls.brought(outcome, now)
            if outcome.error is None:
                self._maker.sessions.answered(decision_id, outcome.candidate)
        self._follower.try_to_bring_in()

    # -- learning ----------------------------------------------------------------------------------------------------

    @property
    def _learner(self) -> Learner:
        """The learned state."""
        return self._follower.learner

    def sync(self) -> int:
        """Bring in what the store holds by now, whoever wrote it, or raise `StoreError`; returns the number of rows.

        It happens by itself every `RouterConfig.sync_interval_s`, and after each feedback of this router's.
        """
        return self._follower.keep_up()

    def fit(self, table: Any, *, text: str = "prompt", progress: bool = True) -> FitReport:
        """Learn offline from a table of outcomes; feedback that came before is kept and counted on top.

        Parameters
        ----------
        table : data frame, Arrow table, mapping of columns, or path of a parquet or CSV file
            Wide (``"<candidate>|quality"``, ``"|cost_usd"``, ``"|prompt_tokens"``, ``"|response_tokens"``) or long
            (columns ``candidate``, ``quality``, ``cost_usd``, ...). It replaces what an earlier fit taught.
        text : str
            Column with the queries.
        progress : bool
            Show a progress bar while queries are encoded and networks trained.

        Raises
        ------
        TableError
            If the table can't be learned from.
        """
        outcomes = read_table(table, text=text, known=self._pool.names)
        chunks = self._contexts.stream(outcomes.texts, progress=progress)
        lesson = fit(outcomes, chunks, self._pool, self.config.prediction, progress)
        with self._follower.turn:
            with self._lock:
                report = relearn(self._learner, lesson, self._store, self._clock())
            self.sync()
        return report

    def prune(self) -> int:
        """Drop what `RouterConfig.storage` says, as happens every few minutes by itself; what was learned stays.

        Returns the number of decisions.
        """
        self._follower.keep_up()
        return self._retention.prune(self._follower)

    # -- the set of candidates ---------------------------------------------------------------------------------------

    def add_candidate(
        self, candidate: str | Candidate, *, like: str | None = None, labelled: Any = None, text: str = "prompt"
    ) -> None:
        """Add a candidate while serving; nobody else's numbers change.

        What `like` and `labelled` tell is stored as a fit is. Given again when the candidate joins again, they replace
        what was given before: a program may add its candidates whenever it starts.

        Parameters
        ----------
        candidate : str or Candidate
            The new one. It gets a bounded number of exploring draws, and none once it has as many labels.
        like : str, optional
            Expect of it what is known of this candidate, rather than what its price suggests.
        labelled : table, optional
            Prompts with the quality of its answers: a table as `fit` takes it, whose other candidates don't count, or
            one with the columns ``quality`` and, if known, ``cost_usd`` or ``response_tokens`` alone. A later `fit`
            replaces what it taught if this candidate is in its table, else keeps it.
        text : str
            Column of `labelled` with the queries.

        Raises
        ------
        CandidateError, UnknownCandidateError
            If the candidate can't be resolved, its name is taken, or `like` is not in the pool.
        TableError
            If the labels can't be learned from; the candidate has not joined then.
        """
        added, lesson = resolve(candidate), None
        self._pool.joined(added, like)  # what is wrong is said before anything is encoded
        if labelled is not None:
            labels = read_labels(labelled, text=text, name=added.name)
            lesson = fit(labels, self._contexts.stream(labels.texts), Pool([added]), None)
        with self._follower.turn, self._lock:
            self._change_pool(self._pool.joined(added, like))
            welcome(self._learner, added.name, like, lesson, self._store, self._clock())

    def remove_candidate(self, name: str) -> None:
        """Remove a candidate; what was learned of it counts again if it comes back."""
        with self._lock:
            self._change_pool(self._pool.without(name))

    def _change_pool(self, pool: Pool) -> None:
        self._maker.change_pool(pool)  # it may refuse
        self._learner.change_pool(pool)
        self._pool = pool

    # -- looking inside ----------------------------------------------------------------------------------------------

    def explain(self, decision_id: str) -> Explanation:
        """Say why a candidate was chosen, or raise `UnknownDecisionError`."""
        return Explanation(
            record=self._store.decision(check_id(decision_id)), outcomes=tuple(self._store.outcomes(decision_id))
        )

    def stats(self) -> dict[str, Any]:
        """Count what was decided, observed and learned, in all and by candidate; brings in the log first.

        ``feedback_applied`` is in the learned numbers; ``feedback_pending`` is kept but not in them, because another
        encoder made the vectors of its decisions. ``alerts`` are candidates whose quality has shifted.
        """
        self._follower.try_to_catch_up()
        return summary(self._store, self._learner, self._maker, self._lock)

    # -- keeping -----------------------------------------------------------------------------------------------------

    def save(self, folder: str | PathLike[str]) -> None:
        """Write settings, pool and all that was learned to a folder; keys are never written.

        A state that is there already is replaced at once. Several processes may save to one folder: the last one wins.

        Raises
        ------
        StateError
            If it can't be written, or would not load again; the one that is there stays.
        """
        self._follower.refresh()
        with self._lock:
            data = pack(self._learner)
        snapshot.write(folder, data)

    @classmethod
    def load(
        cls,
        folder: str | PathLike[str],
        *,
        candidates: Iterable[str | Candidate] | None = None,
        store: str | PathLike[str] | Store | None = None,
        encoder: Encoder | None = None,
        seed: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Make a router from a saved folder.

        Parameters
        ----------
        folder : path
            Written by `save`.
        candidates : iterable, optional
            The pool, if it is another one than was saved or if candidates need keys of their own.
        store, encoder, seed, clock
            As for `Router`. With the store that the saved router followed, only newer rows are read; if some of
            these were dropped meanwhile, what the store keeps counts instead.

        Raises
        ------
        StateError
            If the folder holds no state, or a damaged or foreign one, or one of another encoder or of quite other
            candidates than those that are given.
        """
        saved = unpack(snapshot.read(folder))
        pool = saved.candidates if candidates is None else candidates
        router = cls(pool, config=saved.config, store=store, encoder=encoder, seed=seed, clock=clock)
        try:
            resume(saved, router._learner, router._store)
            saved.check_pool(router._pool)
        except MixLLMError:
            if router._store is not store:  # it was opened here
                router.close()
            raise
        return router

    def close(self) -> None:
        """Write what waits, and let go of the store."""
        observing.unwatch(self)
        self._follower.stop()
        self._workers.leave()
        self._store.close()

    def __enter__(self) -> Self:
        """Use the router as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Name the candidates; never keys or addresses."""
        return f"Router(candidates={list(self._pool.names)!r})"
