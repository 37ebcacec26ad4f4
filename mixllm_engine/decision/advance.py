"""Quality that is given in advance: to newcomers, of which little is known, and to the leader, who is known to be good.

* A newcomer that looks a little worse by chance after its exploring draws goes on being tried: twenty labels of 0 and 1
  tell a mean to about 0.1. What it is given falls with every label, to 0 at `KNOWN`.
* The leader is the LLM that is the best on average. Where a query says little about who answers it best, it is
  preferred: the highest of many estimates is likely to be one that is too high (the winner's curse), and the leader
  needs no luck. Who may lead as well shares in what it is given::

      a se_l P_l (1 - KNOWN / n)+,      P_l ~ exp(-z_l^2 / 2),      z_l = (mu_* - mu_l) / sqrt(se_*^2 + se_l^2)

  with mu_l the quality that is expected of candidate l for the mean query, se_l its standard error, * who has the
  highest mu, and P_l, which sums to 1, how plausible it is that l leads. n is how many labels the best known candidate
  has: as long as nobody is known, nobody leads, and with ever more labels se_l goes to 0.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mixllm_engine.config import ExplorationConfig, RouterConfig
from mixllm_engine.prediction.predictor import Predictor
from mixllm_engine.types import Vector

# With so many labels a candidate's level is known.
KNOWN: Final = 200.0
# A label's variance before any was seen, a coin's, and how many labels that is worth.
_PRIOR_VARIANCE: Final = 0.25
_PRIOR_STRENGTH: Final = 20.0


def to_newcomers(labels: Vector, config: ExplorationConfig) -> Vector | None:
    """Return the quality that candidates are given in advance between their exploring draws and `KNOWN` labels.

    Parameters
    ----------
    labels : array of shape (K,)
        How many labels n each candidate has.
    config : ExplorationConfig
        Its `optimism` is o in o (1 / sqrt(n + 2) - 1 / sqrt(KNOWN + 2)); from `pulls` labels on.

    Returns
    -------
    array of shape (K,), or None
        ``None`` where nothing is given in advance, which is so in every mode but ``"ucb"``.

    Examples
    --------
    >>> to_newcomers(np.array([0.0, 20.0, 98.0, 200.0]), ExplorationConfig()).round(4)
    array([0.    , 0.0714, 0.0148, 0.    ])
    """
    if config.mode != "ucb" or config.optimism == 0.0 or not (labels < KNOWN).any():
        return None
    given = config.optimism * (1.0 / np.sqrt(labels + 2.0) - 1.0 / math.sqrt(KNOWN + 2.0))
    return np.where((labels >= config.pulls) & (labels < KNOWN), given, 0.0)


def to_leader(predictor: Predictor, config: RouterConfig) -> Vector | None:
    """Return the quality that candidates are given in advance because they are, or may be, the best on average.

    Parameters
    ----------
    predictor : Predictor
        What is known of the candidates.
    config : RouterConfig
        Its `decision.leader_advantage` is a; candidates with fewer than `exploration.pulls` labels are left out, since
        they have exploring draws.

    Returns
    -------
    array of shape (K,), or None
        ``None`` where nobody leads yet.
    """
    heads = predictor.quality
    weight, judged = heads.gram[:, 0, 0], heads.count >= max(config.exploration.pulls, 1)
    most = float(weight.max(where=judged, initial=0.0))
    if config.decision.leader_advantage == 0.0 or most <= KNOWN:
        return None
    level = predictor.expected(heads.mean_context(judged))[: len(judged)]
    variance = heads.label_variance(_PRIOR_VARIANCE, _PRIOR_STRENGTH) / (weight + heads.prior_precision[0])
    share = plausible(np.where(judged, level, -np.inf), variance)
    given: Vector = config.decision.leader_advantage * (1.0 - KNOWN / most) * np.sqrt(variance) * share
    return given


def plausible(level: Vector, variance: Vector) -> Vector:
    """Return P_l, how plausible it is that a candidate has the highest level of all: shape (K,), summing to 1.

    Parameters
    ----------
    level, variance : array of shape (K,)
        mu, which is -inf for who is not judged, and se^2.

    Examples
    --------
    >>> plausible(np.array([0.8, 0.79, 0.5, -np.inf]), np.array([0.01, 0.05, 0.05, 0.05]) ** 2).round(3)
    array([0.505, 0.495, 0.   , 0.   ])
    """
    best = int(level.argmax())
    behind = level[best] - level
    likelihood = np.exp(-0.5 * behind * behind / (variance[best] + variance))
    share: Vector = likelihood / likelihood.sum()
    return share
