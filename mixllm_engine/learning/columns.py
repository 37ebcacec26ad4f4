"""The columns of a table, whatever holds it: pandas, Arrow, a mapping, a parquet or a CSV file.

A column is converted when it is asked for: a table may well carry whole answers, which nobody reads here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixllm_engine.errors import TableError
from mixllm_engine.types import Vector


class Columns:
    """Checked access to the columns of a table.

    Parameters
    ----------
    names : iterable of str
        All columns.
    read : callable
        Returns the values of a column by its name, ``None`` where one is missing.

    Raises
    ------
    TableError
        If a name occurs twice.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], Sequence[Any]]) -> None:
        self.names = tuple(names)
        self._read = read
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise TableError(f"the table has more than one column of the name {some(twice)}")

    @classmethod
    def of(cls, source: Any) -> Columns:
        """Open a data frame, Arrow table, mapping of columns, or path, or raise `TableError`."""
        if isinstance(source, Columns):
            return source
        if isinstance(source, str | PathLike):
            return _open_file(Path(fspath(source)))
        if isinstance(source, Mapping):
            columns = {str(name): values for name, values in source.items()}
            return cls(map(str, source), lambda name: _listed(columns[name], name))
        if hasattr(source, "column_names"):  # Arrow
            return cls(source.column_names, lambda name: source.column(name).to_pylist())
        if hasattr(source, "columns") and hasattr(source, "to_dict"):  # pandas
            return cls((str(name) for name in source.columns), lambda name: _pandas(source, name))
        raise TableError(
            "a table is a pandas data frame, an Arrow table, a mapping of columns or a path, "
            f"not {type(source).__name__}"
        )

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.names

    def find(self, name: str) -> str | None:
        """Find a column by its name, or by its name with a suffix that says which tokenizer counted."""
        if name in self.names or not name.endswith("_tokens"):
            return name if name in self.names else None
        return next((c for c in self.names if c.startswith(f"{name}_") and "|" not in c[len(name) :]), None)

    def values(self, name: str) -> Sequence[Any]:
        """Return a column as it stands."""
        return self._read(name)

    def words(self, name: str, what: str) -> list[str]:
        """Return a column of texts, or raise `TableError` that names the first row without one."""
        values = list(self._read(name))
        for row, value in enumerate(values):
            if not isinstance(value, str):
                raise TableError(f"row {row}: {what} in column {name!r} is {value!r}, it must be text")
            if not value.strip():
                raise TableError(f"row {row}: {what} is empty")
        return values

    def numbers(
        self, name: str, rows: int, *, highest: float = math.inf, counted: npt.NDArray[np.bool_] | None = None
    ) -> Vector:
        """Return a column of numbers from 0 to `highest`, NaN where one is missing, shape (n,).

        Parameters
        ----------
        name : str
            The column.
        rows : int
            How many values it must have.
        highest : float
            Largest value that is allowed; infinity itself never is.
        counted : array of shape (n,), optional
            Which rows matter; values of others are not checked.

        Raises
        ------
        TableError
            If a value is no number or out of range; the message names the first such row.
        """
        read = self._read(name)
        if len(read) != rows:
            raise TableError(f"column {name!r} has {len(read)} values for {rows} queries")
        try:
            values = np.array([math.nan if value is None else float(value) for value in read], dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise TableError(f"column {name!r} must hold numbers: {error}") from error
        bad = (values < 0) | (values > highest) | np.isinf(values)
        bad &= True if counted is None else counted
        if bad.any():
            row = int(bad.argmax())
            allowed = "finite and at least 0" if math.isinf(highest) else f"in [0, {highest:g}]"
            found = f"row {row}: {name!r} is {float(values[row])!r}"
            raise TableError(f"{found}, it must be {allowed} ({int(bad.sum())} such values)")
        return values


def some(names: Iterable[str], most: int = 8) -> str:
    """List names for a message, not too many of them."""
    listed = [repr(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _listed(values: Any, name: str) -> Sequence[Any]:
    with suppress(TypeError):  # also of what only seems to be a list, such as an array of no dimension
        if not isinstance(values, str | bytes | Mapping) and len(values) >= 0:
            found: Sequence[Any] = values
            return found
    raise TableError(f"column {name!r} must be a list of values, one for each row, not {type(values).__name__}")


def _pandas(frame: Any, name: str) -> list[Any]:
    column = next(frame[label] for label in frame.columns if str(label) == name)
    # None, NaN and pandas' NA all say that a value is missing.
    return [None if lacks else value for value, lacks in zip(column.tolist(), column.isna().tolist(), strict=True)]


def _open_file(path: Path) -> Columns:
    try:
        from pyarrow import ArrowException, csv, parquet
    except ImportError as error:
        raise TableError('reading files needs pyarrow: pip install "mixllm[evaluate]"') from error

    def column(name: str) -> list[Any]:
        try:
            with parquet.ParquetFile(path) as file:
                values: list[Any] = file.read([name]).column(0).to_pylist()
                return values
        except (OSError, UnicodeError, ArrowException) as error:
            raise TableError(f"column {name!r} of {path.name!r} can't be read: {error}") from error

    suffix = path.suffix.lower()
    if suffix not in {".parquet", ".csv"}:
        raise TableError(f"{path.name!r}: a table's file ends in .parquet or .csv")
    try:
        if suffix == ".csv":
            # prompts have line breaks
            return Columns.of(csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True)))
        return Columns(parquet.read_schema(path).names, column)
    except (OSError, UnicodeError, ArrowException) as error:
        raise TableError(f"{path.name!r} can't be read as a table: {error}") from error
