"""What a process holds: memory, threads, sockets, tasks. Read from /proc, so on Linux only."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import math
import os
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_MIB = 1024 * 1024


def resident_mib() -> float:
    """Return the memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def sockets_to(port: int) -> list[str]:
    """Return the states of this process's connections to a port of this machine (01 = established, 08 = left open)."""
    own = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            own.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # closed meanwhile
            continue
    states = []
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) == port and f"socket:[{fields[9]}]" in own:
            states.append(fields[3])
    return states


def threads() -> list[str]:
    """Return the names of the threads, without those in which LiteLLM writes its log: it keeps up to a hundred."""
    pool = sys.modules.get("litellm.litellm_core_utils.thread_pool_executor")
    logging = pool.executor._threads if pool else set()
    return sorted(thread.name for thread in threading.enumerate() if thread not in logging)


def open_tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Return the tasks of an event loop that have not ended, without LiteLLM's one that writes its log."""
    found = []
    for task in asyncio.all_tasks(loop):
        name = getattr(task.get_coro(), "__qualname__", "")
        if task is not asyncio.current_task(loop) and "LoggingWorker" not in name:
            found.append(name)
    return sorted(found)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory in MiB: what is resident, the middle of the last ten seconds; and what of it is really held.

    The difference is free already, in gaps between what is held: the allocator hands it back when it is asked to.
    """

    resident: float
    held: float


class Gauge:
    """Samples of memory, one a second."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=10)
        self._sampled_at = -math.inf

    def look(self, now: float) -> None:
        """Take a sample if it is time for one."""
        if now - self._sampled_at >= 1.0:
            self._sampled_at = now
            self._latest.append(resident_mib())

    def read(self) -> Memory:
        """Return the memory of now."""
        resident = median(self._latest)
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # of glibc
            trim(0)
        return Memory(resident=resident, held=resident_mib())
