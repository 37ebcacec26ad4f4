"""Pickles: only for those who know what they do."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from mixllm_engine.errors import TableError

SUFFIXES = frozenset({".pkl", ".pickle"})
# What the documentation of `pickle` says that loading raises, "but not necessarily limited to".
_BROKEN = (pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError, KeyError, TypeError, ValueError)


def read_pickled_frame(path: Path, *, allowed: bool) -> Any:
    """Load a pickled pandas data frame.

    Parameters
    ----------
    path : Path
        The file.
    allowed : bool
        Whether the user trusts the file with the machine.

    Raises
    ------
    TableError
        If it is not allowed, the file can't be loaded, or it holds no data frame.
    ImportError
        If pandas is missing.
    """
    if not allowed:
        raise TableError(
            f"{path.name!r} is a pickle, and loading a pickle runs whatever code its author put into it, with your "
            "rights: before anybody can look at the data. Only if you trust whoever made this very file, say "
            "allow_pickle=True; better, turn it once into parquet, on a machine that has nothing to lose: "
            f"pandas.read_pickle({path.name!r}).to_parquet({path.stem + '.parquet'!r})"
        )
    try:
        import pandas
    except ImportError as error:
        raise ImportError('reading a pickled table needs pandas: pip install "mixllm[evaluate]"') from error
    try:
        held = pandas.read_pickle(path)
    except (OSError, *_BROKEN) as error:
        raise TableError(f"{path.name!r} can't be loaded as a pickle: {type(error).__name__}: {error}") from error
    if not isinstance(held, pandas.DataFrame):
        raise TableError(f"{path.name!r} holds {type(held).__name__}, not a pandas data frame")
    return held
