"""ParetoBandit, the installed package as it is, driven as its own demonstration drives it."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mixllm_engine.evaluation.contest.policy import Answer
from mixllm_engine.evaluation.contest.task import Task
from mixllm_engine.evaluation.systems.linear_arms import COMPONENTS, with_constant
from mixllm_engine.types import Matrix

if TYPE_CHECKING:
    from pareto_bandit import BanditRouter, RoutingLog

# Budgets can't go down to a free LLM's on a logarithmic scale; this share of the dearest one's cost is as good as free.
_LEAST_SHARE = 1e-4


class ParetoBandit:
    """LinUCB with forgetting under a budget in dollars per query, which a pacer keeps by dual ascent.

    Everything is the package's own, with its defaults: priors from the table by `generate_warmup_priors`, on whitened
    principal components of the table; how far they are trusted; exploration, forgetting and the adaptive pacer. As in
    its author's experiments, budgets are spread on a logarithmic scale from the cheapest LLM's mean cost to the
    dearest's, here as many as others have lambdas; no fixed penalty on cost stands beside the pacer, and the pacer is
    told what calls really cost. Unlike there, it doesn't learn from a validation set before it is measured.

    References
    ----------
    Taberner-Miller (2026), "ParetoBandit: Budget-Paced Adaptive Routing for Non-Stationary LLM Serving",
    arXiv 2604.00136. The package is `paretobandit`.
    """

    def __init__(self) -> None:
        try:
            import pareto_bandit  # noqa: F401
        except ImportError as error:
            raise ImportError('this rival needs paretobandit: pip install "mixllm[evaluate]"') from error
        # What it logs goes to those who ask for it, not to everybody's standard error.
        logging.getLogger("pareto_bandit").addHandler(logging.NullHandler())

    def policies(self, task: Task) -> Sequence[_Paced]:
        """Return a policy for each budget."""
        spend = task.train.cost_usd.mean(axis=0)
        budgets = np.geomspace(max(spend.min(), _LEAST_SHARE * spend.max()), spend.max(), len(task.grid))
        with tempfile.TemporaryDirectory() as folder:  # a file is the only way in that the package has for priors
            priors = Path(folder) / "priors.joblib"
            contexts = _prepared(task, priors)
            routers = [_router(task, priors, contexts.shape[1], float(budget)) for budget in budgets]
        return [_Paced(router, contexts, task.stream.names) for router in routers]


class _Paced:
    def __init__(self, router: BanditRouter, contexts: Matrix, names: Sequence[str]) -> None:
        self._router, self._contexts, self._names = router, contexts, names
        self._under_way: dict[int, RoutingLog] = {}

    def choose(self, row: int, now_s: float) -> Sequence[int]:
        """Ask the router."""
        name, self._under_way[row] = self._router.route(self._contexts[row])
        return [self._names.index(name)]

    def finish(self, row: int, answer: Answer, now_s: float) -> None:
        """Tell it the reward, and its pacer the cost."""
        log = self._under_way.pop(row)
        log.cost_usd = answer.cost_usd
        self._router.process_feedback(log.request_id, reward=answer.value)


def _prepared(task: Task, priors: Path) -> Matrix:
    """Write priors that the table implies, and return the features of the stream's queries."""
    from pareto_bandit import generate_warmup_priors
    from sklearn.decomposition import PCA

    count = min(COMPONENTS, int(np.linalg.matrix_rank(task.known - task.known.mean(axis=0))))
    pca = PCA(n_components=count, svd_solver="full").fit(task.known)
    texts, names = task.train.texts, task.train.names
    generate_warmup_priors(
        rewards_data=[
            {"prompt": text, "rewards": dict(zip(names, row, strict=True))}
            for text, row in zip(texts, task.train.quality.tolist(), strict=True)
        ],
        encoder_model="embeddings are given",
        pca=pca,
        output_path=priors,
        precomputed_raw_embeddings={
            hashlib.sha256(text.encode()).hexdigest(): row for text, row in zip(texts, task.known, strict=True)
        },
    )
    return with_constant(pca.transform(task.asked) / np.sqrt(pca.explained_variance_))


def _router(task: Task, priors: Path, dimension: int, budget_usd: float) -> BanditRouter:
    from pareto_bandit import BanditRouter, FeatureService, RouterConfig
    from pareto_bandit.budget_pacer import BudgetPacer

    prices = np.array([[one.input_usd_per_mtok, one.output_usd_per_mtok] for one in task.sold])
    dearest_usd_per_ktok = float(prices.mean(axis=1).max()) / 1000.0
    return BanditRouter.create(
        model_registry={
            name: {"input_cost_per_m": prompt, "output_cost_per_m": response}
            for name, (prompt, response) in zip(task.train.names, prices.tolist(), strict=True)
        },
        feature_service=FeatureService.for_precomputed(dimension),
        priors=str(priors),
        bandit_seed=task.seed,
        # its manual wants the scale of prices to reach up to the dearest LLM
        config=RouterConfig(market_cost_ceiling=max(RouterConfig.market_cost_ceiling, dearest_usd_per_ktok)),
        cost_penalty=0.0,
        budget_pacer=BudgetPacer(budget_usd),
    )
