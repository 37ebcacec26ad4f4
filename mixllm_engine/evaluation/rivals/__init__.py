"""Other ways to predict quality, one small file each; all get the same embeddings, and the same costs.

Only the quality of answers is predicted here: who is chosen follows from it, from the cost and from lambda, in the same
way for all (`evaluation.workbench.sweep`).
"""

from __future__ import annotations

from mixllm_engine.evaluation.rivals.base import Rival
from mixllm_engine.evaluation.rivals.bayesian import BayesianRidge
from mixllm_engine.evaluation.rivals.blind import QueryBlind
from mixllm_engine.evaluation.rivals.domain import DomainLabel
from mixllm_engine.evaluation.rivals.forest import Forest
from mixllm_engine.evaluation.rivals.neighbours import Neighbours
from mixllm_engine.evaluation.rivals.network import Network
from mixllm_engine.evaluation.rivals.ridge import Ridge
from mixllm_engine.evaluation.rivals.support_vectors import SupportVectors

__all__ = [
    "BayesianRidge",
    "DomainLabel",
    "Forest",
    "Neighbours",
    "Network",
    "QueryBlind",
    "Ridge",
    "Rival",
    "SupportVectors",
    "lineup",
]


def lineup(*, domains: bool, seed: int = 0) -> dict[str, Rival]:
    """Return a fresh rival of each kind by name.

    Parameters
    ----------
    domains : bool
        Whether true domains are known, so that the domain label can play.
    seed : int
        For those who depend on chance.
    """
    rivals: dict[str, Rival] = {"mean quality": QueryBlind()}
    if domains:
        rivals["domain label"] = DomainLabel()
    rivals |= {f"kNN {count}": Neighbours(count) for count in (20, 50, 100)}
    return rivals | {
        "ridge 30": Ridge(30.0),
        "random forest": Forest(seed=seed),
        "MLP": Network(seed=seed),
        "SVM": SupportVectors(),
        "BayesianRidge": BayesianRidge(),
    }
