"""The sums of one head <-> named arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import StateError
from mixllm_engine.prediction.heads import HeadStatistics

Arrays = Mapping[str, npt.NDArray[np.float64]]


def to_arrays(sums: HeadStatistics, prefix: str) -> dict[str, npt.NDArray[np.float64]]:
    """Return the sums as arrays under names that begin with a prefix."""
    return {
        f"{prefix}/gram": sums.gram,
        f"{prefix}/moment": sums.moment,
        f"{prefix}/scalars": np.array([sums.count, sums.square]),
    }


def from_arrays(arrays: Arrays, prefix: str, dimension: int) -> HeadStatistics:
    """Rebuild sums over contexts of length d; `KeyError` where one is missing, `StateError` where one doesn't fit."""
    gram, moment, scalars = (arrays[f"{prefix}/{part}"] for part in ("gram", "moment", "scalars"))
    if gram.shape != (dimension, dimension) or moment.shape != (dimension,) or scalars.shape != (2,):
        raise StateError(f"the statistics {prefix!r} have another shape than the {dimension} features need")
    if scalars[0] < 0 or not _is_gram(gram):
        raise StateError(f"the statistics {prefix!r} are no sums over observations; the state is damaged")
    return HeadStatistics(count=float(scalars[0]), gram=gram, moment=moment, square=float(scalars[1]))


def _is_gram(gram: npt.NDArray[np.float64]) -> bool:
    """Tell whether a matrix may be X'X, but for what rounding and taking observations away again leave."""
    slack = 1e-6 * max(1.0, float(np.abs(gram).max(initial=0.0)))
    return bool((np.abs(gram - gram.T) <= slack).all() and (np.linalg.eigvalsh(gram) >= -slack).all())
