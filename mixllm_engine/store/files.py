"""Files that are replaced at once: whoever opens one finds the old or the new one, whatever happens in between."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

# A file that nobody wrote to for so long is one that a killed process left behind.
_ABANDONED_S: Final = 3600.0
_SUFFIX: Final = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` once it is complete and on disk; only its owner can read it.

    Several may do so at the same time: the last one wins, and each file is whole. What savers that were killed left
    behind is removed after an hour.
    """
    _remove_abandoned(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=_SUFFIX)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    ours = re.compile(rf"{re.escape(path.name)}[a-z0-9_]{{8}}{re.escape(_SUFFIX)}")  # as `tempfile` names them
    for left in path.parent.iterdir():
        if ours.fullmatch(left.name):
            with suppress(OSError):  # another saver was faster, or it is somebody else's
                if time.time() - left.lstat().st_mtime > _ABANDONED_S:
                    left.unlink()
