"""Routers that have learned from a pool, made quickly and repeatably."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mixllm_engine.config import FeatureConfig, RouterConfig
from mixllm_engine.decision.leader import Leader
from mixllm_engine.encoding.features import FeatureMap
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.prices import candidates
from mixllm_engine.evaluation.remembered import RememberedEncoder
from mixllm_engine.router import Router
from mixllm_engine.testing import FakeClock
from mixllm_engine.types import Candidate, Matrix, Vector


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A router, the clock that it reads, and the candidates of the whole pool by name."""

    router: Router
    clock: FakeClock
    candidates: dict[str, Candidate]


class Workbench:
    """Make routers that share an encoder.

    Parameters
    ----------
    encoder : RememberedEncoder
        Encodes each text once.
    """

    def __init__(self, encoder: RememberedEncoder) -> None:
        self.encoder = encoder
        self._maps: dict[FeatureConfig, FeatureMap] = {}

    def fitted(
        self,
        train: FullFeedback,
        config: RouterConfig,
        *,
        seed: int,
        without: Collection[str] = (),
        sold_as: Sequence[Candidate] | None = None,
    ) -> Fitted:
        """Return a fresh router, with a store in memory, that was fitted on a pool.

        Parameters
        ----------
        train : FullFeedback
            What to learn from.
        config : RouterConfig
            Settings.
        seed : int
            Makes exploring draws repeatable.
        without : collection of str
            Candidates that it does not have and does not learn about.
        sold_as : sequence of Candidate, optional
            The candidates; by default those whose prices `train` implies.
        """
        sold = {candidate.name: candidate for candidate in (sold_as or candidates(train))}
        clock = FakeClock()
        present = [candidate for name, candidate in sold.items() if name not in without]
        router = Router(present, config=config, encoder=self.encoder, seed=seed, clock=clock)
        # Every router would learn the same map anew, which takes longer than the fit.
        router._contexts.features = self._map(config.features)
        router.fit(train.restrict({candidate.name for candidate in present}).table(), progress=False)
        return Fitted(router=router, clock=clock, candidates=sold)

    def _map(self, config: FeatureConfig) -> FeatureMap:
        if config not in self._maps:
            self._maps[config] = FeatureMap.general(self.encoder, config)
        return self._maps[config]


def expected(router: Router, data: FullFeedback) -> tuple[Matrix, Matrix]:
    """Return what a router weighs for the queries of a pool: quality, and cost in dollars, each of shape (n, K).

    The quality is the expected one and what the leader is given in advance; see `decision.leader`. The cost is that of
    the prompt as it was billed, which may be longer than the query: `Router.predict` can only count the query.
    """
    told = router.predict(data.texts)
    leader = Leader.of(router._learner.predictor, router.config.decision.leader_margin)
    prompt = np.array([candidate.input_usd_per_mtok for candidate in router.candidates]) / 1e6
    answer = np.array([candidate.output_usd_per_mtok for candidate in router.candidates]) / 1e6
    billed = np.outer(data.prompt_tokens, prompt) + told.response_tokens * answer
    leverage = told.uncertainty**2 if router.config.decision.uncertainty == "width" else told.uncertainty
    worth = told.quality if leader is None else told.quality + leader.advance(told.quality, leverage)
    return worth, np.where(np.isfinite(billed), billed, told.cost_usd)


def best_by(quality: Matrix, cost: Matrix, willingness_to_pay: float) -> npt.NDArray[np.intp]:
    """Return the candidates that are best by lambda p - c; ties go to the first, which is the order of names.

    Parameters
    ----------
    quality, cost : array of shape (..., K)
        Expected quality, and expected cost in units of the reference cost.
    willingness_to_pay : float
        lambda; infinity looks at quality alone.

    Returns
    -------
    array of shape (...)
        Columns.

    Examples
    --------
    >>> best_by(np.array([[0.5, 0.9]]), np.array([[0.1, 1.0]]), 2.0).tolist()
    [0]
    """
    total = quality if math.isinf(willingness_to_pay) else willingness_to_pay * quality - cost
    chosen: npt.NDArray[np.intp] = total.argmax(axis=-1)
    return chosen


def sweep(quality: Matrix, cost_usd: Matrix, data: FullFeedback, reference_cost_usd: float, grid: Vector) -> Matrix:
    """Choose by lambda p - c for every lambda of a grid, without exploring.

    Parameters
    ----------
    quality, cost_usd : array of shape (n, K)
        What is expected.
    data : FullFeedback
        What is got.
    reference_cost_usd : float
        The unit of c.
    grid : array of shape (m,)
        Values of lambda; infinity looks at quality alone.

    Returns
    -------
    array of shape (m, 2)
        Mean cost in dollars and mean quality for each lambda.
    """
    rows, points, cost = np.arange(len(data)), np.empty((len(grid), 2)), cost_usd / reference_cost_usd
    for place, willingness in enumerate(grid):
        chosen = best_by(quality, cost, float(willingness))
        points[place] = data.cost_usd[rows, chosen].mean(), data.quality[rows, chosen].mean()
    return points
