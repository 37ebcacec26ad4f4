"""Small perceptrons, one for each candidate and target, that learn by gradient (paper, equations 12, 13, 15 and 16).

For a context x of length d, whose first entry is 1, and h hidden units::

    f(x)  = b + v' max(W x, 0)                                one hidden layer of ReLU
    theta <- theta + eta (y - f(x)) grad f(x)                 a step down L = (y - f(x))^2 / 2

The hidden weights start at random, their biases and the output weights v at zero: a fresh network says b everywhere, so
that b is what is believed before anything was observed. Several rows make one step with the sum of their gradients, so
that eta means the same for a batch and for a single label. To first order a step moves f on its rows by at most the sum
of eta |grad f|^2 over them, times the errors; where that sum is above 1 the step is divided by it, so that none goes
past its targets (normalised least mean squares). Without that bound a large eta makes the weights overflow.

References
----------
He et al. (2015), "Delving deep into rectifiers": the scale of the hidden weights, here by the number of units, so that
|max(W x, 0)|, and with it the meaning of eta, does not depend on h.
Nagumo and Noda (1967), "A learning method for system identification": the normalised step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.encoding.progress import shown
from mixllm_engine.errors import StateError
from mixllm_engine.types import Label, Matrix, Vector

# Rows of one offline step. At eta = 0.01 a step with 16 rows stays below the bound, so that it is about 16 single ones.
_BATCH: Final = 16


@dataclass(frozen=True, kw_only=True)
class Network:
    """The weights of one network; a step makes a new one, so that copies may share them.

    Attributes
    ----------
    hidden : array of shape (h, d)
        W.
    output : array of shape (h + 1,)
        v, then b.
    count : float
        Labels that it has learned from.
    """

    hidden: Matrix
    output: Vector
    count: float = 0.0

    @classmethod
    def fresh(cls, dimension: int, width: int, constant: float, rng: np.random.Generator) -> Network:
        """Return a network that has learned nothing: it says `constant` for every context."""
        hidden = rng.normal(0.0, np.sqrt(2.0 / width), (width, dimension))
        hidden[:, 0] = 0.0
        output = np.zeros(width + 1)
        output[-1] = constant
        return cls(hidden=hidden, output=output)

    def value(self, context: Vector) -> float:
        """Return f(x)."""
        return float(Stack([self]).predict(context)[0])

    def check(self, dimension: int) -> None:
        """Raise `StateError` if the weights are not finite or have other shapes than `dimension` needs."""
        if self.hidden.ndim != 2 or self.hidden.shape[1] != dimension:
            raise StateError(f"a neural head has another shape than the {dimension} features need")
        if self.output.shape != (len(self.hidden) + 1,):
            raise StateError("the two layers of a neural head have shapes that do not fit each other")
        if not (np.isfinite(self.hidden).all() and np.isfinite(self.output).all() and self.count >= 0):
            raise StateError("a neural head holds numbers that are not finite; the state is damaged")


Networks = Mapping[str, Mapping[str, Network]]  # by target ("quality", "length") and candidate


class Stack:
    """Several networks side by side, so that one product serves all; narrower ones are filled up with dead units.

    Parameters
    ----------
    networks : sequence of Network
        K networks, in the order of every array; they are copied. At least one.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        width = max(len(network.hidden) for network in networks)
        self.hidden: Matrix = np.zeros((len(networks), width, networks[0].hidden.shape[1]))
        self.output: Matrix = np.zeros((len(networks), width + 1))
        for position, network in enumerate(networks):
            self.put(position, network)

    def put(self, position: int, network: Network) -> None:
        """Replace one network by another that is not wider than the stack."""
        width = len(network.hidden)
        self.hidden[position, width:], self.output[position, width:] = 0.0, 0.0
        self.hidden[position, :width] = network.hidden
        self.output[position, :width], self.output[position, -1] = network.output[:-1], network.output[-1]

    def network(self, position: int, count: float) -> Network:
        """Return a copy of one network that has learned from so many labels."""
        return Network(hidden=self.hidden[position].copy(), output=self.output[position].copy(), count=count)

    def predict(self, contexts: Matrix) -> Matrix:
        """Return f(x) of every network: shape (K,) for one context (d,), (n, K) for contexts (n, d)."""
        if contexts.ndim == 1:
            return self._values(self._active(contexts[None, :]))[:, 0]
        # One network at a time: the hidden units of all at once would need (n, K, h) numbers.
        pairs = zip(self.hidden, self.output, strict=True)
        return np.stack([np.maximum(contexts @ w.T, 0.0) @ v[:-1] + v[-1] for w, v in pairs], axis=1)

    def step(self, contexts: Matrix, targets: Matrix, rates: Vector, shrinkage: float = 0.0) -> None:
        """Take one step with several rows.

        Parameters
        ----------
        contexts : array of shape (n, d)
            The rows.
        targets : array of shape (n, K)
            y; NaN = not known, teaches nothing.
        rates : array of shape (K,)
            eta of every network.
        shrinkage : float
            Precision of a prior at zero for every weight but b: the part of it that falls to these rows.
        """
        active = self._active(contexts)
        errors = targets.T - self._values(active)
        known = np.isfinite(errors)
        hidden, output = self._gradient(contexts, active, np.where(known, errors, 0.0))
        step = rates / np.maximum(1.0, rates * (self._steepness(contexts, active) * known).sum(axis=1))
        hidden -= shrinkage * self.hidden
        output[:, :-1] -= shrinkage * self.output[:, :-1]
        self.hidden += step[:, None, None] * hidden
        self.output += step[:, None] * output

    def gradient(self, contexts: Matrix, errors: Matrix) -> tuple[Matrix, Matrix]:
        """Return the sum over rows of error times grad f, for W and for (v, b): shapes (K, h, d) and (K, h + 1).

        It is minus the gradient of the summed loss where `errors`, of shape (K, n), are y - f(x).
        """
        return self._gradient(contexts, self._active(contexts), errors)

    def steepness(self, contexts: Matrix) -> Matrix:
        """Return |grad f(x)|^2, shape (K, n), for contexts of shape (n, d)."""
        return self._steepness(contexts, self._active(contexts))

    def _active(self, contexts: Matrix) -> npt.NDArray[np.float64]:
        """Return the hidden units, shape (K, n, h)."""
        active: Matrix = contexts @ self.hidden.transpose(0, 2, 1)
        return np.maximum(active, 0.0, out=active)

    def _values(self, active: Matrix) -> Matrix:
        values: Matrix = (active @ self.output[:, :-1, None])[:, :, 0] + self.output[:, -1:]
        return values

    def _gradient(self, contexts: Matrix, active: Matrix, errors: Matrix) -> tuple[Matrix, Matrix]:
        behind = np.where(active > 0.0, self.output[:, None, :-1], 0.0) * errors[:, :, None]
        hidden: Matrix = behind.transpose(0, 2, 1) @ contexts
        output = np.concatenate([(errors[:, None, :] @ active)[:, 0], errors.sum(axis=1, keepdims=True)], axis=1)
        return hidden, output

    def _steepness(self, contexts: Matrix, active: Matrix) -> Matrix:
        through = ((active > 0.0) @ (self.output[:, :-1, None] ** 2))[:, :, 0]
        length = np.einsum("nd,nd->n", contexts, contexts)
        steepness: Matrix = 1.0 + np.einsum("knh,knh->kn", active, active) + length * through
        return steepness


def learn(network: Network, context: Vector, target: Label, *, rate: float, strength: float) -> Network:
    """Return a network after one step for one label (paper, equations 15 and 16).

    A constant eta would take a newcomer some fifty labels to leave its prior. So the first labels count as in a running
    mean: the n-th moves f(x) by 1 / (n + strength) of its error, until eta |grad f|^2 is more than that.

    Parameters
    ----------
    network : Network
        The weights before.
    context : array of shape (d,)
        phi(q).
    target : Label
        y; the step is as long as it weighs.
    rate : float
        eta.
    strength : float
        How many labels the constant that a fresh network says is worth.
    """
    stack, contexts = Stack([network]), context[None, :]
    first = 1.0 / ((network.count + 1.0 + strength) * stack.steepness(contexts)[0, 0])
    stack.step(contexts, np.array([[target.value]]), np.array([target.weight * max(rate, first)]))
    return stack.network(0, network.count + 1.0)


def relearn(network: Network, context: Vector, before: Label, after: Label, *, rate: float) -> Network:
    """Return a network after a label was changed: one step with its change, and what weight it gained, as the error."""
    stack = Stack([network])
    predicted = stack.predict(context)
    change = before.weight * (after.value - before.value) + (after.weight - before.weight) * (after.value - predicted)
    stack.step(context[None, :], (predicted + change)[None, :], np.array([rate]))
    return stack.network(0, network.count)


def train(
    networks: Sequence[Network],
    contexts: Matrix,
    targets: Matrix,
    rates: Vector,
    *,
    passes: int,
    shrinkage: float,
    seed: int,
    progress: bool = False,
) -> list[Network]:
    """Return networks after several passes over a table, with steps that shrink to 0 (paper, equations 12 and 13).

    Each network learns what it would learn alone: the order of the rows depends on nothing but the seed.

    Parameters
    ----------
    networks : sequence of Network
        K networks of one width.
    contexts : array of shape (n, d)
        phi of every query.
    targets : array of shape (n, K)
        What each network should say; NaN = not known.
    rates : array of shape (K,)
        eta of every network in the first pass.
    passes : int
        How often every row is seen.
    shrinkage : float
        Precision of a prior at zero for every weight but the constant.
    seed : int
        Makes the order of the rows.
    progress : bool
        Show a progress bar.
    """
    stack, rng, rows = Stack(networks), np.random.default_rng(seed), len(contexts)
    for number in shown(range(passes), "training neural heads", passes, progress):
        order = rng.permutation(rows)
        for start in range(0, rows, _BATCH):
            batch = order[start : start + _BATCH]
            left = 1.0 - (number + start / rows) / passes
            stack.step(contexts[batch], targets[batch], rates * left, shrinkage * len(batch) / rows)
    counts = np.isfinite(targets).sum(axis=0)
    return [stack.network(k, before.count + counts[k]) for k, before in enumerate(networks)]
