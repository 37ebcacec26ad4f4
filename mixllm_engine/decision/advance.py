"""Quality that newcomers are given in advance, since little is known of them.

A newcomer that looks a little worse by chance after its exploring draws goes on being tried: twenty labels of 0 and 1
tell a mean to about 0.1. What it is given falls with every label, to 0 at `KNOWN`.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from mixllm_engine.config import ExplorationConfig
from mixllm_engine.types import Vector

# With so many labels a candidate's level is known.
KNOWN: Final = 200.0


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
