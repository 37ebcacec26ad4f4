"""Thompson sampling: draw what every candidate may be worth, take the best, and know how probable that was.

The totals are independent and normal, T_l ~ N(m_l, s_l^2), so the probability of a choice is one integral over a line::

    P(argmax = a) = integral of phi_a(t) prod_{l != a} Phi_l(t) dt

with the density phi and the distribution function Phi of each total. It is done by Gauss-Legendre quadrature on panels
that follow every candidate's own scale, so that narrow and wide totals are resolved alike.

References
----------
Agrawal and Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs", ICML, section 2.
Thompson (1933), "On the likelihood that one unknown probability exceeds another", Biometrika 25.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixllm_engine.config import DecisionConfig
from mixllm_engine.decision.score import lateness
from mixllm_engine.prediction.predictor import Prediction
from mixllm_engine.types import Vector
from mixllm_engine.waiting.timing import Timing

# Ends of the panels, in standard deviations from each mean. The best of many candidates lies far out and is narrow.
_PANELS = np.array([-6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0])
_MOST_PANELS = 100
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)
_REACH = float(_PANELS[-1])
# Below this share of the largest mean a width is lost in the rounding of the sum, and counts as none.
_RESOLVED = 1e-9


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Independent normal totals of the candidates that may be chosen, each of shape (n,).

    Attributes
    ----------
    mean : array
        m, in the units of the score.
    deviation : array
        s >= 0; without any width a total is certain, and among equal certain ones the first wins.
    """

    mean: Vector
    deviation: Vector

    def __post_init__(self) -> None:
        """Take widths away that no sum could show."""
        smallest = _RESOLVED * float(np.abs(self.mean).max())
        object.__setattr__(self, "deviation", np.where(self.deviation > smallest, self.deviation, 0.0))

    def draw(self, rng: np.random.Generator) -> int:
        """Return the place of the largest of one draw of each total."""
        return int(np.argmax(self.mean + self.deviation * rng.standard_normal(len(self.mean))))

    def probabilities(self) -> Vector:
        """Return P(argmax = a) for every place a, shape (n,), to better than 1e-4; see the module for the formula.

        Examples
        --------
        >>> Totals(mean=np.array([0.0, 0.0, -1.0]), deviation=np.array([0.1, 0.3, 0.0])).probabilities().round(6)
        array([0.5, 0.5, 0. ])
        """
        found = np.zeros(len(self.mean))
        floor, certain = -np.inf, self.deviation == 0.0
        if certain.any():  # only the best certain total can win, and only where all others fall below it
            best = int(np.argmax(np.where(certain, self.mean, -np.inf)))
            floor = float(self.mean[best])
            z = (floor - self.mean[~certain]) / self.deviation[~certain]
            found[best] = _phi_and_distribution(z)[1].prod()
        # Who reaches beyond what somebody surely exceeds?
        surely = max(floor, float((self.mean - _REACH * self.deviation).max()))
        open_ = np.flatnonzero(~certain & (self.mean + _REACH * self.deviation > surely))
        if len(open_):
            found[open_] = _integrals(self.mean[open_], self.deviation[open_], surely)
        return found


def spread(
    prediction: Prediction,
    timing: Timing,
    config: DecisionConfig,
    scale: float,
    on_quality: float,
    max_wait_s: float | None,
) -> Vector:
    """Return the standard deviation of every candidate's total, shape (K,), if its quality has one of `scale` widths.

    A total is linear in the quality p: lambda/(lambda+1) p, less the part that the deadline takes away.
    """
    deviation: Vector = scale * on_quality * np.sqrt(prediction.leverage)
    if config.penalty == "deadline" and max_wait_s is not None:
        late = lateness(prediction, timing, max_wait_s)
        deviation = deviation * np.abs(1.0 - config.penalty_weight * late)
    return deviation


def _integrals(mean: Vector, deviation: Vector, lowest: float) -> Vector:
    """Integrate phi_a prod Phi_l from `lowest` upwards for every a; all deviations are above 0."""
    ends = np.unique((mean[:, None] + deviation[:, None] * _PANELS).ravel())
    ends = np.append(lowest, ends[ends > lowest])
    if len(ends) > _MOST_PANELS:
        ends = ends[np.linspace(0, len(ends) - 1, _MOST_PANELS).round().astype(int)]
    half = np.diff(ends) / 2.0
    nodes = ((ends[:-1] + half)[:, None] + half[:, None] * _NODES).ravel()
    weights = (half[:, None] * _WEIGHTS).ravel()
    density, below = _phi_and_distribution((nodes - mean[:, None]) / deviation[:, None])
    # The product without a is that over all, divided by Phi_a; `below` is never 0 where the nodes lie.
    hazard = density / (deviation[:, None] * below)
    integrals: Vector = hazard @ (weights * below.prod(axis=0))
    return integrals


def _phi_and_distribution(z: Vector) -> tuple[Vector, Vector]:
    """Return the standard normal density and distribution function, the latter to 7.5e-8.

    References
    ----------
    Abramowitz and Stegun (1964), "Handbook of Mathematical Functions", formula 26.2.17.
    """
    density: Vector = np.exp(-0.5 * z * z) * 0.3989422804014327
    t = 1.0 / (1.0 + 0.2316419 * np.abs(z))
    series = 0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    tail = density * t * series
    return density, np.where(z < 0.0, tail, 1.0 - tail)
