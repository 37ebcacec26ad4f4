"""What all systems of a contest get: a table to learn from, a stream to answer, the same embeddings and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.contest.traffic import Traffic
from mixllm_engine.evaluation.pools import FullFeedback
from mixllm_engine.evaluation.prices import candidates
from mixllm_engine.evaluation.workbench import Workbench, best_by, expected
from mixllm_engine.types import Candidate, Matrix, Vector

# Values of lambda from nearly the cheapest to the best alone, in units of the dearest LLM's mean cost. A share of the
# best quality is read off between two points, and would seem up to 5 % dearer with half as many of them.
GRID: Final[Vector] = np.concatenate([[0.0], np.logspace(-1.5, 3.0, 36), [np.inf]])
# Under load every point is a simulation, and areas are what is compared.
_UNDER_LOAD: Final[Vector] = np.delete(GRID, np.s_[2:36:2])


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One split of a pool.

    Attributes
    ----------
    train, stream : FullFeedback
        n queries with every outcome; m queries to answer, in the order of their arrival. A policy may read no outcome
        of the stream but those that come back to it; only the oracle does.
    known, asked : array of shape (n, d), (m, d)
        Embeddings of both, L2-normalised.
    cost_usd : array of shape (m, K)
        What the default router expects each answer to cost; the same for all systems.
    sold : sequence of Candidate
        The candidates, with prices.
    bench : Workbench
        Makes routers.
    grid : array of shape (s,)
        Values of lambda, increasing, in units of the dearest LLM's mean cost.
    seed : int
        For those who depend on chance.
    traffic : Traffic, optional
        Load, speeds and time limit; without it every answer comes at once.
    """

    train: FullFeedback
    stream: FullFeedback
    known: Matrix
    asked: Matrix
    cost_usd: Matrix
    sold: Sequence[Candidate]
    bench: Workbench
    grid: Vector
    seed: int
    traffic: Traffic | None

    @classmethod
    def split(
        cls,
        data: FullFeedback,
        bench: Workbench,
        *,
        share: float,
        seed: int,
        traffic: Traffic | None = None,
        grid: Vector | None = None,
    ) -> Task:
        """Split a pool at random into a share to learn from and a stream; there are fewer lambdas under load."""
        train, stream = data.split(share, seed)
        sold = candidates(data)
        router = bench.fitted(train, RouterConfig.default(), seed=seed, sold_as=sold).router
        return cls(
            train=train,
            stream=stream,
            known=bench.encoder.encode(train.texts).astype(np.float64),
            asked=bench.encoder.encode(stream.texts).astype(np.float64),
            cost_usd=expected(router, stream)[1],
            sold=sold,
            bench=bench,
            grid=grid if grid is not None else GRID if traffic is None else _UNDER_LOAD,
            seed=seed,
            traffic=traffic,
        )

    @property
    def reference_cost_usd(self) -> float:
        """Mean cost of the dearest LLM in the table: the unit of costs in a trade-off."""
        return self.train.reference_cost_usd

    def best_by(self, quality: Matrix, willingness_to_pay: float) -> list[list[int]]:
        """Return, for every query of the stream, the candidate that is best by lambda p - c; ties go by name.

        Parameters
        ----------
        quality : array of shape (m, K)
            Expected quality p.
        willingness_to_pay : float
            lambda; infinity looks at quality alone.
        """
        chosen = best_by(quality, self.cost_usd / self.reference_cost_usd, willingness_to_pay)
        calls: list[list[int]] = chosen[:, None].tolist()
        return calls
