"""What commands print: tables for people, tables for pipes, and JSON.

A terminal gets rich's tables, in its own width and, unless ``NO_COLOR`` is set, in colour. Anything else gets columns
of plain text that no width cuts, so that ``grep`` and ``awk`` find the same everywhere. A command prints all at once,
so that ``head`` may leave after the first line.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PIPE: Final = 160  # columns of what rich prints into a pipe


def on_terminal() -> bool:
    """Tell whether a person reads the output."""
    return sys.stdout.isatty()


def drawn(draw: Callable[[Console], None]) -> str:
    """Return what rich draws: as wide as the terminal, and in a pipe of a width that is always the same.

    Parameters
    ----------
    draw : callable
        Prints to the console that it is given.
    """
    from rich.console import Console

    console = Console(width=None if on_terminal() else _PIPE)
    with console.capture() as captured:
        draw(console)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def tabled(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[str] = ()) -> str:
    """Return a table; numbers stand to the right, the first column and those named in `left` to the left."""
    to_left = {columns[0], *left}
    if not on_terminal():
        return "\n".join(plain_lines(columns, rows, to_left))
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=SIMPLE, collapse_padding=True, pad_edge=False)
    for position, column in enumerate(columns):
        if column in to_left:  # where room is short, these are folded first
            made.add_column(escape(column), overflow="fold")
        else:
            whole = not any(" " in row[position] for row in rows)
            made.add_column(escape(column), justify="right", no_wrap=whole)
    for row in rows:
        made.add_row(*map(escape, row))
    return drawn(lambda console: console.print(made))


def without_box(made: Table) -> Table:
    """Return a table of rich's as a pipe should get it: with spaces between its columns, and nothing else."""
    if not on_terminal():
        made.box = None
    return made


def plain_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[str]) -> list[str]:
    """Return a table as lines of text.

    Examples
    --------
    >>> plain_lines(["who", "labels"], [["cheap", "3"], ["dear", "12"]], {"who"})
    ['who    labels', 'cheap       3', 'dear       12']
    """
    whole = [list(columns), *map(list, rows)]
    widths = [max(len(row[column]) for row in whole) for column in range(len(columns))]
    lines = []
    for row in whole:
        cells = zip(columns, row, widths, strict=True)
        lines.append("  ".join(cell.ljust(w) if name in left else cell.rjust(w) for name, cell, w in cells).rstrip())
    return lines


def print_json(data: Any) -> None:
    """Print JSON; numbers that it does not have, such as infinity, become ``null``."""
    typer.echo(json.dumps(_finite(data), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    """Return plain data without numbers that JSON does not have.

    Examples
    --------
    >>> _finite({"a": [1.0, math.inf], "b": math.nan})
    {'a': [1.0, None], 'b': None}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
