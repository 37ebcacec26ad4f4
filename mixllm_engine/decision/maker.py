"""From one query's context to a decision: predictions, budget, exclusions, session and exploration come together.

What lives for one decision is a named tuple, which is made in half the time of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from os import getpid, urandom
from typing import NamedTuple

import numpy as np

from mixllm_engine.candidates import Pool
from mixllm_engine.config import RouterConfig
from mixllm_engine.decision.advance import to_newcomers
from mixllm_engine.decision.budget import Budget, Budgets, check_budget, check_wait, check_willingness
from mixllm_engine.decision.choice import Choice, chance, choose, first, rank
from mixllm_engine.decision.gate import Gate
from mixllm_engine.decision.leader import Leader
from mixllm_engine.decision.score import Scores, ScoreTable, score
from mixllm_engine.decision.sessions import Sessions, Stay, input_price
from mixllm_engine.decision.thompson import Totals, spread
from mixllm_engine.encoding.context import Context
from mixllm_engine.errors import ConfigError, ContextWindowError, NoEligibleCandidateError
from mixllm_engine.prediction.heads import HeadBank
from mixllm_engine.prediction.predictor import Prediction, Predictor
from mixllm_engine.types import Decision, Vector
from mixllm_engine.waiting.cooldown import Cooldowns
from mixllm_engine.waiting.load import Load


class Request(NamedTuple):
    """What a caller may say about one decision; see `Router.decide`."""

    budget: Budget | None = None
    willingness_to_pay: float | None = None
    max_wait_s: float | None = None
    allow: Sequence[str] | None = None
    deny: Sequence[str] = ()
    force: str | None = None
    session: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Experience:
    """How much is known of the candidates: labels, the fewest of all, what newcomers are given, and who leads.

    It holds for these heads as long as they have learned nothing more.
    """

    heads: HeadBank
    changes: int
    labels: Vector
    fewest: float
    newcomers: Vector | None
    leader: Leader | None

    @classmethod
    def of(cls, predictor: Predictor, config: RouterConfig) -> _Experience:
        heads, labels = predictor.quality, predictor.quality.count.copy()
        return cls(
            heads=heads,
            changes=heads.changes,
            labels=labels,
            fewest=float(labels.min()),
            newcomers=to_newcomers(labels, config.exploration),
            leader=Leader.of(predictor, config.decision.leader_margin),
        )

    def advance(self, prediction: Prediction, excluded: Collection[int]) -> Vector | None:
        """Return what quality is given in advance to newcomers, and to the leader of those who may answer."""
        leader = None if self.leader is None else self.leader.without(excluded)
        if leader is None:
            return self.newcomers
        given = leader.advance(prediction.quality, prediction.leverage)
        return given if self.newcomers is None else given + self.newcomers

    def holds_for(self, heads: HeadBank) -> bool:
        return self.heads is heads and self.changes == heads.changes


class _Standing(NamedTuple):
    """How the candidates stand for one query: what is known of them, what is expected, and what that is worth.

    With Thompson sampling also the standard deviation, shape (K,), of the total that is drawn from.
    """

    experience: _Experience
    prediction: Prediction
    scores: Scores
    deviation: Vector | None

    @property
    def hope(self) -> Vector:
        """How much more each may be worth: two deviations of a reward in [0, 1], whose own is at most 1/2."""
        hope: Vector = self.scores.on_quality * np.sqrt(self.prediction.leverage)
        return hope


class DecisionMaker:
    """Everything that a decision depends on besides the learned state. Not thread-safe: the router holds its lock.

    Parameters
    ----------
    pool : Pool
        The candidates.
    config : RouterConfig
        Settings.
    rng : numpy.random.Generator
        Source of chance.
    """

    def __init__(self, pool: Pool, config: RouterConfig, rng: np.random.Generator) -> None:
        self.pool = pool
        self.config = config
        exploration = config.exploration
        self._scoring = config.decision
        if exploration.mode != "ucb":
            self._scoring = config.decision.model_copy(update={"uncertainty_weight": 0.0})
        self._sampled_widths = exploration.thompson_scale if exploration.mode == "thompson" else None
        self.load = Load(pool, config.waiting)
        self.cooldowns = Cooldowns(config.waiting)
        self.sessions = Sessions()
        self.budgets = Budgets()
        self.draws: dict[str, int] = {}  # exploring draws so far
        self.gate = Gate.of(config.rollout)
        self._baseline = self._position_of_baseline(pool)
        self._rng = rng
        self._experience: _Experience | None = None

    @property
    def explores(self) -> bool:
        """Whether a candidate may still get exploring draws."""
        pulls = self.config.exploration.pulls
        return pulls > 0 if self._experience is None else self._experience.fewest < pulls

    def drawn(self, draws: Mapping[str, int]) -> None:
        """Take note of the exploring draws of all workers; those that were not written yet are only known here."""
        self.draws = {name: max(self.draws.get(name, 0), draws.get(name, 0)) for name in {*self.draws, *draws}}

    def forked(self) -> None:
        """Draw otherwise than the process that this one was forked from, and leave its calls to it."""
        self._rng = np.random.default_rng([int(self._rng.integers(2**32)), getpid()])
        self.load.forked()

    def change_pool(self, pool: Pool) -> None:
        """Follow a changed pool, or raise `UnknownCandidateError` if the baseline of a rollout is not in it."""
        self._baseline = self._position_of_baseline(pool)
        self.pool = pool
        self.load.attach(pool)

    def _position_of_baseline(self, pool: Pool) -> int | None:
        return None if self.gate is None else pool.position(self.gate.config.baseline)

    def decide(
        self,
        context: Context,
        request: Request,
        predictor: Predictor,
        reference_cost_usd: float,
        now: float,
        feedback: Vector | None = None,
    ) -> Decision:
        """Choose a candidate for one query at time `now`; `feedback` is kappa s_df of every candidate."""
        budget, willingness = self._willingness(request, reference_cost_usd)
        if request.session is not None and not isinstance(request.session, str):
            raise ConfigError(f"session={request.session!r} must be a text that names the conversation")
        stay = self.sessions.get(request.session)
        prices = input_price(self.pool, stay, context.prompt_tokens)
        prediction = predictor.predict(context.features, context.prompt_tokens, prices)
        timing = self.load.timing(prediction.response_tokens)
        max_wait_s = self._max_wait_s(request)
        experience = self._known(predictor)
        reasons = self._excluded(context, request, now)
        scores = score(
            prediction,
            timing,
            self._scoring,
            willingness_to_pay=willingness,
            reference_cost_usd=reference_cost_usd,
            max_wait_s=max_wait_s,
            feedback=feedback,
            advance=None if context.in_tool_loop else experience.advance(prediction, reasons),
        )
        deviation = None
        if self._sampled_widths is not None:
            deviation = spread(prediction, timing, self._scoring, self._sampled_widths, scores.on_quality, max_wait_s)
        standing = _Standing(experience, prediction, scores, deviation)
        choice, why, own = self._choose(standing, reasons, context, request, stay)
        names = self.pool.names
        chosen = names[choice.ranking[0]]
        if choice.explored:
            self.draws[chosen] = self.draws.get(chosen, 0) + 1
        if budget is not None:
            self.budgets.spent(budget, float(prediction.cost_usd[own]))
        decision_id = urandom(16).hex()
        self.sessions.put(request.session, chosen, context.prompt_tokens, decision_id)
        return Decision(
            decision_id=decision_id,
            candidate=chosen,
            ranking=tuple(map(names.__getitem__, choice.ranking)),
            propensity=choice.propensity,
            explored=choice.explored,
            scores=ScoreTable(self.pool, prediction, timing, scores, reasons),
            reason=why,
            willingness_to_pay=willingness,
            time_s=now,
            uncertainty_weight=self._scoring.uncertainty_weight,
            penalty_weight=self._scoring.penalty_weight,
        )

    def _known(self, predictor: Predictor) -> _Experience:
        """Return what is known of the candidates; it is worked out anew only after something was learned."""
        if self._experience is None or not self._experience.holds_for(predictor.quality):
            self._experience = _Experience.of(predictor, self.config)
        return self._experience

    def _willingness(self, request: Request, reference_cost_usd: float) -> tuple[Budget | None, float]:
        if request.willingness_to_pay is not None:
            if request.budget is not None:
                raise ConfigError("give a budget or willingness_to_pay, not both: a budget is turned into one")
            return None, check_willingness(request.willingness_to_pay)
        budget = check_budget(self.config.decision.budget if request.budget is None else request.budget)
        willingness = self.budgets.willingness(budget)
        # Budgets speak of the pool's scale; a score in dollars, lambda p - c, needs lambda in dollars too.
        return budget, willingness * reference_cost_usd if self.config.decision.cost_scale == "usd" else willingness

    def _max_wait_s(self, request: Request) -> float | None:
        if request.max_wait_s is None:
            return self.config.decision.max_wait_s
        return check_wait(request.max_wait_s)

    def _excluded(self, context: Context, request: Request, now: float) -> dict[int, str]:
        """Return who may not answer; a pause alone never leaves nobody."""
        tokens = context.prompt_tokens + context.max_output_tokens
        lasting = self.pool.excluded(needs=context.needs, tokens=tokens, allow=request.allow, deny=request.deny)
        pauses = self.cooldowns.active(now)
        if not pauses:
            return lasting
        paused = {self.pool.index[name]: why for name, why in pauses.items() if name in self.pool.index}
        both = {**paused, **lasting}
        return both if len(both) < len(self.pool) else lasting

    def _choose(
        self,
        standing: _Standing,
        reasons: Mapping[int, str],
        context: Context,
        request: Request,
        stay: Stay | None,
    ) -> tuple[Choice, str, int]:
        """Return the choice, why, and the position that MixLLM chose by itself: a rollout may call its baseline."""
        pool = self.pool
        if request.force is not None:
            forced = pool.position(request.force)
            return Choice(ranking=[forced], propensity=1.0, explored=False), "forced", forced
        baseline = self._baseline_for(reasons, request)
        eligible = None
        if reasons:
            eligible = np.ones(len(pool), dtype=bool)
            eligible[list(reasons)] = False
            if not eligible.any():
                if baseline is None:
                    raise self._nobody(reasons, context)
                eligible[baseline] = True  # it is only watched, and answers whatever it is asked
        ranking = rank(standing.scores.total, eligible)
        if context.in_tool_loop and stay is not None and pool.index.get(stay.candidate) in ranking:
            kept = first(pool.index[stay.candidate], ranking)
            return Choice(ranking=kept, propensity=1.0, explored=False), "tool loop", kept[0]
        new, totals = [], None
        if not context.in_tool_loop:
            new = self._new(ranking, standing)
            if standing.deviation is not None:
                totals = Totals(mean=standing.scores.total[ranking], deviation=standing.deviation[ranking])
        rate = self.config.exploration.rate
        own = choose(ranking, new, rate, self._rng, totals)
        choice, why = own, "exploration" if own.explored else "score"
        if self.gate is not None and baseline is not None:
            usual = chance(baseline, ranking, new, rate, totals) if baseline in ranking else 0.0
            choice, why = self.gate.draw(own, why, baseline, usual, self._rng)
        return choice, why, own.ranking[0]

    def _baseline_for(self, reasons: Mapping[int, str], request: Request) -> int | None:
        """Return the baseline of a rollout, if it may answer; one that is only watched is called as it was before."""
        if self._baseline not in reasons:
            return self._baseline
        unwanted = self.pool.excluded(allow=request.allow, deny=request.deny)
        watched = self.gate is not None and self.gate.shadow and self._baseline not in unwanted
        return self._baseline if watched else None

    def _new(self, ranking: Sequence[int], standing: _Standing) -> list[int]:
        """Return the candidates worth an exploring draw: few labels, few draws, and still some hope to be the best."""
        pulls = self.config.exploration.pulls
        if not pulls or standing.experience.fewest >= pulls:
            return []
        # What is given in advance to another is no reason to give somebody up.
        draws, names, known = self.draws, self.pool.names, standing.scores.without_optimism
        eligible = np.array(ranking)
        unknown = (standing.experience.labels < pulls) & (known + standing.hope >= known[eligible].max())
        return [p for p in sorted(eligible[unknown[eligible]].tolist()) if draws.get(names[p], 0) < pulls]

    def _nobody(self, reasons: Mapping[int, str], context: Context) -> NoEligibleCandidateError:
        names = self.pool.names
        named = {names[position]: why for position, why in sorted(reasons.items())}
        tokens = context.prompt_tokens + context.max_output_tokens
        if all(self.pool.window[position] < tokens for position in reasons):
            windows = ", ".join(f"{name} {window:.0f}" for name, window in zip(names, self.pool.window, strict=True))
            message = f"the query needs {tokens} tokens, more than the context window of every candidate ({windows})"
            return ContextWindowError(message, named)
        listed = "; ".join(f"{name}: {why}" for name, why in named.items())
        return NoEligibleCandidateError(f"no candidate may answer this query: {listed}", named)
