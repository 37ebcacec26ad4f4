"""Policies that a log can judge: what they would have chosen for the logged queries."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.config import RouterConfig
from mixllm_engine.decision.budget import Budget, check_willingness
from mixllm_engine.decision.maker import DecisionMaker, Request
from mixllm_engine.decision.score import trade_weights
from mixllm_engine.encoding.context import Context
from mixllm_engine.errors import ConfigError, StateError
from mixllm_engine.evaluation.judged import JudgedLog
from mixllm_engine.learning.learner import Learner
from mixllm_engine.router import Router
from mixllm_engine.types import Matrix

# For every row of a log a candidate's name, or for every row and column a probability.
Policy = Callable[[JudgedLog], Sequence[str] | npt.NDArray[Any]]


def always(candidate: str) -> Policy:
    """Return the policy that takes one candidate whatever is asked."""
    return lambda log: [candidate] * len(log)


def rescored(willingness_to_pay: float) -> Policy:
    """Return the policy that takes the best by lambda p - c of what was expected at each decision.

    What was expected then was learned before, so a log may judge this policy although its own router learned from it.

    Parameters
    ----------
    willingness_to_pay : float
        lambda on the pool's own scale; infinity looks at quality alone.

    Raises
    ------
    ConfigError
        If lambda is negative or not a number.
    """
    on_quality, on_cost = trade_weights(check_willingness(willingness_to_pay))

    def choose(log: JudgedLog) -> list[str]:
        total = on_quality * log.expected_quality
        if on_cost:
            total = total - on_cost * log.expected_cost_usd / cost_unit_usd(log)
        columns = np.where(log.eligible, total, -np.inf).argmax(axis=1)
        return [log.candidates[column] for column in columns.tolist()]

    return choose


def cost_unit_usd(log: JudgedLog) -> float:
    """Return the unit of cost that is typical of a log: the median, or the dearest candidate's mean cost."""
    known = log.cost_unit_usd[np.isfinite(log.cost_unit_usd)]
    return float(np.median(known)) if len(known) else float(np.nanmean(log.expected_cost_usd, axis=0).max())


class FrozenPolicy:
    """A configuration with what was learned so far: it learns no more, explores nothing, and no call is in flight.

    Made by `frozen`.

    Attributes
    ----------
    learned_from : frozenset of str
        Names of the logs whose feedback it has learned.
    """

    def __init__(self, learner: Learner, budget: Budget | None, willingness_to_pay: float | None) -> None:
        self._learner = learner
        self._budget = budget
        self._willingness = willingness_to_pay
        read = [key.removesuffix("/feedback") for key in learner.position if key.endswith("/feedback")]
        self.learned_from = frozenset(read)

    def __call__(self, log: JudgedLog) -> list[str]:
        """Choose for every row, or raise `StateError` where another encoder made the log's embeddings."""
        learner = self._learner
        if log.encoder != learner.encoder:
            raise StateError(
                f"the log's embeddings are by {log.encoder!r}, this router's encoder is {learner.encoder!r}"
            )
        maker = DecisionMaker(learner.pool, learner.config, np.random.default_rng(0))
        maker.budgets.curve = learner.curve
        return [self._choose(maker, log, row) for row in range(len(log))]

    def _choose(self, maker: DecisionMaker, log: JudgedLog, row: int) -> str:
        learner = self._learner
        embedding = log.embeddings[row].astype(np.float64)
        context = Context(
            embedding=embedding,
            features=learner.features(embedding),
            prompt_tokens=int(log.prompt_tokens[row]),
            max_output_tokens=0,
            needs=frozenset(),
            in_tool_loop=False,
        )
        willingness = self._willingness
        if willingness is None and self._budget is None:
            willingness = float(log.willingness_to_pay[row])
        request = Request(budget=self._budget, willingness_to_pay=willingness, deny=self._excluded(log, row))
        known = (learner.predictor, learner.reference_cost_usd, 0.0, learner.feedback_score(context.features))
        return maker.decide(context, request, *known).candidate

    def _excluded(self, log: JudgedLog, row: int) -> list[str]:
        """Return who could not be chosen then; nobody is left out where that would leave nobody."""
        names = self._learner.pool.index
        out = [name for name, free in zip(log.candidates, log.eligible[row], strict=True) if not free and name in names]
        return [glob.escape(name) for name in out] if len(out) < len(names) else []


def frozen(
    router: Router,
    *,
    config: RouterConfig | None = None,
    budget: Budget | None = None,
    willingness_to_pay: float | None = None,
) -> FrozenPolicy:
    """Freeze what a router would choose now, perhaps under another configuration.

    Take a router that learned from other data than the log that shall judge it: from a table by `Router.fit`, or from
    an earlier log. Otherwise it is judged on its own exercises, and the estimate says so.

    Parameters
    ----------
    router : Router
        Candidates and learned state; it is copied, and may go on learning.
    config : RouterConfig, optional
        Other settings for the same learned sums; its features must be the router's.
    budget : str or float, optional
        As for `Router.decide`.
    willingness_to_pay : float, optional
        lambda for every row; with neither, each row keeps the lambda that it was decided with.

    Raises
    ------
    ConfigError
        If both a budget and lambda are given, or the features differ.
    """
    if budget is not None and willingness_to_pay is not None:
        raise ConfigError("give a budget or willingness_to_pay, not both: a budget is turned into one")
    settings = config or router.config
    if settings.features != router.config.features:
        raise ConfigError("the learned sums belong to the router's features; give a configuration with the same ones")
    mode = "ucb" if settings.exploration.mode == "ucb" else "none"
    quiet = settings.exploration.model_copy(update={"mode": mode, "rate": 0.0, "optimism": 0.0})
    settings = settings.model_copy(update={"exploration": quiet, "rollout": None})
    with router._lock:
        known = router._learner
        learner = Learner(known.pool, known.features, known.encoder, settings, known.learned())
        if settings.prediction == known.config.prediction:
            learner.predictor.adopt(known.predictor)  # also what a candidate was taken to be like
    return FrozenPolicy(learner, budget, willingness_to_pay)


def probabilities(policy: Policy, log: JudgedLog) -> Matrix:
    """Ask a policy about a log.

    Returns
    -------
    array of shape (n, K) or wider
        pi(k|x); each row sums to 1. Candidates that only the policy knows have further columns.

    Raises
    ------
    ConfigError
        If the policy returns neither a name for each row nor probabilities.
    """
    given = np.asarray(policy(log))
    if given.shape == (len(log),) and given.dtype.kind in "UO":
        names = [str(name) for name in given.tolist()]
        candidates = (*log.candidates, *sorted(set(names) - set(log.candidates)))
        index = {name: column for column, name in enumerate(candidates)}
        target = np.zeros((len(log), len(candidates)))
        target[np.arange(len(log)), [index[name] for name in names]] = 1.0
        return target
    expected = (len(log), len(log.candidates))
    if given.shape != expected or given.dtype.kind not in "fiub":
        raise ConfigError(
            f"a policy returns {expected[0]} names, or probabilities of shape {expected}; got an array of shape "
            f"{given.shape} and type {given.dtype}"
        )
    target = given.astype(np.float64)
    if not ((target >= 0).all() and np.allclose(target.sum(axis=1), 1.0, atol=1e-6)):
        raise ConfigError("a policy's probabilities must be at least 0 and sum to 1 in every row")
    return target
