"""What a report shows over time: who answered, what was lost, how long users waited."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mixllm_engine.types import Matrix, Vector

_QUANTILES: Final = 101
_WINDOWS: Final = 40


@dataclass(frozen=True, kw_only=True, eq=False)
class Shares:
    """Who answered, over time.

    Attributes
    ----------
    setting : str
        Of the knob, such as "the medium budget".
    names : tuple of str
        The K LLMs.
    position : array of shape (t,)
        Queries answered so far.
    share : array of shape (t, K)
        In [0, 1]; each row sums to 1.
    """

    setting: str
    names: tuple[str, ...]
    position: Vector
    share: Matrix

    @classmethod
    def of(cls, column: npt.NDArray[np.integer[Any]], names: Sequence[str], setting: str) -> Shares:
        """Count windows of equal length; `column` has shape (m,), in the order of the stream."""
        windows = np.array_split(column, min(_WINDOWS, len(column)))
        counts = np.stack([np.bincount(window, minlength=len(names)) for window in windows])
        length = counts.sum(axis=1)
        return cls(
            setting=setting,
            names=tuple(names),
            position=np.cumsum(length) - length / 2.0,
            share=counts / length[:, None],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """A value over time: after `position` queries, shape (t,), with its standard error over splits (NaN for one)."""

    system: str
    position: Vector
    value: Vector
    standard_error: Vector

    @classmethod
    def of(cls, system: str, by_split: Matrix) -> Trace:
        """Average splits, shape (n, m), and keep some positions of the stream."""
        count, length = by_split.shape
        rows = np.unique(np.linspace(0, length - 1, min(5 * _WINDOWS, length)).round().astype(int))
        kept = by_split[:, rows]
        error = kept.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else np.full(len(rows), np.nan)
        return cls(system=system, position=rows + 1.0, value=kept.mean(axis=0), standard_error=error)


@dataclass(frozen=True, kw_only=True)
class Regret:
    """Cumulative regret of those who learn on the way.

    Attributes
    ----------
    setting : str
        Of the systems' knobs, such as "the medium budget".
    unit : str
        What is counted, in a few words: "in units of reward".
    against : str
        Whose choices lose nothing, such as "the best choice for each query".
    traces : tuple of Trace
        At least one.
    """

    setting: str
    unit: str
    against: str
    traces: tuple[Trace, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Waits:
    """How long a system's users waited.

    Attributes
    ----------
    system : str
        Whose.
    share : array of shape (q,)
        Share of the answers, from 0 to 1.
    latency_s : array of shape (q,)
        Within how many seconds that share had come.
    arrival_s : array of shape (w,)
        Time of arrival.
    p95_s : array of shape (w,)
        95th percentile of the waiting times of those who arrived about then.
    """

    system: str
    share: Vector
    latency_s: Vector
    arrival_s: Vector
    p95_s: Vector

    @classmethod
    def of(cls, system: str, latency_s: Vector, queries_per_s: float) -> Waits:
        """Sum up waiting times of shape (m,), in the order of arrival."""
        share = np.linspace(0.0, 1.0, _QUANTILES)
        rows = np.array_split(np.arange(len(latency_s)), min(_WINDOWS, len(latency_s)))
        return cls(
            system=system,
            share=share,
            latency_s=np.quantile(latency_s, share),
            arrival_s=np.array([own.mean() for own in rows]) / queries_per_s,
            p95_s=np.array([np.quantile(latency_s[own], 0.95) for own in rows]),
        )


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Waiting under load.

    Attributes
    ----------
    setting : str
        Of the systems' knobs, such as "the medium budget".
    max_wait_s : float
        The time limit.
    waits : tuple of Waits
        At least one.
    """

    setting: str
    max_wait_s: float
    waits: tuple[Waits, ...]
