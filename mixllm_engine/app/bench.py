"""``mixllm bench``: how fast it is, beside others, in one run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mixllm_engine.app.options import JsonOption
from mixllm_engine.app.printing import drawn, print_json, without_box
from mixllm_engine.errors import ConfigError


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
    as_json: JsonOption = False,
) -> None:
    """Measure speed and memory beside other routers.

    All in one run; the ratios are what counts.
    """
    from mixllm_engine.evaluation.bench.chat_models import langchain_overhead
    from mixllm_engine.evaluation.bench.suite import run

    if postgresql is not None and not postgresql.startswith("postgresql"):
        raise ConfigError(f"--postgresql {postgresql!r} is no URL of PostgreSQL; it begins with postgresql+psycopg://")
    report = (
        langchain_overhead(quick=quick)
        if langchain
        else run(quick=quick, postgresql=postgresql, progress=sys.stderr.isatty())
    )
    if as_json:
        print_json(report.as_dict())
        return
    typer.echo(drawn(lambda console: console.print(*map(without_box, report.tables()), sep="\n\n")))
