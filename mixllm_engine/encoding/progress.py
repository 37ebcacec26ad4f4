"""One progress bar for all work on texts that takes more than a moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def shown(items: Iterable[Item], what: str, total: int, progress: bool) -> Iterable[Item]:
    """Put a progress bar around `total` items, unless it is not wished for or there is but one."""
    if not progress or total < 2:
        return items
    from rich.console import Console
    from rich.progress import track

    # on the error stream, so that a program's output can be piped
    return track(items, what, total=total, console=Console(stderr=True))
