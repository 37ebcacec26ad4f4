"""Files from outside -> bytes: only what is a file, and no larger than it can be meant to be, is read at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_file(path: str | os.PathLike[str], *, most_bytes: int) -> bytes:
    """Return what a file holds; links are followed.

    Parameters
    ----------
    path : path
        The file.
    most_bytes : int
        Larger files are refused before they are read.

    Raises
    ------
    OSError
        If there is none, it can't be read, it is a pipe or a device (which may never end), or it is too large.
    """
    try:
        file = open(path, "rb", opener=_at_once)  # noqa: SIM115
    except ValueError as error:  # a path that no system has, with a NUL in it
        raise OSError(errno.EINVAL, str(error)) from error
    with file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"{Path(path).name} is no regular file")
        if found.st_size > most_bytes:
            raise OSError(errno.EFBIG, f"{found.st_size} bytes, more than the {most_bytes} that are allowed")
        return file.read(found.st_size)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for somebody to write into it
