"""The installed packages that MixLLM's decisions are timed beside, each driven as its own documentation says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from io import StringIO
from types import ModuleType
from typing import Any, Final

import numpy as np

from mixllm_engine.encoding.export import minilm_folder
from mixllm_engine.evaluation.bench.inputs import DIMENSION, REWARDS, features, prices
from mixllm_engine.types import Matrix

_PARETO: Final = "paretobandit==0.1.1"
_GIVEN: Final = f"from {DIMENSION} features that are given"


class ParetoDecider:
    """`pareto_bandit.BanditRouter` on features that were computed beforehand.

    Taberner-Miller (2026), "ParetoBandit: Budget-Paced Adaptive Routing for Non-Stationary LLM Serving".
    """

    note = _GIVEN

    def __init__(self, names: Sequence[str]) -> None:
        services = _needed("pareto_bandit.feature_service", _PARETO)
        self._router = _pareto_router(names, services.FeatureService.for_precomputed(dimension=DIMENSION))
        self._contexts = features()

    def decide(self, serial: int) -> str:
        """Choose for one vector of features."""
        request: str = self._router.route(self._contexts[serial % len(self._contexts)])[1].request_id
        return request

    def learn(self, reference: str, reward: float) -> None:
        """Give feedback."""
        self._router.process_feedback(reference, reward)


class ParetoText:
    """`pareto_bandit.BanditRouter` that is asked with texts.

    Its encoder is the published MiniLM through sentence-transformers, as it is by default, but read from a folder
    instead of the hub; behind it are the principal components that it ships.
    """

    note = "published MiniLM through sentence-transformers, first 256 tokens"

    def __init__(self, names: Sequence[str]) -> None:
        services = _needed("pareto_bandit.feature_service", _PARETO)
        settings = _needed("pareto_bandit.config", _PARETO)
        _needed("sentence_transformers", '"mixllm[train]"')
        with _quietly():
            encoding = services.FeatureService(encoder_model=str(minilm_folder()), pca_path=settings.DEFAULT_PCA_PATH)
            self._router = _pareto_router(names, encoding)
            self._router.route("Which of you should answer?")  # loads everything

    def decide(self, text: str) -> object:
        """Choose for one text."""
        return self._router.route(text)


class MabwiserDecider:
    """`mabwiser.mab.MAB` with LinUCB.

    Strong, Kleynhans and Kadioglu (2019), "MABWiser: A Parallelizable Contextual Multi-Armed Bandit Library", ICTAI.
    """

    note = _GIVEN

    def __init__(self, names: Sequence[str]) -> None:
        mab = _needed("mabwiser.mab", "mabwiser")
        self._contexts = features()
        self._bandit = mab.MAB(list(names), mab.LearningPolicy.LinUCB(alpha=1.0), seed=0)
        rows = np.resize(self._contexts, (len(names), DIMENSION))
        self._bandit.fit(list(names), np.resize(REWARDS, len(names)).tolist(), rows)

    def decide(self, serial: int) -> tuple[str, Matrix]:
        """Choose for one vector of features."""
        context = self._contexts[[serial % len(self._contexts)]]
        return self._bandit.predict(context), context

    def learn(self, reference: tuple[str, Matrix], reward: float) -> None:
        """Give feedback."""
        arm, context = reference
        self._bandit.partial_fit([arm], [reward], context)


def _needed(module: str, requirement: str) -> ModuleType:
    """Import a module, or say in an `ImportError` how to install it."""
    try:
        with _quietly():
            return import_module(module)
    except ImportError as error:
        raise ImportError(f"not installed: pip install {requirement}") from error


def _pareto_router(names: Sequence[str], encoding: Any) -> Any:
    registry = {
        name: {"input_cost_per_m": prompt, "output_cost_per_m": answer}
        for name, (prompt, answer) in prices(names).items()
    }
    make = _needed("pareto_bandit", _PARETO).BanditRouter.create
    with _quietly():
        return make(model_registry=registry, feature_service=encoding, priors="none", bandit_seed=0)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep a package's progress bars, and its warnings about its own dependencies, to itself."""
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield
