"""What a process holds: memory, threads, sockets, tasks. Read from /proc, so on Linux only."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterable
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
class Sample:
    """The memory at a time after the start."""

    at_s: float
    resident_mib: float


def growth(samples: Iterable[Sample], warm_up_s: float, seconds: float) -> tuple[float, float]:
    """Return the memory after the warm-up and at the end, in MiB: medians over a tenth of the time, at least 10 s."""
    samples, window_s = list(samples), max(10.0, seconds / 10)
    first = [sample.resident_mib for sample in samples if warm_up_s <= sample.at_s < warm_up_s + window_s]
    last = [sample.resident_mib for sample in samples if seconds - window_s <= sample.at_s <= seconds]
    return median(first), median(last)
