"""A gated rollout: which share of the traffic is MixLLM's own, and what judged answers must show before it rises.

Beside a model that answers now (the baseline, X), each query goes to MixLLM's choice with probability s, and else to X.
With pi(a) the probability that MixLLM chooses a, the candidate a that is called has the propensity

    b(a) = s pi(a) + (1 - s) [a = X]

and for a label y with weight w, and any m that was known before,

    D = (pi(a) - [a = X]) / b(a)  (y - m)        has the mean  V(MixLLM) - V(X)  whatever m is.

Where MixLLM would choose X too, D is 0: only answers that differ cost evidence. With x = w s (1 - s) D, which lies in
[-1, 1], S = sum x, H = sum w s (1 - s), Q = sum x^2, and a true difference Delta, the mean over a grid of lambda of

    exp(lambda (S - Delta H) - psi(lambda) Q),        psi(lambda) = -log(1 - lambda) - lambda

is a nonnegative supermartingale that begins at 1, so it ever reaches 1 / alpha with a probability of at most alpha
(Ville): bounds that are read off it hold at all times at once, however often somebody looks. Where Delta changes over
time, they bound its mean, weighted as the labels are. It presumes that whether and when an answer is judged does not
depend on who was drawn to give it, other than through the answer.

References
----------
Fan, Grama and Liu (2015), "Exponential inequalities for martingales with applications", EJP 20, lemma 4.1.
Howard, Ramdas, McAuliffe and Sekhon (2021), "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals
of Statistics 49(2), theorem 4 and section 3.5 (discrete mixtures).
Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro (2024), "Anytime-valid off-policy inference for contextual
bandits", ACM/IMS Journal of Data Science 1(3).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from mixllm_engine.config import RolloutConfig
from mixllm_engine.decision.choice import Choice, first
from mixllm_engine.types import Label

SHADOW: Final = "shadow"
_OWN, _BASELINE = "rollout", "baseline"
# lambda is best near sqrt(2 log(1 / alpha) / Q): this grid serves Q from about 1 to 200,000.
_LAMBDA: Final = np.geomspace(0.005, 0.95, 32)
_PSI: Final = -np.log1p(-_LAMBDA) - _LAMBDA


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What judged answers say of quality(MixLLM) - quality(baseline); see the module for the symbols.

    Attributes
    ----------
    labels : int
        How many count.
    reward : float
        Their sum.
    difference, information, square : float
        S, H and Q.
    """

    labels: int = 0
    reward: float = 0.0
    difference: float = 0.0
    information: float = 0.0
    square: float = 0.0

    def with_label(self, label: Label, share: float, ratio: float) -> Evidence:
        """Add a label of a decision that was made at a share, where `ratio` is (pi(a) - [a = X]) / b(a)."""
        expected = self.reward / self.labels if self.labels else 0.5
        weight = label.weight * share * (1.0 - share)
        x = weight * ratio * (label.value - expected)
        return Evidence(
            labels=self.labels + 1,
            reward=self.reward + label.value,
            difference=self.difference + x,
            information=self.information + weight,
            square=self.square + x * x,
        )

    def above(self, difference: float, confidence: float) -> bool:
        """Tell whether the difference is shown to be greater than this."""
        return self._rejects(self.difference - difference * self.information, confidence)

    def below(self, difference: float, confidence: float) -> bool:
        """Tell whether the difference is shown to be less than this."""
        return self._rejects(difference * self.information - self.difference, confidence)

    def _rejects(self, excess: float, confidence: float) -> bool:
        exponent = _LAMBDA * excess - _PSI * self.square
        most = float(exponent.max())
        mixture = most + math.log(float(np.exp(exponent - most).mean()))
        return mixture >= -math.log(1.0 - confidence)

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Return the lower and the upper bound, each at this confidence; a difference lies in [-1, 1] in any case.

        Examples
        --------
        >>> Evidence().bounds(0.95)
        (-1.0, 1.0)
        """
        return -_largest(lambda d: self.above(-d, confidence)), _largest(lambda d: self.below(d, confidence))


def _largest(shown: Callable[[float], bool]) -> float:
    """Return by bisection the smallest d in [-1, 1] such that `shown(d)`; 1 where it never is."""
    low, high = -1.0, 1.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


@dataclass(frozen=True, kw_only=True)
class RolloutStatus:
    """How a rollout stands; ``str()`` says it in a sentence.

    Attributes
    ----------
    baseline : str
        The model that answers the rest.
    share : float
        Share of the traffic that is MixLLM's.
    stopped : bool
        Whether MixLLM was shown to be worse than allowed.
    labels : int
        Judged answers that count.
    low, high : float
        Bounds on quality(MixLLM) - quality(baseline), each at the rollout's confidence, at all times at once.
    """

    baseline: str
    share: float
    stopped: bool
    labels: int
    low: float
    high: float

    def __str__(self) -> str:
        """Say how it stands."""
        state = f"stopped: {self.baseline} answers all" if self.stopped else f"{self.share:.0%} of the traffic"
        return (
            f"{state}; quality against {self.baseline} between {self.low:+.3f} and {self.high:+.3f}, "
            f"by {self.labels} judged answers"
        )


class Gate:
    """Draws who answers, and knows the present share. It is a fold over the log, so all workers' are alike.

    Parameters
    ----------
    config : RolloutConfig
        Its digest marks decisions in the log: with another configuration a rollout begins anew.
    """

    def __init__(self, config: RolloutConfig) -> None:
        self.config = config
        self.position = 0  # in the log of feedback
        self.share = 0.0  # until the log was read
        self.evidence = Evidence()
        self.stopped = False
        self._tag = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:8]

    @classmethod
    def of(cls, config: RolloutConfig | None) -> Self | None:
        """Return a gate where there is a rollout."""
        return None if config is None else cls(config)

    @property
    def shadow(self) -> bool:
        """Whether MixLLM is only watched."""
        return self.config.shares == (0.0,)

    @property
    def status(self) -> RolloutStatus:
        """How the rollout stands."""
        low, high = self.evidence.bounds(self.config.confidence)
        return RolloutStatus(
            baseline=self.config.baseline,
            share=self.share,
            stopped=self.stopped,
            labels=self.evidence.labels,
            low=low,
            high=high,
        )

    def draw(self, own: Choice, why: str, baseline: int, chance: float, rng: np.random.Generator) -> tuple[Choice, str]:
        """Take MixLLM's own choice or the baseline.

        Parameters
        ----------
        own : Choice
            What MixLLM chose, among the eligible ones.
        why : str
            Why it did.
        baseline : int
            Position of the baseline.
        chance : float
            pi(X), with which MixLLM would have chosen the baseline.
        rng : numpy.random.Generator
            Source of chance.

        Returns
        -------
        Choice, str
            With the propensity b(a), and the reason, from which `judged` reads the share.
        """
        if self.shadow:
            return Choice(ranking=[baseline], propensity=1.0, explored=False), SHADOW
        share = self.share
        if share >= 1.0 or baseline not in own.ranking:
            return own, why
        is_own = bool(rng.random() < share)
        choice = own if is_own else Choice(ranking=first(baseline, own.ranking), propensity=1.0, explored=False)
        calls_baseline = choice.ranking[0] == baseline
        propensity = 1.0 - share * (1.0 - chance) if calls_baseline else share * own.propensity
        return choice._replace(propensity=propensity), f"{_OWN if is_own else _BASELINE} {share!r} {self._tag}"

    def judged(self, reason: str, chosen: str, propensity: float, label: Label) -> None:
        """Count the first label of a decision, if this rollout made it."""
        mark = _marked(reason)
        if self.stopped or mark is None or mark[1] != self._tag or not 0.0 < mark[0] < 1.0:
            return
        share = mark[0]
        ratio = 1.0 / share
        if chosen == self.config.baseline:
            ratio = -(1.0 - propensity) / (share * propensity)
        self.evidence = self.evidence.with_label(label, share, ratio)
        self.stopped = self.evidence.below(-self.config.margin, self.config.confidence)

    def settle(self) -> None:
        """Set the share to what the evidence allows: quality may be lost, in all traffic, by no more than `margin`."""
        shares, confidence = self.config.shares, self.config.confidence
        allowed = [s for s in shares[1:] if self.evidence.above(-self.config.margin / s, confidence)]
        self.share = 0.0 if self.stopped else max(allowed, default=shares[0])


def _marked(reason: str) -> tuple[float, str] | None:
    """Return share and tag of a reason that `Gate.draw` gave."""
    kind, *rest = reason.split(" ")
    return (float(rest[0]), rest[1]) if kind in (_OWN, _BASELINE) else None


def kind(reason: str) -> str:
    """Return a decision's reason without the rollout's numbers.

    Examples
    --------
    >>> kind("baseline 0.05 1f3a5c7e"), kind("tool loop")
    ('baseline', 'tool loop')
    """
    return reason if _marked(reason) is None else reason.split(" ")[0]
