"""The paper's dynamic feedback f_df: a network that learns from feedback by policy gradient (equations 15 to 22).

    s'_{n,l} = s_{n,l} + kappa_l s_df_{n,l}                      the refined score
    [s_df_{n,1}, ..., s_df_{n,|M|}] = f_df(e_n; theta)           a 3-layer perceptron, one output per candidate
    theta <- theta + eta_3 r_n grad log pi(l*|n)                 for the candidate l* that answered

The paper fixes the three layers, eta_3 = 0.001 and that kappa is an inverse-variance confidence. The rest is our
reconstruction:

* the policy is a softmax, pi(l|n) = exp(s_df_{n,l}) / sum_k exp(s_df_{n,k}) over the candidates between which the
  decision chose, and the reward r01 in [0, 1] counts as r = 2 r01 - 1, so that a bad answer pushes away;
* s_df is squashed by tanh to (-1, 1), the scale of the rest of the score. A step for a bad answer does not get smaller
  as pi(l*|n) goes to 0; without the bound, weights were found to overflow within a few hundred such steps;
* kappa_l = 1 / (1 + Var_l), with Var_l the variance of the rewards r that candidate l has had; 0 below two of them;
* e_n is our context phi(q); the hidden layers have 64 units each with ReLU (He initialisation, seeded); the output
  layer starts at zero: before any feedback, s' = s;
* |M| is not fixed. A candidate's output weights are kept by its name, and start at zero with the first label that
  names it; nobody else's change. Who is removed is hidden, and returns with what was learned;
* a changed label is one more step, with the change of r in place of r; a forced decision had no alternatives, there the
  policy runs over all candidates that the log has named so far.

A step depends on the steps before it. So, unlike the heads' sums, the network depends on the order of the log; it
depends on nothing else, which is why all that read one log hold the same network.

As the paper's own algorithm it is biased, since an argmax acts and not pi, and it has no baseline; Bernoulli labels on
the heads (``LearningConfig.binary="labels"``) are our default.

References
----------
Williams (1992), "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
He et al. (2015), "Delving deep into rectifiers".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import StateError
from mixllm_engine.prediction.shared_rows import in_blocks
from mixllm_engine.types import Label, Matrix, Vector

HIDDEN: Final = 64
_SEED: Final = 0
_TRUNK: Final = ("weights_1", "bias_1", "weights_2", "bias_2")


@dataclass(frozen=True, kw_only=True)
class NetworkState:
    """All that a `FeedbackNetwork` learned, to store it.

    Attributes
    ----------
    names : tuple of str
        Candidates, in the order of the rows of ``output`` and ``rewards``.
    arrays : mapping of str to array
        ``weights_1`` (64, d), ``bias_1`` (64,), ``weights_2`` (64, 64), ``bias_2`` (64,), ``output`` (m, 65) with the
        bias last, ``rewards`` (m, 3): count, sum and sum of squares of r.
    """

    names: tuple[str, ...]
    arrays: Mapping[str, npt.NDArray[np.float64]]

    def check(self, dimension: int) -> None:
        """Raise `StateError` if an array is missing or has another shape than `dimension` needs."""
        rows = len(self.names)
        shapes = {
            "weights_1": (HIDDEN, dimension),
            "bias_1": (HIDDEN,),
            "weights_2": (HIDDEN, HIDDEN),
            "bias_2": (HIDDEN,),
            "output": (rows, HIDDEN + 1),
            "rewards": (rows, 3),
        }
        if {name: array.shape for name, array in self.arrays.items()} != shapes:
            raise StateError(f"the feedback network has other shapes than the {dimension} features need")
        if len({name for name in self.names if isinstance(name, str)}) < rows:
            raise StateError("the feedback network is of candidates whose names are no texts, or not unique")


class FeedbackNetwork:
    """f_df with its policy gradient and its confidence.

    Parameters
    ----------
    dimension : int
        Length d of a context.
    rate : float
        eta_3.

    Examples
    --------
    >>> network = FeedbackNetwork(2)
    >>> network.attach(["a", "b"])
    >>> for _ in range(3):
    ...     network.learn(np.array([1.0, 0.5]), "b", ["a", "b"], after=Label(1.0, 1.0))
    >>> network.confidence.tolist()
    [0.0, 1.0]
    >>> bool(network.feedback(np.array([1.0, 0.5]))[1] > 0)
    True
    """

    def __init__(self, dimension: int, *, rate: float = 0.001) -> None:
        self.rate = rate
        rng = np.random.default_rng(_SEED)
        self.weights_1: Matrix = rng.normal(0.0, np.sqrt(2.0 / dimension), (HIDDEN, dimension))
        self.bias_1: Vector = np.zeros(HIDDEN)
        self.weights_2: Matrix = rng.normal(0.0, np.sqrt(2.0 / HIDDEN), (HIDDEN, HIDDEN))
        self.bias_2: Vector = np.zeros(HIDDEN)
        self.output: Matrix = np.zeros((0, HIDDEN + 1))
        self.rewards: Matrix = np.zeros((0, 3))
        self._row: dict[str, int] = {}
        self.attach(())

    @classmethod
    def restore(cls, state: NetworkState, *, rate: float = 0.001) -> FeedbackNetwork:
        """Rebuild a network from its state."""
        network = cls(state.arrays["weights_1"].shape[1], rate=rate)
        for name in (*_TRUNK, "output", "rewards"):
            setattr(network, name, np.array(state.arrays[name], dtype=np.float64))
        network._row = {name: row for row, name in enumerate(state.names)}
        return network

    def state(self) -> NetworkState:
        """Return a copy of all that was learned."""
        arrays = {name: getattr(self, name).copy() for name in (*_TRUNK, "output", "rewards")}
        return NetworkState(names=tuple(self._row), arrays=arrays)

    def attach(self, names: Sequence[str]) -> None:
        """Score these candidates from now on, in this order; nobody's weights change."""
        self._names = tuple(names)
        self._refresh()

    def _refresh(self) -> None:
        known = [position for position, name in enumerate(self._names) if name in self._row]
        rows = [self._row[self._names[position]] for position in known]
        # Whom the log has not named yet scores 0.
        self._attached: Matrix = np.zeros((in_blocks(len(self._names)), HIDDEN + 1))
        self._attached[known] = self.output[rows]
        self.confidence: Vector = np.zeros(len(self._names))
        self.confidence[known] = _confidence(self.rewards[rows])

    def feedback(self, context: Vector) -> Vector:
        """Return kappa_l s_df_{n,l} of the attached candidates for one context (d,)."""
        scores: Vector = np.tanh(self._attached @ self._forward(context)[1])
        return self.confidence * scores[: len(self._names)]

    def labels(self) -> list[tuple[float, float]]:
        """Return count and sum of the rewards, on their scale of [0, 1], of each attached candidate."""
        none = np.zeros(3)
        seen = [self.rewards[self._row[name]] if name in self._row else none for name in self._names]
        return [(float(count), float(total + count) / 2.0) for count, total, _ in seen]

    def learn(
        self, context: Vector, chosen: str, candidates: Sequence[str], *, after: Label, before: Label | None = None
    ) -> None:
        """Take one step.

        Parameters
        ----------
        context : array of shape (d,)
            phi(q).
        chosen : str
            Who answered (l*).
        candidates : sequence of str
            Between whom the decision chose.
        after : Label
            The reward in [0, 1]; the step is as long as it weighs.
        before : Label, optional
            What the reward of this decision was until now, if it only changes.
        """
        self._make_rows([*candidates, chosen])
        new, old = 2.0 * after.value - 1.0, 0.0 if before is None else 2.0 * before.value - 1.0
        self.rewards[self._row[chosen]] += (float(before is None), new - old, new * new - old * old)
        step = after.weight * new - (before.weight * old if before else 0.0)
        alternatives = set(candidates) | {chosen} if len(candidates) > 1 else self._row.keys()
        rows = [row for name, row in self._row.items() if name in alternatives]
        self._climb(context, rows, rows.index(self._row[chosen]), step)
        self._refresh()

    def gradient(self, context: Vector, rows: Sequence[int], chosen: int) -> dict[str, npt.NDArray[np.float64]]:
        """Return grad log pi(chosen | context), by array, for the policy over some rows of ``output``."""
        first, last = self._forward(context)
        scores = np.tanh(self.output[rows] @ last)
        policy = np.exp(scores)
        error = -policy / policy.sum()  # d log pi / d s = onehot - pi
        error[chosen] += 1.0
        error *= 1.0 - scores * scores  # through tanh
        second_error = (error @ self.output[rows])[:-1] * (last[:-1] > 0.0)
        first_error = (second_error @ self.weights_2) * (first > 0.0)
        return {
            "output": np.outer(error, last),
            "weights_2": np.outer(second_error, first),
            "bias_2": second_error,
            "weights_1": np.outer(first_error, context),
            "bias_1": first_error,
        }

    def _climb(self, context: Vector, rows: Sequence[int], chosen: int, reward: float) -> None:
        # theta <- theta + eta_3 r grad log pi(l*|n)
        steps = self.gradient(context, rows, chosen)
        self.output[rows] += self.rate * reward * steps["output"]
        for name in _TRUNK:
            getattr(self, name)[...] += self.rate * reward * steps[name]

    def _forward(self, context: Vector) -> tuple[Vector, Vector]:
        """Return both hidden layers, the last one with a 1 for the bias behind it."""
        first = np.maximum(self.weights_1 @ context + self.bias_1, 0.0)
        last = np.ones(HIDDEN + 1)
        np.maximum(self.weights_2 @ first + self.bias_2, 0.0, out=last[:-1])
        return first, last

    def _make_rows(self, names: Sequence[str]) -> None:
        new = {name for name in names if name not in self._row}
        if not new:
            return
        for name in sorted(new):
            self._row[name] = len(self._row)
        self.output = np.concatenate([self.output, np.zeros((len(new), HIDDEN + 1))])
        self.rewards = np.concatenate([self.rewards, np.zeros((len(new), 3))])


def _confidence(rewards: Matrix) -> Vector:
    """Return kappa = 1 / (1 + Var) from count, sum and sum of squares; 0 below two rewards (equation 17)."""
    count, total, square = rewards.T
    variance = np.maximum(square - total * total / np.maximum(count, 1.0), 0.0) / np.maximum(count - 1.0, 1.0)
    kappa: Vector = np.where(count >= 2.0, 1.0 / (1.0 + variance), 0.0)
    return kappa
