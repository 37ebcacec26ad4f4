"""Whole routing systems, one small file each: those that the paper compares, later ones, and simple yardsticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mixllm_engine.config import RouterConfig
from mixllm_engine.evaluation.report.model import OURS
from mixllm_engine.evaluation.rivals import (
    BayesianRidge,
    DomainLabel,
    Forest,
    Neighbours,
    Network,
    QueryBlind,
    Ridge,
    SupportVectors,
)
from mixllm_engine.evaluation.systems.automix import AutoMix
from mixllm_engine.evaluation.systems.carrot import Carrot
from mixllm_engine.evaluation.systems.clusters import Clusters
from mixllm_engine.evaluation.systems.forc import Forc
from mixllm_engine.evaluation.systems.linucb import LinUCB
from mixllm_engine.evaluation.systems.mab_wiser import MabWiser
from mixllm_engine.evaluation.systems.metallm import MetaLLM
from mixllm_engine.evaluation.systems.mixllm import MixLLM, MixLLMFit
from mixllm_engine.evaluation.systems.optllm import OptLLM
from mixllm_engine.evaluation.systems.oracle import Oracle
from mixllm_engine.evaluation.systems.pareto_bandit import ParetoBandit
from mixllm_engine.evaluation.systems.predicting import Predicting
from mixllm_engine.evaluation.systems.routellm import SimilarityWeighted
from mixllm_engine.evaluation.systems.routellm_factors import MatrixFactorisation
from mixllm_engine.evaluation.systems.singles import BestSingle, Cheapest, Random, ZeroMix
from mixllm_engine.evaluation.systems.thompson import Thompson
from mixllm_engine.evaluation.systems.zooter import Zooter

if TYPE_CHECKING:
    from mixllm_engine.evaluation.contest.policy import System

ORACLE: Final = "oracle"
# They know what no router can know: every outcome, or by the simulated verifier's verdict something of them.
BOUNDS: Final = (ORACLE, "AutoMix, verifier 75 %", "AutoMix, verifier 60 %")
# Those that learn while they answer.
LEARNERS: Final = (OURS, "MixLLM, paper preset", "LinUCB", "Thompson", "MetaLLM", "ParetoBandit", "MABWiser")


def lineup(*, domains: bool, seed: int = 0) -> dict[str, System]:
    """Return a fresh system of each kind by name.

    Parameters
    ----------
    domains : bool
        Whether true domains are known, so that the domain label can play.
    seed : int
        For predictors that depend on chance; systems take the seed of their task.
    """
    systems: dict[str, System] = {
        OURS: MixLLM(),
        "MixLLM, offline only": MixLLMFit(),
        "MixLLM, paper preset": MixLLM(RouterConfig.paper()),
        ORACLE: Oracle(),
        "best single": BestSingle(),
        "cheapest": Cheapest(),
        "random": Random(),
        "Zero mix": ZeroMix(),
        "mean quality": Predicting(QueryBlind()),
        **({"domain label": Predicting(DomainLabel())} if domains else {}),
        "RouterBench kNN": Predicting(Neighbours(40)),
        "RouterBench MLP": Predicting(Network(seed=seed)),
        "RouterBench SVM": Predicting(SupportVectors()),
        "kNN 100": Predicting(Neighbours(100)),
        "ridge": Predicting(Ridge(30.0)),
        "random forest": Predicting(Forest(seed=seed)),
        "BayesianRidge": Predicting(BayesianRidge()),
        "AutoMix, verifier 75 %": AutoMix(0.75),
        "AutoMix, verifier 60 %": AutoMix(0.6),
        "RouteLLM SW": SimilarityWeighted(),
        "RouteLLM SW, two LLMs": SimilarityWeighted(two=True),
        "RouteLLM MF": MatrixFactorisation(),
        "RouteLLM MF, two LLMs": MatrixFactorisation(two=True),
        "Zooter": Zooter(),
        "FORC": Forc(),
        "OptLLM": OptLLM(),
        "MetaLLM": MetaLLM(),
        "Avengers-Pro": Clusters(),
        "CARROT kNN": Carrot(Neighbours(100), Neighbours(100)),
        "CARROT linear": Carrot(Ridge(30.0), Ridge(30.0)),
        "LinUCB": LinUCB(),
        "Thompson": Thompson(),
        "ParetoBandit": ParetoBandit(),
        "MABWiser": MabWiser(),
    }
    return systems
