"""``mixllm bench``: how fast it is, beside others, in one run."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and smaller measurements.")] = False,
    langchain: Annotated[
        bool,
        typer.Option("--langchain", help="Only what it adds to a LangChain chat model, beside other routers."),
    ] = False,
    postgresql: Annotated[
        str | None,
        typer.Option(
            envvar="MIXLLM_BENCH_POSTGRES_URL",
            help="A database to measure on as well: postgresql+psycopg://...; the schema made in it is removed again.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure decisions, calls, memory and imports beside other routers in one run; ratios are what counts."""
    from rich.console import Console

    from mixllm_engine.evaluation.bench.chat_models import langchain_overhead
    from mixllm_engine.evaluation.bench.suite import run

    report = (
        langchain_overhead(quick=quick) if langchain else run(quick=quick, postgresql=postgresql, progress=not as_json)
    )
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    for table in report.tables():
        console.print(table)
