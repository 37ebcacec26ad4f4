"""The paper's neural heads: one small network for each candidate and target, in place of the closed-form means.

They say what quality and what log length to expect; `PredictionConfig.heads` turns them on. All else is as without
them: the Bayesian heads go on learning their sums, which give the uncertainty x' A_l^-1 x (equation 9 with the A_l of
equation 14) and the spread of the lengths around their mean.

The networks are kept by the names of the candidates. The first weights of a network depend on the seed, the name and
the target alone, its first constant is the candidate's prior, and nobody's step touches another's weights. A candidate
that is removed keeps its networks, goes on learning from late labels, and comes back with them.

A step depends on the steps before it. So, unlike the heads' sums, the networks depend on the order of the log (of the
labels for the quality, of the outcomes for the length); they depend on nothing else, so that all that follow one log
from one state hold the same weights. One exception: a worker that never had a candidate in its pool does not know its
price, and folds the candidate's labels into networks that start in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Final, Literal

import numpy as np

from mixllm_engine.candidates import Pool
from mixllm_engine.config import PredictionConfig
from mixllm_engine.prediction.mlp import Network, Networks, Stack, learn, relearn, train
from mixllm_engine.prediction.predictor import Predictor
from mixllm_engine.prediction.priors import TYPICAL_RESPONSE_TOKENS, prior_log_length, prior_quality
from mixllm_engine.types import Label, Matrix, Vector

Target = Literal["quality", "length"]

_MIDDLE: Final[Mapping[Target, float]] = {"quality": 0.5, "length": math.log(TYPICAL_RESPONSE_TOKENS)}


class NetworkBank:
    """The networks of all candidates for one target.

    Parameters
    ----------
    target : "quality" or "length"
        What they predict.
    pool : Pool
        Whose networks are asked; its order is the order of the predictions.
    dimension : int
        Length d of a context.
    config : PredictionConfig
        Rates, width and seed.
    """

    def __init__(self, target: Target, pool: Pool, dimension: int, config: PredictionConfig) -> None:
        self._target: Target = target
        self._pool = pool
        self._dimension = dimension
        self._config = config
        self._rate = config.neural.quality_rate if target == "quality" else config.neural.length_rate
        prior = prior_quality if target == "quality" else prior_log_length
        self._priors = {candidate.name: prior(candidate) for candidate in pool.candidates}
        self.learned: dict[str, Network] = {}
        self._attach()

    def _attach(self) -> None:
        self._stack = Stack([self.network(name) for name in self._pool.names])

    def network(self, name: str) -> Network:
        """Return what a candidate's network learned, or the one it starts with."""
        if name in self.learned:
            return self.learned[name]
        return fresh(self._target, name, self._priors.get(name, _MIDDLE[self._target]), self._dimension, self._config)

    def predict(self, contexts: Matrix) -> Matrix:
        """Return the predictions for the pool: shape (K,) for one context (d,), (n, K) for contexts (n, d)."""
        return self._stack.predict(contexts)

    def learn(self, name: str, context: Vector, after: Label, before: Label | None) -> None:
        """Take one step for a label, or for the change of one that was learned before."""
        network = self.network(name)
        if before is None:
            strength = self._config.prior_strength
            self.learned[name] = learn(network, context, after, rate=self._rate, strength=strength)
        else:
            self.learned[name] = relearn(network, context, before, after, rate=self._rate)
        if name in self._pool.index:
            self._stack.put(self._pool.index[name], self.learned[name])

    def fade(self, name: str, count: float) -> None:
        """Let what a network learned weigh no more than so many labels."""
        if name in self.learned:
            self.learned[name] = replace(self.learned[name], count=min(self.learned[name].count, count))

    def imitate(self, name: str, sibling: str) -> None:
        """Start with the network of a sibling, as a candidate that knows nothing of its own."""
        if name not in self.learned:
            own = self.network(sibling)
            self.learned[name] = replace(own, count=0.0)
            self._attach()

    def restore(self, learned: Mapping[str, Network], priors: Mapping[str, float] | None = None) -> None:
        """Take over what was learned before, also of candidates that are not in the pool."""
        self.learned = dict(learned)
        self._priors = {**(priors or {}), **self._priors}
        self._attach()

    def adopt(self, older: NetworkBank) -> None:
        """Take over all that an older bank, for another pool, knew."""
        self.restore(older.learned, older._priors)


class NeuralPredictor(Predictor):
    """A `Predictor` whose expectations come from networks; for the parameters see there."""

    def __init__(self, pool: Pool, dimension: int, config: PredictionConfig) -> None:
        super().__init__(pool, dimension, config)
        self._qualities = NetworkBank("quality", pool, dimension, config)
        self._lengths = NetworkBank("length", pool, dimension, config)

    def expected(self, contexts: Matrix) -> Matrix:
        """Return what the networks say, those of quality first."""
        return np.concatenate([self._qualities.predict(contexts), self._lengths.predict(contexts)], axis=-1)

    def step_quality(self, name: str, context: Vector, after: Label, before: Label | None = None) -> None:
        """Let a candidate's quality network take one step (equation 15)."""
        self._qualities.learn(name, context, after, before)

    def fade_quality(self, position: int, count: float) -> None:
        """Let what was learned of a candidate's quality weigh no more than so many labels: the next count for more."""
        super().fade_quality(position, count)
        self._qualities.fade(self.pool.names[position], count)

    def step_length(self, name: str, context: Vector, response_tokens: float) -> None:
        """Let a candidate's length network take one step (equation 16)."""
        self._lengths.learn(name, context, Label(math.log(max(response_tokens, 1.0)), 1.0), None)

    def networks(self) -> Networks:
        """Return all networks that have learned something, by target and name."""
        return {"quality": dict(self._qualities.learned), "length": dict(self._lengths.learned)}

    def restore(self, networks: Networks) -> None:
        """Begin with networks that were learned before."""
        self._qualities.restore(networks.get("quality", {}))
        self._lengths.restore(networks.get("length", {}))

    def adopt(self, older: Predictor) -> None:
        """Take over what an older predictor learned, also of candidates that are not in the pool."""
        super().adopt(older)
        if isinstance(older, NeuralPredictor):
            self._qualities.adopt(older._qualities)
            self._lengths.adopt(older._lengths)

    def imitate(self, position: int, sibling: int) -> None:
        """Expect of a new candidate what is expected of a sibling, unless it has come back with its own networks."""
        super().imitate(position, sibling)
        for bank in (self._qualities, self._lengths):
            bank.imitate(self.pool.names[position], self.pool.names[sibling])


def make_predictor(pool: Pool, dimension: int, config: PredictionConfig) -> Predictor:
    """Return the predictor that the settings choose."""
    kind = NeuralPredictor if config.heads == "neural" else Predictor
    return kind(pool, dimension, config)


def fresh(target: Target, name: str, prior: float, dimension: int, config: PredictionConfig) -> Network:
    """Return the network that a candidate starts with."""
    digest = blake2b(f"{target}/{name}".encode(), digest_size=8).digest()
    rng = np.random.default_rng([config.neural.seed, int.from_bytes(digest, "little")])
    return Network.fresh(dimension, config.neural.width, prior, rng)


def train_heads(
    pool: Pool,
    names: Sequence[str],
    contexts: Matrix,
    quality: Matrix,
    log_length: Matrix,
    config: PredictionConfig,
    progress: bool = False,
) -> Networks:
    """Train the networks of some candidates offline; qualities and lengths go through the table together.

    Parameters
    ----------
    pool : Pool
        Prices and abilities, from which the priors follow.
    names : sequence of str
        m of its candidates.
    contexts : array of shape (n, d)
        phi of every query.
    quality, log_length : array of shape (n, m)
        The targets; NaN = not known. Whose targets are not known at all gets no network.
    config : PredictionConfig
        Rates, width, passes and seed.
    progress : bool
        Show a progress bar.
    """
    settings, dimension = config.neural, contexts.shape[1]
    targets = np.concatenate([quality, log_length], axis=1)
    keys: list[tuple[Target, str]] = [("quality", name) for name in names]
    keys += [("length", name) for name in names]
    taught = [column for column in range(len(keys)) if np.isfinite(targets[:, column]).any()]
    starts, rates = [], []
    for target, name in (keys[column] for column in taught):
        prior = prior_quality(pool[name]) if target == "quality" else prior_log_length(pool[name])
        starts.append(fresh(target, name, prior, dimension, config))
        rates.append(settings.quality_rate if target == "quality" else settings.length_rate)
    done = train(
        starts,
        contexts,
        targets[:, taught],
        np.array(rates),
        passes=settings.passes,
        shrinkage=settings.shrinkage,
        seed=settings.seed,
        progress=progress,
    )
    found: dict[str, dict[str, Network]] = {"quality": {}, "length": {}}
    for column, network in zip(taught, done, strict=True):
        target, name = keys[column]
        found[target][name] = network
    return found
