"""Options -> a provider, a store and workers; their reports -> exit status."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Annotated

import typer

from tests.soak import worker
from tests.soak.books import Totals
from tests.soak.provider import provider
from tests.soak.traffic import Plan

# Spawned, not forked: each has the memory of a process of its own.
PROCESSES = multiprocessing.get_context("spawn")


def main(
    seconds: Annotated[float, typer.Option(min=20.0, help="How long.")] = 120.0,
    rate: Annotated[float, typer.Option(min=1.0, help="Questions a second, of all workers together.")] = 50.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the store.")] = 2,
    seed: Annotated[int, typer.Option(help="Another seed, another mixture.")] = 0,
) -> None:
    """Ask a provider that fails, for a while, and say what went wrong that is not the provider's fault."""
    plan = Plan(seconds=seconds, rate=rate / workers)
    plans = [replace(plan, seed=seed + number) for number in range(workers)]
    with provider() as address, tempfile.TemporaryDirectory(prefix="mixllm-soak-") as folder:
        store = str(Path(folder) / "soak.db")
        totals, reports = carry_out(plans, address, store)
        with worker.open_router(address, store) as fresh:
            stats = fresh.stats()
        mistakes = totals.disagreements(stats)
    for what, number in sorted(totals.counts.items()):
        typer.echo(f"{number:8d} {what}")
    for report in reports:
        change = 100 * (report.last.held / report.first.held - 1)
        typer.echo(
            f"memory held after the warm-up {report.first.held:.1f} MiB, at the end {report.last.held:.1f} "
            f"({change:+.1f} %); resident {report.first.resident:.1f}, {report.last.resident:.1f}"
        )
        mistakes += report.mistakes
    reached, cpu_s = sum(report.rate for report in reports), sum(report.cpu_s for report in reports) / workers
    short = "" if reached >= 0.98 * rate else f"; short of the {rate:.0f} that were asked for"
    requests = stats["outcomes"] / seconds
    typer.echo(
        f"{reached:.1f} questions a second{short}, {requests:.1f} requests; {1000 * cpu_s:.0f} ms CPU a question"
    )
    for mistake in mistakes:
        typer.echo(f"MISTAKE {mistake}")
    sys.exit(1 if mistakes else 0)


def carry_out(plans: list[Plan], address: str, store: str) -> tuple[Totals, list[worker.Report]]:
    """Start a worker for each plan; returns what was acknowledged to all of them, and their reports."""
    pipes = []
    for plan in plans:
        pipe, other = PROCESSES.Pipe()
        PROCESSES.Process(target=worker.main, args=(plan, address, store, other), daemon=True).start()
        other.close()  # so that a worker that dies is noticed
        pipes.append(pipe)
    for pipe in pipes:
        pipe.recv()  # it is ready
    for pipe in pipes:
        pipe.send("go")
    totals: Totals = reduce(add, [pipe.recv() for pipe in pipes], Totals())
    for pipe in pipes:
        pipe.send(totals)
    return totals, [pipe.recv() for pipe in pipes]


if __name__ == "__main__":
    typer.run(main)
