"""The learned state in use: predictors for the pool, and the fold that brings in what the log says.

    state = offline fit + sum over the log

Folding a row is an addition, so the state does not depend on the order in which rows arrive, on who wrote them, or on
whether they are read one by one or after a restart. What does depend on the order of the log, which is the same for all
workers: what is forgotten where a drift alert begins, and, off unless the settings say otherwise, the paper's f_df,
geometric forgetting, and neural heads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from mixllm_engine.candidates import Pool
from mixllm_engine.config import RouterConfig
from mixllm_engine.encoding.features import FeatureMap
from mixllm_engine.learning.drift import DriftTests
from mixllm_engine.learning.feedback_network import FeedbackNetwork
from mixllm_engine.learning.onboarding import Labelled, Onboarding, Prior
from mixllm_engine.learning.state import Learned, Typical
from mixllm_engine.prediction.heads import HeadStatistics
from mixllm_engine.prediction.neural import make_predictor
from mixllm_engine.store.base import FeedbackRow, OutcomeRow, Store
from mixllm_engine.types import Vector

_BATCH: Final = 1000
# Contexts that are kept: a decision's outcome and its feedback mostly come soon after each other.
_LATEST: Final = 1000
# An online label is never worth less than this share of a table's.
_LEAST_WEIGHT: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class News:
    """Rows of the log that were not folded in yet, and the names of the two parts of the log."""

    log: tuple[str, str]
    feedback: Sequence[FeedbackRow]
    outcomes: Sequence[OutcomeRow]

    @property
    def more(self) -> bool:
        """Whether there may be further rows."""
        return max(len(self.feedback), len(self.outcomes)) == _BATCH


class Learner:
    """Predictors that follow a log. Not thread-safe: the router holds its lock.

    Parameters
    ----------
    pool : Pool
        The candidates.
    features : FeatureMap
        phi.
    encoder : str
        Fingerprint; rows of another encoder are passed over.
    config : RouterConfig
        Settings of the predictors.
    learned : Learned, optional
        What to start from.
    """

    def __init__(
        self, pool: Pool, features: FeatureMap, encoder: str, config: RouterConfig, learned: Learned | None = None
    ) -> None:
        self.features = features
        self.encoder = encoder
        self.config = config
        self.pool = pool
        self._contexts: OrderedDict[str, Vector] = OrderedDict()  # of the latest decisions, by id
        self._starts = 0
        self.based_on = 0  # number of the stored state with which it began
        self.start(learned or Learned())

    def start(self, learned: Learned) -> None:
        """Forget everything and begin with `learned`."""
        self.typical: Typical = learned.typical
        self.curve = learned.curve
        self.position = dict(learned.position)
        self._starts += 1
        self._folded = 0
        self.reference_cost_usd = self._price()
        self.predictor = make_predictor(self.pool, self.features.dimension, self.config.prediction)
        self.predictor.restore(learned.neural)
        # Sums of candidates that are not in the pool: they count again when the candidate comes back.
        self._away: dict[str, tuple[HeadStatistics, HeadStatistics]] = {}
        empty = HeadStatistics.empty(self.features.dimension)
        self.onboarded: dict[str, Onboarding] = dict(learned.onboarded)
        self._taught = dict(learned.taught)
        self.dropped = dict(learned.dropped)
        for name in {*learned.quality, *learned.length, *learned.onboarded}:
            self._expect(name)
            self._add(name, learned.quality.get(name, empty), learned.length.get(name, empty))
        self._start_online(learned)

    def _start_online(self, learned: Learned) -> None:
        """Begin what follows the order of the log."""
        config = self.config.learning
        self.network: FeedbackNetwork | None = None
        if config.binary != "labels":
            fresh = FeedbackNetwork(self.features.dimension, rate=config.feedback_rate)
            stored = learned.network
            self.network = FeedbackNetwork.restore(stored, rate=config.feedback_rate) if stored else fresh
            self.network.attach(self.pool.names)
        self.drift = None if config.drift_threshold is None else DriftTests(config.drift_threshold, learned.drift)

    def learned(self) -> Learned:
        """Return all that was learned, to store it."""
        sums = dict(self._away)
        for name, position in self.pool.index.items():
            sums[name] = (self.predictor.quality.statistics(position), self.predictor.length.statistics(position))
        return Learned(
            quality={name: quality for name, (quality, _) in sums.items()},
            length={name: length for name, (_, length) in sums.items()},
            taught=dict(self._taught),
            onboarded=dict(self.onboarded),
            neural=self.predictor.networks(),
            typical=self.typical,
            curve=self.curve,
            network=self.network.state() if self.network else None,
            drift=self.drift.state() if self.drift else {},
            dropped=dict(self.dropped),
            position=dict(self.position),
        )

    # -- the pool ----------------------------------------------------------------------------------------------------

    def change_pool(self, pool: Pool) -> None:
        """Follow a changed pool; the numbers of the candidates that stay are kept bit by bit."""
        older, self.pool = self.predictor, pool
        for name, position in older.pool.index.items():
            if name not in pool.index:
                self._away[name] = (older.quality.statistics(position), older.length.statistics(position))
        self.predictor = make_predictor(pool, self.features.dimension, self.config.prediction)
        self.predictor.adopt(older)
        for name in pool.index.keys() - older.pool.index.keys():
            self._expect(name)
            if name in self._away:
                self._add(name, *self._away.pop(name))
        if self.network:
            self.network.attach(pool.names)
        self.reference_cost_usd = self._price()

    def onboard(self, name: str, like: str | None, labelled: Labelled | None) -> bool:
        """Give a new candidate of the pool something to start with, in place of what it was given before.

        Parameters
        ----------
        name : str
            The candidate.
        like : str, optional
            Expect of it what is expected of this one, instead of what its price suggests.
        labelled : Labelled, optional
            Sums over labelled prompts.

        Returns
        -------
        bool
            Whether the labels are others than it was given before.
        """
        before = self.onboarded.get(name, Onboarding())
        prior = None
        if like is not None:
            sibling = self.pool.index[like]
            prior = Prior(
                quality=self.predictor.quality.weights[sibling].copy(),
                length=self.predictor.length.weights[sibling].copy(),
            )
            self.predictor.imitate(self.pool.index[name], sibling)
        elif before.prior is None and not self.predictor.quality.count[self.pool.index[name]]:
            prior = self._typical_prior(self.pool.index[name])
            self._expect_of(name, prior)
        given = Onboarding(prior=prior, labelled=labelled)
        changes = given.changes(before)
        for quality, length in changes:
            self._add(name, quality, length)
        self.onboarded[name] = before.updated(given)
        if given.response_tokens is not None:
            lengths = {**self.typical.response_tokens, name: given.response_tokens}
            self.typical = replace(self.typical, response_tokens=lengths)
            self.reference_cost_usd = self._price()
        return bool(changes)

    def _expect(self, name: str) -> None:
        """Give a candidate of the pool the prior that it was given when it joined, if it was given one."""
        given = self.onboarded.get(name, Onboarding())
        if given.prior and name in self.pool.index:
            self._expect_of(name, given.prior)

    def _expect_of(self, name: str, prior: Prior) -> None:
        self.predictor.quality.set_prior(self.pool.index[name], prior.quality)
        self.predictor.length.set_prior(self.pool.index[name], prior.length)

    def _typical_prior(self, newcomer: int) -> Prior:
        """Expect of an unknown candidate the level that its price suggests, and the pool's shape around it."""
        quality, length = self.predictor.quality, self.predictor.length
        return Prior(quality=quality.typical_prior(newcomer), length=length.typical_prior(newcomer))

    # -- what it tells -----------------------------------------------------------------------------------------------

    def feedback_score(self, context: Vector) -> Vector | None:
        """Return kappa s_df of every candidate for a context, or ``None`` where f_df is off."""
        return self.network.feedback(context) if self.network else None

    def labels(self) -> list[tuple[float, float | None]]:
        """Return number and mean of the labels of each candidate, from tables and from feedback."""
        labels = self.predictor.quality.labels()
        if self.network is None or self.config.learning.binary == "both":  # else the heads never saw the feedback
            return labels
        counts = [
            (count + n, count * (mean or 0.0) + total)
            for (count, mean), (n, total) in zip(labels, self.network.labels(), strict=True)
        ]
        return [(count, total / count if count else None) for count, total in counts]

    def label_weights(self) -> list[float]:
        """Return what the labels of each candidate weigh together: less than they are where some have faded."""
        weights = [self.predictor.quality.weight(position) for position in range(len(self.pool))]
        if self.network is None or self.config.learning.binary == "both":  # as in `labels`
            return weights
        return [weight + n for weight, (n, _) in zip(weights, self.network.labels(), strict=True)]

    def alerts(self) -> list[dict[str, Any]]:
        """Return the candidates of the pool whose quality has shifted; empty where the tests are off."""
        return self.drift.alerts(self.pool.names) if self.drift else []

    @property
    def version(self) -> str:
        """Name the state that decides, for the log: how often it was started, and how many rows it has folded in."""
        return f"{self._starts}.{self._folded}"

    def _price(self) -> float:
        """Return what a typical call to the dearest candidate costs: the unit of costs in the score."""
        lengths = np.array([self.typical.response(name) for name in self.pool.names])
        costs = self.typical.prompt_tokens * self.pool.input_price + lengths * self.pool.output_price
        return float(costs.max()) or 1.0  # where all is free, costs are 0 in any unit

    def follows(self, older: Learner) -> None:
        """Take the place of another one: its pool, which may have changed meanwhile, and the count of its versions."""
        self._starts += older._starts
        if self.pool is not older.pool:
            self.change_pool(older.pool)

    # -- the fold ----------------------------------------------------------------------------------------------------

    def news(self, store: Store) -> News:
        """Read what the log holds behind the last position; changes nothing."""
        feedback, outcomes = f"{store.identity}/feedback", f"{store.identity}/outcomes"
        return News(
            log=(feedback, outcomes),
            feedback=store.feedback_after(self.position.get(feedback, 0), _BATCH),
            outcomes=store.outcomes_after(self.position.get(outcomes, 0), _BATCH),
        )

    def fold(self, news: News) -> int:
        """Learn what was read; returns the number of rows."""
        self._fold_feedback(news.feedback)
        self._fold_outcomes(news.outcomes)
        feedback, outcomes = news.log
        if news.feedback:
            self.position[feedback] = news.feedback[-1].sequence
        if news.outcomes:
            self.position[outcomes] = news.outcomes[-1].sequence
        self._folded += len(news.feedback) + len(news.outcomes)
        return len(news.feedback) + len(news.outcomes)

    def without(self, feedback: Sequence[FeedbackRow], outcomes: Sequence[OutcomeRow], identity: str) -> Learned | None:
        """Return all that was learned, for a log in which some rows are no more; ``None`` if they are not folded in."""
        last = (self.position.get(f"{identity}/feedback", 0), self.position.get(f"{identity}/outcomes", 0))
        if any(row.sequence > last[0] for row in feedback) or any(row.sequence > last[1] for row in outcomes):
            return None
        empty = HeadStatistics.empty(self.features.dimension)
        dropped = dict(self.dropped)
        for row in feedback:
            quality, length = dropped.get(row.candidate, (empty, empty))
            context = self._context(row)
            quality = quality + HeadStatistics.one(context, *row.after)
            if row.before is not None:
                quality = quality + -HeadStatistics.one(context, *row.before)
            dropped[row.candidate] = (quality, length)
        for answer in outcomes:
            name, tokens = answer.outcome.candidate, answer.outcome.response_tokens
            if answer.outcome.error is None and tokens:
                quality, length = dropped.get(name, (empty, empty))
                one = HeadStatistics.one(self._context(answer), float(np.log(tokens)))
                dropped[name] = (quality, length + one)
        return replace(self.learned(), dropped=dropped)

    def recall(self, dropped: Mapping[str, tuple[HeadStatistics, HeadStatistics]]) -> None:
        """Add what rows taught that the log no longer holds, each label as an online one weighs now."""
        empty = HeadStatistics.empty(self.features.dimension)
        for name, (quality, length) in dropped.items():
            before = self.dropped.get(name, (empty, empty))
            self.dropped[name] = (before[0] + quality, before[1] + length)
            if self.config.learning.binary != "policy_gradient":  # else the heads learn nothing online
                self._add(name, quality.weighted(self._trust(name)), length)
            else:
                self._add(name, empty, length)

    def _fold_feedback(self, rows: Sequence[FeedbackRow]) -> None:
        for row in rows:
            if row.encoder != self.encoder:
                continue
            context = self._context(row)
            self._watch(row, context)
            if self.network:
                self.network.learn(context, row.candidate, row.ranking, after=row.after, before=row.before)
            if self.config.learning.binary != "policy_gradient":
                self._fold_label(row, context)

    def _fold_label(self, row: FeedbackRow, context: Vector) -> None:
        """Teach the quality head; with forgetting, a label that only changes does so at full weight."""
        keep = self.config.learning.forgetting if row.before is None else 1.0
        self._forget_tables(row.candidate, keep)
        trust = self._trust(row.candidate)
        self.predictor.step_quality(row.candidate, context, row.after, row.before)
        position = self.pool.index.get(row.candidate)
        if position is None:
            after, before = HeadStatistics.one(context, *row.after), HeadStatistics.empty(len(context))
            if row.before is not None:
                before = HeadStatistics.one(context, *row.before)
            if row.candidate in self._away:
                quality, length = self._away[row.candidate]
                self._away[row.candidate] = (quality.weighted(keep), length)
            self._add(row.candidate, (after + -before).weighted(trust), HeadStatistics.empty(len(context)))
            return
        value, weight = row.after
        if row.before is None:
            self.predictor.quality.update(position, context, value, weight=trust * weight, keep=keep)
        else:
            self.predictor.quality.relabel(
                position, context, row.before.value, value, weight=trust * row.before.weight, new_weight=trust * weight
            )

    def _trust(self, name: str) -> float:
        """Return what an online label of a candidate weighs beside those that a table taught."""
        trust = self.config.learning.table_trust
        return 1.0 if trust is None else max(_LEAST_WEIGHT, 1.0 / (1.0 + self._taught.get(name, 0.0) / trust))

    def _forget_tables(self, name: str, keep: float) -> None:
        """Remember what forgetting leaves of what tables taught, so that it can be weighed, and replaced."""
        if keep < 1.0:
            self._taught[name] = keep * self._taught.get(name, 0.0)
            if name in self.onboarded:
                self.onboarded[name] = self.onboarded[name].faded(keep)

    def _watch(self, row: FeedbackRow, context: Vector) -> None:
        """Test a new label against what was predicted before it is learned; where an alert begins, forget."""
        position = self.pool.index.get(row.candidate)
        if self.drift is not None and row.before is None and position is not None:
            heads = self.predictor.quality
            expected = min(max(float(context.dot(heads.weights[position])), 0.0), 1.0)
            residual = row.after.weight * (row.after.value - expected)
            begins = self.drift.add(row.candidate, residual, heads.novelty(position, context))
            if begins and self.config.learning.binary != "policy_gradient":  # else the heads learn nothing online
                memory = self.config.learning.drift_memory
                self._forget_tables(row.candidate, memory / max(heads.weight(position), memory))
                self.predictor.fade_quality(position, memory)

    def _fold_outcomes(self, rows: Sequence[OutcomeRow]) -> None:
        for row in rows:
            tokens = row.outcome.response_tokens
            if row.encoder != self.encoder or row.outcome.error is not None or not tokens:
                continue
            context = self._context(row)
            self.predictor.step_length(row.outcome.candidate, context, tokens)
            if row.outcome.candidate in self.pool.index:
                self.predictor.learn_length(self.pool.index[row.outcome.candidate], context, tokens)
            else:
                length = HeadStatistics.one(context, float(np.log(tokens)))
                self._add(row.outcome.candidate, HeadStatistics.empty(len(context)), length)

    def _context(self, row: FeedbackRow | OutcomeRow) -> Vector:
        """Return phi of a decision's embedding as it was stored, which never changes."""
        context = self._contexts.get(row.decision_id)
        if context is None:
            context = self._contexts[row.decision_id] = self.features(row.embedding.astype(np.float64))
            if len(self._contexts) > _LATEST:
                self._contexts.popitem(last=False)
        return context

    def _add(self, name: str, quality: HeadStatistics, length: HeadStatistics) -> None:
        if name in self.pool.index:
            self.predictor.add(self.pool.index[name], quality, length)
            return
        empty = HeadStatistics.empty(self.features.dimension)
        before = self._away.get(name, (empty, empty))
        self._away[name] = (before[0] + quality, before[1] + length)
